package commitlog

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog/check"
	"github.com/weirmq/weir/storage/commitlog/identity"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record/recordtest"
	"github.com/weirmq/weir/storage/weir"
)

// authority is an object beside the log.
const authority = "authority"

func beside(o *Options) { o.Beside = []string{authority} }

// lived returns what two owners left behind: segments, a checkpoint, slots before and
// behind it. The last one was closed. want is what was acknowledged, by partition.
// Level 3 is level 2 from the beginning, level 4 that with runs that stay in their slots.
func lived(t *testing.T, level int) (all map[string][]byte, topic weir.TopicID, want [][]string) {
	t.Helper()
	b := mem.New()
	must(b.Create(t.Context(), authority, []byte("secret")))
	if level == 1 {
		must(b.Create(t.Context(), identity.Key, []byte(`{"id":"AAAAAAAAAAAAAAAAAAAAAA","format":1,"shards":1}`)))
	}
	if level == 2 { // raised, as a bucket of before
		must(b.Create(t.Context(), identity.Key, []byte(`{"id":"AAAAAAAAAAAAAAAAAAAAAA","format":1,"shards":1}`)))
		must(second(identity.Upgrade(t.Context(), b, 2, "v9")))
	}
	want = make([][]string, 2)
	for owner := range 2 {
		l := open(t, b, optionsOf(level), beside)
		if owner == 0 {
			topic = createTopic(t, l, "t", 2).ID
		}
		for pass := range 3 {
			for p := range int32(2) {
				value := fmt.Sprint(owner, pass, p)
				appended(t, l, Append{Topic: topic, Partition: p, Batch: recordtest.Batch(value)})
				want[p] = append(want[p], value)
			}
			if pass < 2 {
				maintained(t, l)
			}
		}
		must(l.Close())
	}
	all = make(map[string][]byte)
	for _, key := range keys(t, b, "") {
		body, err := b.Get(t.Context(), key, 0, -1)
		must(err)
		all[key] = body
	}
	return all, topic, want
}

func optionsOf(level int) func(*Options) {
	if level == 4 {
		return adopting
	}
	return tiny
}

// harms are kinds of damage to an object; nil: it is deleted.
func harms() map[string]func(body []byte) []byte {
	return map[string]func([]byte) []byte{
		"deleted": func([]byte) []byte { return nil },
		"emptied": func([]byte) []byte { return []byte{} },
		"cut":     func(body []byte) []byte { return body[:len(body)/2] },
		"flipped": func(body []byte) []byte {
			body = slices.Clone(body)
			body[len(body)/2] ^= 4
			return body
		},
	}
}

// lead opens the log as a node does, reads everything, and runs the upkeep. It returns
// what it could read, and the first error.
func lead(b storage.Bucket, topic weir.TopicID, change func(*Options)) (got [][]string, led bool, err error) {
	ctx := context.Background()
	if _, _, err := journal.NewestClaim(ctx, b, 0); err != nil {
		return nil, false, err
	}
	l, err := Open(ctx, options(b, change, beside))
	if err != nil {
		return nil, false, err
	}
	defer l.Close()
	for range 2 {
		got = nil
		for p := range int32(2) {
			values, err := l.values(ctx, topic, p)
			if err != nil {
				return nil, true, err
			}
			got = append(got, values)
		}
		if err := l.Maintain(ctx); err != nil {
			return nil, true, err
		}
	}
	return got, true, nil
}

// TestHarm harms each object of a bucket. An owner either has everything, or refuses to
// lead and names what is wrong, or leads and returns errors to readers of what is
// damaged. Check finds the same. An owner that refuses deletes nothing. The exceptions,
// by name, are objects whose loss nothing that remains can tell.
func TestHarm(t *testing.T) {
	for _, test := range []struct {
		name  string
		level int
		blind []string
	}{
		{"Level1", 1, []string{"0000/log/2/9 deleted", "0000/log/2/00000000000000000010 deleted"}},
		{"Raised", 2, nil},
		{"New", 3, nil},
		{"Adopted", 4, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				all, topic, want := lived(t, test.level)
				var blind []string
				for _, key := range slices.Sorted(maps.Keys(all)) {
					for what, harm := range harms() {
						b := mem.New()
						for k, body := range all {
							if k == key {
								body = harm(body)
							}
							if body != nil {
								must(b.Create(t.Context(), k, body))
							}
						}
						name := strings.ReplaceAll(key, "0000000000000000000", "") + " " + what
						before := keys(t, b, "")
						report, err := check.Check(t.Context(), b, nil)
						if err != nil {
							t.Errorf("%s: check: %v", name, err)
						}
						got, led, err := lead(b, topic, optionsOf(test.level))
						if (err != nil) != (len(report.Problems) > 0) {
							t.Errorf("%s: check finds %q, a node %v", name, report.Problems, err)
						}
						told := fmt.Sprint(err, report.Problems)
						switch {
						case err != nil && !strings.Contains(told, strings.SplitAfter(key, "checkpoint/")[0]):
							t.Errorf("%s: not named by %s", name, told)
						case err != nil && !led:
							for _, k := range before {
								if !slices.Contains(keys(t, b, ""), k) {
									t.Errorf("%s: it refused, and has deleted %s", name, k)
								}
							}
							if !errors.Is(err, state.ErrCorrupt) && !errors.Is(err, journal.ErrCorrupt) && !errors.Is(err, storage.ErrMissing) {
								t.Errorf("%s: an error without a name: %v", name, err)
							}
						case err == nil && fmt.Sprint(got) != fmt.Sprint(want):
							blind = append(blind, name)
						}
					}
				}
				if fmt.Sprint(blind) != fmt.Sprint(test.blind) {
					t.Errorf("lost, and nobody noticed: %q, expected %q", blind, test.blind)
				}
				t.Logf("%d objects", len(all))
			})
		})
	}
}

// values reads a partition to its end.
func (l *Log) values(ctx context.Context, topic weir.TopicID, partition int32) (values []string, err error) {
	for offset := int64(0); ; {
		f, err := l.Fetch(ctx, topic, partition, offset, 1<<20)
		if err != nil || len(f.Batches) == 0 {
			return values, err
		}
		for _, raw := range f.Batches {
			if err := recordsOf(raw, func(o int64, value string) { offset, values = o+1, append(values, value) }); err != nil {
				return values, err
			}
		}
	}
}

// TestSegmentsAlone: if there are segments but no log, both say that there was a log.
func TestSegmentsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all, topic, _ := lived(t, 3)
		for _, kept := range []func(key string) bool{
			func(key string) bool { return !strings.HasPrefix(key, "0000/") || strings.Contains(key, "/segment/") },
			func(key string) bool { // as copied before and after an owner came
				return !strings.Contains(key, "/log/00000000000000000002/") && !strings.Contains(key, "/checkpoint/00000000000000000002-") && !strings.Contains(key, "/closed/")
			},
		} {
			b := mem.New()
			for key, body := range all {
				if kept(key) {
					must(b.Create(t.Context(), key, body))
				}
			}
			report, err := check.Check(t.Context(), b, nil)
			if err != nil || len(report.Problems) == 0 {
				t.Errorf("check finds %q, %v", report.Problems, err)
			}
			if _, led, err := lead(b, topic, tiny); led || !errors.Is(err, storage.ErrMissing) {
				t.Errorf("a node leads: %v, %v", led, err)
			}
		}
	})
}
