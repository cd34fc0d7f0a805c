//go:build weirtest

package upkeep

import (
	"github.com/weirmq/weir/storage/commitlog/state"
)

// Hooks are for tests of compaction.
type Hooks struct{ m *Maintainer }

// Hooks returns those of m. They must not be used during a pass.
func (m *Maintainer) Hooks() Hooks { return Hooks{m} }

// Compact compacts what is due now, in the caller's goroutine.
func (h Hooks) Compact() error { return h.m.compact(&pass{}) }

// Horizon returns when tombstones of a partition may be removed that compaction has
// met, in ms since 1970; 0 if it has met none.
func (h Hooks) Horizon(key state.Place) int64 { return h.m.horizons[key] }

// Forgets reports whether some tombstones that compaction has met may be removed now.
func (h Hooks) Forgets() bool { return h.m.forgets() }

// Spoiled returns how many partitions are not compacted because they cannot be read.
func (h Hooks) Spoiled() int { return len(h.m.skipped) }

// Step compacts pieces of a partition as far as the memory for keys goes, and returns how
// many it held at once, and in how many rounds.
func (h Hooks) Step(key state.Place, pieces []state.Piece) (keys int, rounds uint32, err error) {
	c := &cleaning{m: h.m, key: key, w: &rewriter{m: h.m, clean: true}}
	if _, err := c.step(pieces); err != nil {
		return 0, 0, err
	}
	return len(c.offsets), c.rounds, c.w.finish()
}
