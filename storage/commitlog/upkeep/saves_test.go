package upkeep

import (
	"testing"
	"time"

	"github.com/weirmq/weir/storage/mem"
)

// A pass ends with a checkpoint if that settles enough, however much is left.
func TestSaves(t *testing.T) {
	const mib = 1 << 20
	for name, c := range map[string]struct {
		saved         int64 // bytes of the last checkpoint
		age           time.Duration
		settled, left tally
		want          bool
	}{
		"nothing":                       {},
		"too little":                    {settled: tally{31 * mib, 10}},
		"enough":                        {settled: tally{32 * mib, 10}, want: true},
		"enough slots":                  {settled: tally{mib, 2000}, want: true},
		"little, and much is left":      {settled: tally{31 * mib, 10}, left: tally{500 * mib, 5000}},
		"it is time":                    {settled: tally{1, 1}, age: 10 * time.Minute, want: true},
		"too little for a large one":    {saved: 4 * mib, settled: tally{95 * mib, 10}, left: tally{500 * mib, 5000}},
		"enough for a large one":        {saved: 4 * mib, settled: tally{96 * mib, 10}, want: true},
		"enough slots for a large one":  {saved: 4 * mib, settled: tally{mib, 6000}, want: true},
		"those of a small one, as ever": {saved: mib - 1, settled: tally{32 * mib, 10}, want: true},
	} {
		t.Run(name, func(t *testing.T) {
			now := time.Now()
			m := New(t.Context(), Host{Bucket: mem.New(), Now: func() time.Time { return now }}, Options{})
			m.stored = now.Add(-c.age)
			m.saved.Store(c.saved)
			m.debt.add(1000 * mib)
			m.debt.settle(m.debt.mark(), tally{}, true)
			m.debt.applied.bytes += c.settled.bytes + c.left.bytes
			m.debt.applied.slots += c.settled.slots + c.left.slots
			if got := m.saves(&pass{mark: m.debt.mark(), left: c.left}); got != c.want {
				t.Errorf("saves: %v", got)
			}
		})
	}
}
