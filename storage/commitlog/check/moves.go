package check

import (
	"context"
	"fmt"
	"io"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/weir"
)

// found is what a shard has to do with others.
type found struct {
	shard    uint32
	moves    *state.Moves // nil: none
	records  []state.Place
	borrowed map[state.SegmentID]bool // segments of other shards, with Other set
	unknown  []state.SegmentID        // its own segments that its log does not refer to, likewise
	strays   int                      // slots that arrived after they were deleted
}

// note collects what the shard that was read has to do with others.
func (a *auditor) note() {
	f := a.here
	f.shard, f.moves = a.shard, a.state.Moves
	for _, t := range a.state.Topics {
		for _, p := range t.Parts {
			if p.End > 0 && (a.shard == 0 || !t.Opened.IsZero()) {
				f.records = append(f.records, p.Key)
			}
			for i := range p.Pieces {
				if id := p.Pieces[i].Segment; id.Other != 0 {
					f.borrowed[id] = true
				}
			}
		}
	}
	for _, id := range a.state.Garbage {
		if id.Other != 0 {
			f.borrowed[id] = true
		}
	}
	a.shards = append(a.shards, f)
}

// count returns how many shards there are, as far as that is known.
func (a *auditor) count() uint32 {
	n := uint32(max(a.cluster.Shards, 1))
	if a.catalogue.state != nil && a.catalogue.state.Layout != nil {
		n = max(n, a.catalogue.state.Layout.Shards)
	}
	for _, f := range a.shards {
		if f.moves != nil {
			for _, m := range f.moves.Out { // the map may not say it yet
				n = max(n, m.To+1)
			}
		}
	}
	return n
}

// whereSlices returns which shard must have which slice: the map says it, and after that the
// moves that are not settled.
func (a *auditor) whereSlices() weir.Map {
	m := weir.FirstMap(max(a.cluster.Shards, 1))
	if a.catalogue.state != nil && a.catalogue.state.Layout != nil {
		m = a.catalogue.state.Layout.Map
	}
	for _, f := range a.shards {
		if f.moves == nil {
			continue
		}
		for _, move := range f.moves.Out {
			for slice := range move.Slices.All() {
				if m[slice] == move.From {
					m[slice] = move.To
				}
			}
		}
	}
	return m
}

// between finds what is wrong between the shards: records in a shard that does not have
// their slice, records of a partition in two shards, and slices that are nowhere. It also
// counts the segments that no shard refers to.
func (a *auditor) between() (problems []error) {
	broken := func(format string, args ...any) {
		problems = append(problems, fmt.Errorf("%w: %s", state.ErrCorrupt, fmt.Sprintf(format, args...)))
	}
	where, holders := a.whereSlices(), make(map[state.Place]uint32)
	borrowed := make(map[state.SegmentID]bool)
	states := make(map[uint32]*state.Moves)
	for _, f := range a.shards {
		states[f.shard] = f.moves
		for id := range f.borrowed {
			borrowed[id] = true
		}
		for _, key := range f.records {
			if other, twice := holders[key]; twice {
				broken("%v has records in shard %d and in shard %d", key, other, f.shard)
			}
			holders[key] = f.shard
			if shard := where[key.SliceOf()]; shard != f.shard && f.shard > 0 {
				broken("%v has records in shard %d and belongs to shard %d", key, f.shard, shard)
			}
		}
	}
	for _, f := range a.shards {
		if f.moves == nil {
			continue
		}
		for slice := range f.moves.Away.All() {
			if where[slice] == f.shard {
				broken("slice %d belongs to shard %d, from which it moved away", slice, f.shard)
			}
		}
		for _, m := range f.moves.Out {
			if !arrived(states[m.To], m.ID) {
				broken("%d slices moved from shard %d to shard %d (%v), which does not have them", m.Slices.Len(), m.From, m.To, m.ID)
			}
		}
	}
	a.report.Orphans = 0
	for _, f := range a.shards {
		a.report.Orphans += f.strays
		for _, id := range f.unknown {
			own := id
			own.Other = 0
			if !borrowed[id] && (f.moves == nil || !f.moves.Lent[own]) {
				a.report.Orphans++
			}
		}
	}
	return problems
}

// arrived reports whether a shard has the slices of a move, as far as it remembers.
func arrived(m *state.Moves, id weir.MoveID) bool {
	if m == nil {
		return false
	}
	s := &state.State{Moves: m}
	if x := s.Arrival(id); x != nil {
		return x.Whole()
	}
	end := s.MoveEnded(id)
	return end == state.MoveConfirmed || end == 0 && s.ForgetsMoves()
}

// agreed reports what is wrong between the shards. They were read one after the other: if
// slices moved meanwhile, it looks again, at most three times in all.
func (a *auditor) agreed(ctx context.Context, b storage.Bucket, w io.Writer) error {
	problems := a.between()
	for try := 1; len(problems) > 0 && try < 3; try++ {
		again := newAuditor(b)
		again.cluster, again.named = a.cluster, a.named
		if err := again.all(ctx, b, nil); err != nil {
			return err
		}
		problems = again.between()
	}
	for _, err := range problems {
		a.where = "between the shards"
		a.problem(err)
	}
	a.tell(w)
	return nil
}

// Borrowed returns the segments of a shard to which the logs of other shards refer, for a
// repair: what is missing or damaged there is passed over. shards is how many there were
// when the cluster was created.
func Borrowed(ctx context.Context, b storage.Bucket, shard uint32, shards int) (map[state.SegmentID]bool, error) {
	all := make(map[state.SegmentID]bool)
	for other := uint32(0); ; other++ {
		if other == shard {
			continue
		}
		_, found, err := journal.LastReadableClaim(ctx, b, other)
		if err != nil {
			return nil, err
		}
		if !found && other >= uint32(shards) {
			return all, nil
		}
		a := newAuditor(b)
		a.shard = other
		a.begin(state.Empty(), journal.Position{})
		_, err = journal.Replay(ctx, journal.Options{Bucket: b, Shard: other}, a)
		if err := a.found(fmt.Sprintf("shard %d", other), err); err != nil {
			return nil, err
		}
		a.note()
		for id := range a.here.borrowed {
			if id.Other == shard+1 {
				id.Other = 0
				all[id] = true
			}
		}
	}
}
