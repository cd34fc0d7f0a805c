package journal

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// In the schedules the state refers to every third slot that has entries: it is kept.
// An entry of its own ends that, and then the slot is removed.

// caller is what a test lets the user of the journal do wrong.
type caller struct {
	dropUnacked  bool // what an entry under way drops is removed at once
	adoptDropped bool // a slot is referred to again that no state refers to any more, since it is still there
}

// refer keeps the state's references, for the entries of a slot.
func (h *history) refer(pos Position, entries []Entry) {
	if len(entries) > 0 && (pos.Epoch+pos.Slot)%3 == 0 {
		h.kept = append(h.kept, pos)
	}
	for _, e := range entries {
		var old Position
		if n, _ := fmt.Sscanf(string(e.Body), "drop %d/%d", &old.Epoch, &old.Slot); n == 2 {
			h.drop(old)
		} else if n, _ := fmt.Sscanf(string(e.Body), "adopt %d/%d", &old.Epoch, &old.Slot); n == 2 {
			h.kept = append(h.kept, old)
		}
	}
}

func (h *history) drop(pos Position) {
	if i := slices.Index(h.kept, pos); i >= 0 {
		h.kept = slices.Delete(h.kept, i, i+1)
		h.dropped = append(h.dropped, pos)
	}
}

// drops sometimes returns an entry that ends a reference.
func (h *history) drops(rng *rand.Rand, id string, k int) (e Entry, ok bool) {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	if h.w.caller.adoptDropped && len(h.dropped) > 0 && rng.IntN(3) == 0 {
		return Entry{Body: fmt.Appendf(nil, "adopt %v %s.%d", h.dropped[rng.IntN(len(h.dropped))], id, k)}, true
	}
	if len(h.kept) == 0 || rng.IntN(3) > 0 {
		return Entry{}, false
	}
	old := h.kept[rng.IntN(len(h.kept))]
	if h.w.caller.dropUnacked {
		h.drop(old)
	}
	return Entry{Body: fmt.Appendf(nil, "drop %v %s.%d", old, id, k)}, true
}

// keeps returns what Truncate has to keep.
func (h *history) keeps() func(Position) bool {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	kept := slices.Clone(h.kept)
	return func(pos Position) bool { return slices.Contains(kept, pos) }
}

// removable draws slots that no state refers to any more.
func (h *history) removable(rng *rand.Rand, saved Position) (old []Position) {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	for _, pos := range h.dropped {
		if (pos.Before(saved) || removeBeyond(h.w.mutations)) && rng.IntN(4) > 0 {
			old = append(old, pos)
		}
	}
	return old
}

// auditKept checks that every slot to which the last state refers is there, with what
// the log had in it.
func (w *world) auditKept(ctx context.Context, final *history) {
	for _, pos := range final.kept {
		entries, err := readSlot(ctx, w.disk, 3, pos)
		if err != nil {
			w.fault("kept slot: %v", err)
			continue
		}
		var want, got []string
		for _, a := range final.got {
			if a.pos == pos {
				want = append(want, a.body)
			}
		}
		for _, e := range entries {
			got = append(got, string(e.Body))
		}
		if !slices.Equal(got, want) {
			w.fault("kept slot %v has %q, the log %q", pos, strings.Join(got, ", "), strings.Join(want, ", "))
		}
		w.tally.Kept++
	}
}
