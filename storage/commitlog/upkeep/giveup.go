package upkeep

import (
	"fmt"
	"io/fs"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/segment"
)

// Loss is a range of offsets that a repair gave up. Readers of the partition skip it,
// like a hole that compaction has left.
type Loss struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	First     int64  `json:"first_offset"`
	Last      int64  `json:"last_offset"`
	Object    string `json:"object"`
	Cause     string `json:"cause"`
}

// String returns a line for people.
func (l Loss) String() string {
	return fmt.Sprintf("offsets %d to %d of partition %d of topic %s are given up: %s: %s", l.First, l.Last, l.Partition, l.Topic, l.Object, l.Cause)
}

// GiveUpPieces reads all segments. For a damaged one, it copies the pieces that can be
// read, and puts empty pieces in the place of the others.
func (m *Maintainer) GiveUpPieces() error {
	bySegment := make(map[state.SegmentID][]state.Placed)
	m.log.View(func(s *state.State) {
		for _, t := range s.Topics {
			for _, p := range t.Parts {
				for i := range p.Pieces {
					id := p.Pieces[i].Segment
					bySegment[id] = append(bySegment[id], state.Placed{Key: p.Key, Piece: p.Pieces[i]})
				}
			}
		}
	})
	w := &rewriter{m: m}
	for id, pieces := range bySegment {
		var err error
		if id.Slot {
			err = m.scanAll(pieces)
		} else {
			_, err = m.OpenSegment(id)
		}
		switch {
		case err == nil:
			continue
		case !state.Permanent(err):
			return err
		}
		for i := range pieces {
			if err := m.copyPiece(w, &pieces[i]); err != nil {
				return err
			}
		}
	}
	return w.finish()
}

// scanAll reads pieces.
func (m *Maintainer) scanAll(pieces []state.Placed) error {
	for i := range pieces {
		x := &pieces[i]
		err := m.Scan(m.ctx, x.Key, &x.Piece, func(record.Batch) error { return nil })
		if err = state.Translate(err); err != nil {
			return err
		}
	}
	return nil
}

// OpenSegment reads a whole segment.
func (m *Maintainer) OpenSegment(id state.SegmentID) ([]segment.Piece, error) {
	key := id.Key(m.log.Shard)
	var object []byte
	err := storage.Until(m.ctx, func() (err error) {
		object, err = m.log.Bucket.Get(m.ctx, key, 0, -1)
		return err
	}, fs.ErrNotExist)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	pieces, err := segment.Open(object, id.Shard(m.log.Shard), id.Epoch, id.Number)
	return pieces, state.Translate(err)
}

// copyPiece copies a piece of a damaged segment, or writes an empty one if it cannot be
// read.
func (m *Maintainer) copyPiece(w *rewriter, x *state.Placed) error {
	w.begin(x.Key, x.Base, x.Data())
	err := m.Scan(m.ctx, x.Key, &x.Piece, func(b record.Batch) error { return w.b.Append(b) })
	if err = state.Translate(err); err != nil {
		w.b.Drop()
		if !state.Permanent(err) {
			return err
		}
		m.giveUp(x.Key, x.Base, x.Next, x.Segment.Key(m.log.Shard), err)
		w.begin(x.Key, x.Base, 0)
	}
	w.end(x.Key, x.Next)
	if w.b.Size() < m.o.Segment && len(w.placed) < w.most() {
		return nil
	}
	return w.store()
}

// giveUp tells a repair that a range of offsets is lost.
func (m *Maintainer) giveUp(key state.Place, base, next int64, object string, cause error) {
	loss := Loss{Topic: fmt.Sprint(key.Topic), Partition: key.Partition, First: base, Last: next - 1, Object: object, Cause: cause.Error()}
	m.log.View(func(s *state.State) {
		if t := s.Topics[key.Topic]; t != nil {
			loss.Topic = t.Name
		}
	})
	m.log.lost(loss)
}
