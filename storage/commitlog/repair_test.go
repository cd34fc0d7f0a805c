package commitlog

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog/check"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/weir"
)

// TestRepair harms each object of a bucket and repairs it: then a node leads it, and
// Check finds nothing. The repair tells what is lost, and so does LostTopic. If only
// objects without records were harmed, no record is lost.
func TestRepair(t *testing.T) {
	for _, level := range []int{1, 2, 4} {
		t.Run(fmt.Sprint("Level", level), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				all, topic, want := lived(t, level)
				repaired := 0
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
						before, err := check.Check(t.Context(), b, nil)
						if err != nil || len(before.Problems) == 0 {
							continue
						}
						repaired++
						name := strings.ReplaceAll(key, "0000000000000000000", "") + " " + what
						if key == authority && what == "deleted" {
							must(b.Create(t.Context(), authority, []byte("another")))
						}
						var told []string
						if err := Repair(t.Context(), options(b, optionsOf(level), beside), func(what string) { told = append(told, what) }); err != nil {
							t.Errorf("%s: %v", name, err)
							continue
						}
						if report, err := check.Check(t.Context(), b, nil); err != nil || len(report.Problems) > 0 {
							t.Errorf("%s: after the repair, which told %q: %q, %v", name, told, report.Problems, err)
						}
						lost := afterRepair(t, b, topic, want, key, name, told)
						t.Logf("%s: %d of %d lost", name, lost, len(slices.Concat(want...)))
					}
				}
				t.Logf("%d repairs", repaired)
			})
		})
	}
}

// afterRepair compares what a node has after a repair with what there was, and with what
// the repair told. It returns how many records are lost.
func afterRepair(t *testing.T, b storage.Bucket, topic weir.TopicID, want [][]string, key, name string, told []string) (lost int) {
	t.Helper()
	got, _, err := lead(b, topic, tiny)
	lost = len(slices.Concat(want...)) - len(slices.Concat(got...))
	if err != nil || lost < 0 {
		t.Errorf("%s: after the repair: %v, %q", name, err, got)
		return lost
	}
	for p := range got {
		for _, v := range got[p] {
			if !slices.Contains(want[p], v) {
				t.Errorf("%s: after the repair there is %q", name, v)
			}
		}
	}
	spared := !strings.Contains(key, "/log/") && !strings.Contains(key, "/segment/")
	if lost > 0 && (len(told) == 0 || spared) {
		t.Errorf("%s: %d records are lost, told was %q", name, lost, told)
	}
	if !strings.Contains(key, "/segment/") {
		return lost
	}
	if lost == 0 || !slices.ContainsFunc(told, func(s string) bool { return strings.Contains(s, "are given up") && strings.Contains(s, key) }) {
		t.Errorf("%s: %d records are lost, told was %q", name, lost, told)
	}
	l := open(t, b, tiny, beside)
	lostTopic, found := l.Topic(LostTopic)
	values, err := l.values(t.Context(), lostTopic.ID, 0)
	if !found || err != nil || !strings.Contains(fmt.Sprint(values), key) {
		t.Errorf("%s: readers are told %q, %v", name, values, err)
	}
	must(l.Close())
	return lost
}
