//go:build weirtest

package journal

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/storagetest"
)

// TestMutations breaks one rule at a time: the schedules must notice.
func TestMutations(t *testing.T) {
	if storagetest.Race {
		t.Skip("not with the race detector")
	}
	for _, test := range []struct {
		name string
		mutations
		caller
	}{
		{"AckOutOfOrder", mutations{AckOutOfOrder: true}, caller{}},
		{"SealNewestOnly", mutations{SealNewestOnly: true}, caller{}},
		{"HoleIsEnd", mutations{HoleIsEnd: true}, caller{}},
		{"SealUnread", mutations{SealUnread: true}, caller{}},
		{"ExistsIsMine", mutations{ExistsIsMine: true}, caller{}},
		{"ClaimUnread", mutations{ClaimUnread: true}, caller{}},
		{"HeaderLate", mutations{HeaderLate: true}, caller{}},
		{"ResumeByNode", mutations{ResumeByNode: true}, caller{}},
		{"UnknownIsDone", mutations{UnknownIsDone: true}, caller{}},
		{"NoSecondList", mutations{NoSecondList: true}, caller{}},
		{"DifferIsCorrupt", mutations{DifferIsCorrupt: true}, caller{}},
		{"SaveUnacked", mutations{SaveUnacked: true}, caller{}},
		{"DeleteEarly", mutations{DeleteEarly: true}, caller{}},
		{"DeleteBeyond", mutations{DeleteBeyond: true}, caller{}},
		{"RemoveBeyond", mutations{RemoveBeyond: true}, caller{}},
		{"RemoveNoTombstone", mutations{RemoveNoTombstone: true}, caller{}},
		{"DropUnacked", mutations{}, caller{dropUnacked: true}},
		{"AdoptDropped", mutations{}, caller{adoptDropped: true}},
		{"DeleteSeals", mutations{DeleteSeals: true}, caller{}},
		{"NoTombstone", mutations{NoTombstone: true}, caller{}},
		{"StartUnread", mutations{StartUnread: true}, caller{}},
		{"TombstoneUnread", mutations{TombstoneUnread: true}, caller{}},
		{"ResumeUnacked", mutations{ResumeUnacked: true}, caller{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			const most = 3000
			first := rand.Uint64() >> 16
			for i := range uint64(most) {
				w := simulate(t, first+i, test.mutations, test.caller)
				if len(w.faults) > 0 {
					t.Logf("seed %d, run %d: %s", first+i, i+1, w.faults[0])
					return
				}
			}
			t.Errorf("%d schedules from seed %d on noticed nothing", most, first)
		})
	}
}

// TestMissingUnread: what refuses is what looks for what is missing.
func TestMissingUnread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, want := lived(t, 2, true)
		all, lost := objects(t, b), 0
		for key := range all {
			if strings.Contains(key, "/checkpoint/") || strings.Contains(key, "/log/") {
				c := mem.New()
				for k, body := range all {
					if k != key {
						replace(t, c, k, body)
					}
				}
				s := &book{}
				j, err := Open(context.WithoutCancel(t.Context()), Options{Bucket: c, mutations: mutations{LossUnread: true}}, s)
				if err == nil {
					closeClean(t, j)
					if !slices.Equal(s.got, want) {
						lost++
					}
				}
			}
		}
		if lost < 3 {
			t.Errorf("%d objects are missed by nobody", lost)
		}
	})
}

// TestHandOverMutations breaks the rules of a hand-over, in the schedules in which they
// matter.
func TestHandOverMutations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if c, s, s1, _ := leftover(t, mutations{SealTrusted: true}); slices.Equal(s.got, s1.got) {
			t.Errorf("SealTrusted: the candidate is at %v, and has applied %v", c.Position(), s.got)
		}
	})
	if !stale(t, mutations{HeaderAsked: true}) {
		t.Error("HeaderAsked: not noticed")
	}
	if !stale(t, mutations{FlyingUnread: true}) {
		t.Error("FlyingUnread: not noticed")
	}
	if !yieldLoses(t, mutations{YieldUnacked: true}) {
		t.Error("YieldUnacked: not noticed")
	}
}
