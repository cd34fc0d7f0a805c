package upkeep

import (
	"fmt"
	"slices"

	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/record"
)

// decided returns the pieces before the last stable offset.
func decided(p *state.Partition) []state.Piece {
	pieces, stable := p.Pieces, p.Stable(p.End)
	for len(pieces) > 0 && pieces[len(pieces)-1].Next > stable {
		pieces = pieces[:len(pieces)-1]
	}
	return pieces
}

// decided returns the pieces of a partition that may be compacted, and the aborted
// transactions in them. It returns none if the partition is gone.
func (m *Maintainer) decided(key state.Place) (pieces []state.Piece, all []state.Abort) {
	m.log.View(func(s *state.State) {
		if p := s.Partition(key); p != nil {
			pieces, all = decided(p), p.Aborted
		}
	})
	return pieces, all
}

// drops reports whether a batch belongs to an aborted transaction.
func (c *cleaning) drops(b record.Batch) bool {
	return b.Transactional() && c.aborted.aborted(b.ProducerID(), b.BaseOffset())
}

// marker returns what stays of a control batch, nil if nothing does.
func (c *cleaning) marker(b record.Batch) (record.Batch, error) {
	m, err := b.Marker()
	if err != nil {
		return nil, fmt.Errorf("%w: batch at offset %d: %w", state.ErrCorrupt, b.BaseOffset(), err)
	}
	if m.Commit && b.BaseOffset() != c.last {
		c.changed = true
		return nil, nil
	}
	return b, nil
}

// transactions finds the aborted transactions of each producer.
type transactions map[int64][]state.Abort

func byProducer(all []state.Abort) transactions {
	ts := make(transactions)
	for _, x := range all {
		ts[x.Producer] = append(ts[x.Producer], x)
	}
	return ts
}

// aborted reports whether a producer's batch at an offset belongs to an aborted
// transaction. Those of one producer do not overlap.
func (ts transactions) aborted(producer, offset int64) bool {
	all := ts[producer]
	i, _ := slices.BinarySearchFunc(all, offset, state.EndedAt)
	return i < len(all) && all[i].First <= offset
}
