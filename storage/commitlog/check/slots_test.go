package check

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/mem"
)

// TestUnlisted: of the slots that are wanted, those are found that a List does not show,
// whatever else it shows.
func TestUnlisted(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 0))
		b := mem.New()
		var wanted []journal.Position
		var gone []string
		for epoch := range uint64(3) {
			for slot := range uint64(200) {
				pos := journal.Position{Epoch: 1 + epoch, Slot: 1 + slot}
				key := journal.SlotKey(0, pos)
				there := rng.IntN(20) > 0
				if there {
					if err := b.Create(t.Context(), key, []byte("x")); err != nil {
						t.Fatal(err)
					}
				}
				if rng.IntN(3) == 0 {
					continue // nobody wants it
				}
				if wanted = append(wanted, pos); !there {
					gone = append(gone, key)
				}
			}
		}
		for part := range slices.Chunk(wanted, 1+rng.IntN(len(wanted))) {
			got, err := unlisted(t.Context(), b, 0, part)
			n := min(len(got), len(gone))
			if err != nil || !slices.Equal(got, gone[:n]) {
				t.Fatalf("seed %d: %q, %v, want %q", seed, got, err, gone)
			}
			gone = gone[n:]
		}
		if len(gone) > 0 {
			t.Errorf("seed %d: %q were not missed", seed, gone)
		}
	}
}
