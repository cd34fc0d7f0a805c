package commitlog

import (
	"fmt"
	"io/fs"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/segment"
)

// Loss is a range of offsets that a repair gave up. Who reads the partition finds what
// compaction leaves, too: the next offset is behind it.
type Loss struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	First     int64  `json:"first_offset"`
	Last      int64  `json:"last_offset"`
	Object    string `json:"object"`
	Cause     string `json:"cause"`
}

func (l Loss) String() string {
	return fmt.Sprintf("offsets %d to %d of partition %d of topic %s are given up: %s: %s", l.First, l.Last, l.Partition, l.Topic, l.Object, l.Cause)
}

// giveUpPieces reads all segments. Of those that are damaged, pieces that can be read
// are copied, and empty ones take the place of the others.
func (m *maintainer) giveUpPieces() error {
	bySegment := make(map[segmentID][]placed)
	m.log.view(func(s *state) {
		for _, t := range s.topics {
			for _, p := range t.partitions {
				for i := range p.pieces {
					id := p.pieces[i].segment
					bySegment[id] = append(bySegment[id], placed{p.key, p.pieces[i]})
				}
			}
		}
	})
	w := &rewriter{m: m}
	for id, pieces := range bySegment {
		switch _, err := m.openSegment(id); {
		case err == nil:
			continue
		case !permanent(err):
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

// openSegment reads a whole segment.
func (m *maintainer) openSegment(id segmentID) ([]segment.Piece, error) {
	key := segment.Key(m.log.shard, id.epoch, id.number)
	var object []byte
	err := storage.Until(m.ctx, func() (err error) {
		object, err = m.log.bucket.Get(m.ctx, key, 0, -1)
		return err
	}, fs.ErrNotExist)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	pieces, err := segment.Open(object, m.log.shard, id.epoch, id.number)
	return pieces, corrupted(err)
}

// copyPiece writes a piece of a damaged segment once more; an empty one, if it cannot be
// read.
func (m *maintainer) copyPiece(w *rewriter, x *placed) error {
	w.begin(x.key, x.base, x.data())
	err := m.scan(m.ctx, x.key, &x.piece, func(b record.Batch) error { return w.b.Append(b) })
	if err = corrupted(err); err != nil {
		w.b.Drop()
		if !permanent(err) {
			return err
		}
		m.giveUp(x.key, x.base, x.next, segment.Key(m.log.shard, x.segment.epoch, x.segment.number), err)
		w.begin(x.key, x.base, 0)
	}
	w.end(x.key, x.next)
	if w.b.Size() < m.o.Segment && len(w.keys) < w.most() {
		return nil
	}
	return w.ship()
}

// giveUp tells a repair that a range of offsets is lost.
func (m *maintainer) giveUp(key placeKey, base, next int64, object string, cause error) {
	loss := Loss{Topic: fmt.Sprint(key.topic), Partition: key.partition, First: base, Last: next - 1, Object: object, Cause: cause.Error()}
	m.log.view(func(s *state) {
		if t := s.topics[key.topic]; t != nil {
			loss.Topic = t.Name
		}
	})
	m.log.lost(loss)
}
