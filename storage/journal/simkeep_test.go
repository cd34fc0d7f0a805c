package journal

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"
)

// save is the state that a checkpoint holds.
type save struct {
	pos     Position
	got     []applied
	kept    []Position
	durable bool
}

// keep makes checkpoints and deletes what lies before them, until the journal
// stops. It goes on while its owner has been fenced and has not noticed.
func (w *world) keep(ctx context.Context, id string, j *Journal, h *history) {
	rng := w.draw(id, "keep")
	pause := time.Second + upTo(rng, 20*time.Second)
	deleted := Position{}
	for sleep(ctx, upTo(rng, pause)) && j.Err() == nil {
		pos, number := h.save()
		if err := j.Checkpoint(ctx, pos, strconv.AppendInt(nil, int64(number), 10)); err != nil {
			if !ackOutOfOrder(w.mutations) { // which counts slots and does not know which
				w.condemn(id, err)
			}
			continue
		}
		w.durable(number)
		if rng.IntN(4) == 0 {
			continue
		}
		from, before := Position{}, h.before(rng, j.Checkpointed())
		if rng.IntN(2) == 0 {
			from = deleted
		}
		err := j.Truncate(ctx, from, before, h.keeps())
		w.condemn(id, err)
		if err == nil {
			deleted = before
			w.count(func(t *tally) { t.Truncates++ })
		}
		if old := h.removable(rng, j.Checkpointed()); len(old) > 0 {
			err := j.Remove(ctx, old)
			w.condemn(id, err)
			if err == nil {
				w.count(func(t *tally) { t.Removed += len(old) })
			}
		}
	}
}

// save takes a copy of the state, and returns the position that it belongs to.
func (h *history) save() (Position, int) {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	s := save{pos: h.next, got: slices.Clone(h.got), kept: slices.Clone(h.kept)}
	if saveUnacked(h.w.mutations) {
		s.got = append(s.got, h.flying...)
		for _, a := range h.flying {
			s.pos = Position{a.pos.Epoch, a.pos.Slot + 1}
		}
	}
	h.w.saves = append(h.w.saves, s)
	return s.pos, len(h.w.saves) - 1
}

func (w *world) durable(number int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.saves[number].durable = true
	w.tally.Checkpoints++
}

// before draws up to where to delete: the checkpoint, or an earlier place, which
// may be behind the SEAL of its epoch.
func (h *history) before(rng *rand.Rand, saved Position) Position {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	switch {
	case deleteBeyond(h.w.mutations):
		return h.next
	case rng.IntN(3) > 0:
		return saved
	case rng.IntN(2) == 0:
		return Position{saved.Epoch, rng.Uint64N(saved.Slot + 1)}
	}
	return Position{rng.Uint64N(saved.Epoch), rng.Uint64N(100)}
}

// wrote notes what may be flying.
func (h *history) wrote(pos Position, flying []applied) {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	for i := range flying {
		flying[i].pos = pos
	}
	if !pos.Before(h.next) {
		h.flying = append(h.flying, flying...)
	}
}

// expected is what will be applied for entries, but for the position.
func expected(entries []Entry) (list []applied) {
	at := int64(fixedSize)
	for _, e := range entries {
		at += entrySize
		list = append(list, applied{body: string(e.Body), at: at})
		at += int64(len(e.Body))
	}
	return list
}

// Restore puts a save in place of everything.
func (h *history) Restore(pos Position, body []byte) error {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	number, err := strconv.Atoi(string(body))
	if err != nil || number >= len(h.w.saves) || h.w.saves[number].pos != pos {
		return errors.New("the checkpoint holds something else")
	}
	if h.dead {
		return nil
	}
	h.w.tally.Restored++
	if !h.next.IsZero() {
		h.w.tally.StartedOver++
	}
	h.got, h.next = slices.Clone(h.w.saves[number].got), pos
	h.kept, h.dropped = slices.Clone(h.w.saves[number].kept), nil
	return nil
}

// auditSaves checks that every checkpoint holds what the log had before it.
func (w *world) auditSaves(final *history) {
	for _, s := range w.saves {
		if !s.durable {
			continue
		}
		n := 0
		for n < len(final.got) && final.got[n].pos.Before(s.pos) {
			n++
		}
		if !slices.Equal(s.got, final.got[:n]) {
			w.fault("checkpoint %v holds %d entries, or other ones than the %d that the log has before it", s.pos, len(s.got), n)
		}
	}
}

// auditSeals checks that every SEAL that the last owner knows of is there.
func (w *world) auditSeals(ctx context.Context, y way) {
	for i, slot := range y.seals {
		key := SlotKey(3, Position{y.oldest.Epoch + uint64(i), slot})
		raw, err := w.disk.Get(ctx, key, 0, -1)
		if err != nil {
			w.fault("a SEAL is gone: %v", err)
			continue
		}
		if o, err := decode(raw); err != nil || o.typ != typeSeal {
			w.fault("%s holds a %v instead of a SEAL: %v", key, o.typ, err)
		}
	}
}
