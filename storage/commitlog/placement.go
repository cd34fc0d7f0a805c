package commitlog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"

	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/segment"
)

// placement proves that every record that the state has is where the state says:
// the segments, and the slots before the checkpoint, which the replay does not
// read. Errors are those of the bucket.
func (a *auditor) placement(ctx context.Context) error {
	pieces := make(map[segmentID][]placed)
	a.due = a.owed()
	for _, t := range a.state.topics {
		for _, p := range t.partitions {
			a.where = p.key.String()
			a.row(p)
			for i := range p.pieces {
				id := p.pieces[i].segment
				pieces[id] = append(pieces[id], placed{p.key, p.pieces[i]})
			}
			if err := a.extents(ctx, p); err != nil {
				return err
			}
		}
	}
	for id, all := range pieces {
		if a.state.segments[id] != len(all) {
			a.problem(fmt.Errorf("%w: segment %d/%d has %d pieces, but the log counts %d", ErrCorrupt, id.epoch, id.number, len(all), a.state.segments[id]))
		}
		if err := a.segment(ctx, id, all); err != nil {
			return err
		}
	}
	a.unpaid()
	a.report.Segments += len(pieces)
	return a.orphans(ctx, pieces)
}

// row proves that the offsets of a partition follow each other without a hole.
func (a *auditor) row(p *partition) {
	if p.start > p.end {
		a.problem(fmt.Errorf("%w: begins at offset %d, beyond its end %d", ErrCorrupt, p.start, p.end))
	} else if stable := p.stable(p.end); p.start > stable {
		a.problem(fmt.Errorf("%w: begins at offset %d, beyond its last stable one %d", ErrCorrupt, p.start, stable))
	}
	next := p.start
	for i := range p.pieces {
		x := &p.pieces[i]
		if x.base != next && (i > 0 || x.base > next) || x.next <= next {
			a.problem(fmt.Errorf("%w: offsets %d to %d follow offset %d", ErrCorrupt, x.base, x.next, next))
		}
		next = x.next
	}
	for i := range p.index {
		if x := &p.index[i]; x.base != next && (i > 0 || x.base > next || len(p.pieces) > 0) {
			a.problem(fmt.Errorf("%w: a run begins at offset %d, not %d", ErrCorrupt, x.base, next))
		}
		next = p.nextOf(i)
	}
	if next != p.end {
		a.problem(fmt.Errorf("%w: records end at offset %d, not %d", ErrCorrupt, next, p.end))
	}
}

// extents reads the runs that lie in slots before the checkpoint.
func (a *auditor) extents(ctx context.Context, p *partition) error {
	for i, x := range p.index {
		if !x.position().Before(a.began) {
			return nil // the replay has read these
		}
		key := journal.SlotKey(a.shard, x.position())
		a.where = key
		data, err := a.bucket.Get(ctx, key, int64(x.at), int64(x.size))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			a.gone = true
			a.problem(fmt.Errorf("%w: it is gone, and has offsets %d to %d of %v", ErrCorrupt, x.base, p.nextOf(i)-1, p.key))
			continue
		case err != nil:
			if err := a.found(key, err); err != nil {
				return err
			}
			continue
		}
		batches, next, err := cutRun(data, x.base, x.epoch)
		if err == nil && next != p.nextOf(i) {
			err = fmt.Errorf("%w: run of %v ends at offset %d, not %d", ErrCorrupt, p.key, next, p.nextOf(i))
		}
		if err != nil {
			a.problem(err)
			continue
		}
		a.batches(p.key, batches)
		a.ledger(p.key, batches)
	}
	return nil
}

// segment reads a whole segment and compares it with what refers to it.
func (a *auditor) segment(ctx context.Context, id segmentID, all []placed) error {
	key := segment.Key(a.shard, id.epoch, id.number)
	a.where = key
	object, err := a.bucket.Get(ctx, key, 0, -1)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		a.gone = true
		a.problem(fmt.Errorf("%w: it is gone, and the log has %d pieces in it, the first with offset %d of %v", ErrCorrupt, len(all), all[0].base, all[0].key))
		return nil
	case err != nil:
		return a.found(key, err)
	}
	a.report.Bytes += int64(len(object))
	there, err := segment.Open(object, a.shard, id.epoch, id.number)
	if err != nil {
		a.problem(corrupted(err))
		return nil
	}
	has := make(map[segment.Piece]bool, len(there))
	for _, x := range there {
		has[x] = true
	}
	for i := range all {
		ref := all[i].ref(all[i].key)
		if !has[ref] {
			a.problem(fmt.Errorf("%w: it has no piece as the log knows it: %v", ErrCorrupt, ref))
			continue
		}
		a.report.Records += int64(ref.Records)
		a.ledgerOf(all[i].key, ref, object)
	}
	return nil
}

// orphans counts the segments that nothing refers to, and that are not about to
// be deleted.
func (a *auditor) orphans(ctx context.Context, known map[segmentID][]placed) error {
	garbage := make(map[segmentID]bool, len(a.state.garbage))
	for _, id := range a.state.garbage {
		garbage[id] = true
	}
	list, err := listSegments(ctx, a.bucket, a.shard)
	if err != nil {
		return a.found(fmt.Sprintf("shard %d", a.shard), err)
	}
	for _, key := range list.strange {
		a.where = key
		a.problem(fmt.Errorf("%w: no key of a segment", ErrCorrupt))
	}
	// A later owner may have come while the log was read: then the next try knows it.
	before := uint64(math.MaxUint64)
	if !a.whole {
		before = 0
	}
	for id := range list.ids {
		if known[id] != nil || garbage[id] {
			continue
		}
		a.report.Orphans++
		a.where = segment.Key(a.shard, id.epoch, id.number)
		if err := unknownEpoch(a.state, id, a.shard, a.known, before); err != nil {
			a.gone = true
			a.problem(err)
		}
	}
	return nil
}
