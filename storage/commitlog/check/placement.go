package check

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"

	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/segment"
)

// placement proves that every record that the state has is where the state says:
// the segments, and the slots before the checkpoint, which the replay does not
// read. Errors are those of the bucket.
func (a *auditor) placement(ctx context.Context) error {
	pieces := make(map[state.SegmentID][]state.Placed)
	a.expected = a.expect()
	for _, t := range a.state.Topics {
		for _, p := range t.Parts {
			a.where = p.Key.String()
			a.row(p)
			for i := range p.Pieces {
				id := p.Pieces[i].Segment
				pieces[id] = append(pieces[id], state.Placed{Key: p.Key, Piece: p.Pieces[i]})
			}
			if err := a.extents(ctx, p); err != nil {
				return err
			}
		}
	}
	for id, all := range pieces {
		if id.Slot {
			if err := a.slot(ctx, id, all); err != nil {
				return err
			}
			continue
		}
		if a.state.Segments[id] != len(all) {
			a.problem(fmt.Errorf("%w: segment %d/%d has %d pieces, but the log counts %d", state.ErrCorrupt, id.Epoch, id.Number, len(all), a.state.Segments[id]))
		}
		if err := a.segment(ctx, id, all); err != nil {
			return err
		}
	}
	a.missing()
	a.report.Segments += len(pieces)
	return a.orphans(ctx, pieces)
}

// row proves that the offsets of a partition follow each other without a hole.
func (a *auditor) row(p *state.Partition) {
	if p.Start > p.End {
		a.problem(fmt.Errorf("%w: begins at offset %d, beyond its end %d", state.ErrCorrupt, p.Start, p.End))
	} else if stable := p.Stable(p.End); p.Start > stable {
		a.problem(fmt.Errorf("%w: begins at offset %d, beyond its last stable one %d", state.ErrCorrupt, p.Start, stable))
	}
	next := p.Start
	for i := range p.Pieces {
		x := &p.Pieces[i]
		if x.Base != next && (i > 0 || x.Base > next) || x.Next <= next {
			a.problem(fmt.Errorf("%w: offsets %d to %d follow offset %d", state.ErrCorrupt, x.Base, x.Next, next))
		}
		next = x.Next
	}
	for i := range p.Index {
		if x := &p.Index[i]; x.Base != next && (i > 0 || x.Base > next || len(p.Pieces) > 0) {
			a.problem(fmt.Errorf("%w: a run begins at offset %d, not %d", state.ErrCorrupt, x.Base, next))
		}
		next = p.NextOf(i)
	}
	if next != p.End {
		a.problem(fmt.Errorf("%w: records end at offset %d, not %d", state.ErrCorrupt, next, p.End))
	}
}

// extents checks the runs that lie in slots before the checkpoint.
func (a *auditor) extents(ctx context.Context, p *state.Partition) error {
	for i, x := range p.Index {
		if !x.Position().Before(a.began) {
			return nil // the replay has read these
		}
		key := journal.SlotKey(a.shard, x.Position())
		a.where = key
		data, err := a.bucket.Get(ctx, key, int64(x.At), int64(x.Size))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			a.gone = true
			a.problem(fmt.Errorf("%w: it is missing, and has offsets %d to %d of %v", state.ErrCorrupt, x.Base, p.NextOf(i)-1, p.Key))
			continue
		case err != nil:
			if err := a.found(key, err); err != nil {
				return err
			}
			continue
		}
		batches, next, err := state.CutRun(data, x.Base, x.Leader)
		if err == nil && next != p.NextOf(i) {
			err = fmt.Errorf("%w: run of %v ends at offset %d, not %d", state.ErrCorrupt, p.Key, next, p.NextOf(i))
		}
		if err != nil {
			a.problem(err)
			continue
		}
		a.batches(p.Key, batches)
		a.compareBatches(p.Key, batches)
	}
	return nil
}

// object reads the object that pieces lie in; false: there is none, or it is damaged.
func (a *auditor) object(ctx context.Context, id state.SegmentID, all []state.Placed) ([]byte, bool, error) {
	key := id.Key(a.shard)
	a.where = key
	object, err := a.bucket.Get(ctx, key, 0, -1)
	if errors.Is(err, fs.ErrNotExist) {
		a.gone = true
		a.problem(fmt.Errorf("%w: it is missing, and the log has %d pieces in it, the first with offset %d of %v", state.ErrCorrupt, len(all), all[0].Base, all[0].Key))
		return nil, false, nil
	}
	if err != nil {
		return nil, false, a.found(key, err)
	}
	return object, true, nil
}

// segment reads a whole segment and compares it with what refers to it.
func (a *auditor) segment(ctx context.Context, id state.SegmentID, all []state.Placed) error {
	object, found, err := a.object(ctx, id, all)
	if !found {
		return err
	}
	a.report.Bytes += int64(len(object))
	there, err := segment.Open(object, id.Shard(a.shard), id.Epoch, id.Number)
	if err != nil {
		a.problem(state.Translate(err))
		return nil
	}
	has := make(map[segment.Piece]bool, len(there))
	for _, x := range there {
		has[x] = true
	}
	for i := range all {
		ref := all[i].Ref(all[i].Key)
		if !has[ref] {
			a.problem(fmt.Errorf("%w: it has no piece as the log knows it: %v", state.ErrCorrupt, ref))
			continue
		}
		a.report.Records += int64(ref.Records)
		a.compareSegment(all[i].Key, ref, object)
	}
	return nil
}

// orphans finds the segments that the log does not refer to and that are not garbage. Of
// these, others may refer to some.
func (a *auditor) orphans(ctx context.Context, known map[state.SegmentID][]state.Placed) error {
	garbage := make(map[state.SegmentID]bool, len(a.state.Garbage))
	for _, id := range a.state.Garbage {
		garbage[id] = true
	}
	list, err := ListSegments(ctx, a.bucket, a.shard)
	if err != nil {
		return a.found(fmt.Sprintf("shard %d", a.shard), err)
	}
	for _, key := range list.strange {
		a.where = key
		a.problem(fmt.Errorf("%w: it is not the key of a segment", state.ErrCorrupt))
	}
	// A later owner may have come while the log was read: the next try sees it.
	before := uint64(math.MaxUint64)
	if !a.whole {
		before = 0
	}
	for id := range list.IDs {
		if known[id] != nil || garbage[id] {
			continue
		}
		foreign := id
		foreign.Other = a.shard + 1
		a.here.unknown = append(a.here.unknown, foreign)
		a.where = id.Key(a.shard)
		if err := unknownEpoch(a.state, id, a.shard, a.known, before); err != nil {
			a.gone = true
			a.problem(err)
		}
	}
	strays, err := journal.Strays(ctx, a.bucket, a.shard, 0, a.state.Truncated(), func(pos journal.Position) bool {
		return a.state.Slots.Has(pos) || garbage[state.SlotID(pos)]
	})
	a.here.strays = len(strays)
	return a.found(fmt.Sprintf("shard %d", a.shard), err)
}
