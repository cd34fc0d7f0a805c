package commitlog

import (
	"fmt"

	"github.com/weirmq/weir/storage/record"
)

// decided returns the pieces before the last stable offset.
func (p *partition) decided() []piece {
	pieces, stable := p.pieces, p.stable(p.end)
	for len(pieces) > 0 && pieces[len(pieces)-1].next > stable {
		pieces = pieces[:len(pieces)-1]
	}
	return pieces
}

// decided returns the pieces of a partition that may be compacted, none if it is
// gone, and which transactions in them were aborted.
func (l *Log) decided(key placeKey) ([]piece, []aborted) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if p := l.state.partition(key); p != nil {
		return p.decided(), p.aborted
	}
	return nil, nil
}

// drops says whether a batch is of an aborted transaction.
func (c *cleaning) drops(b record.Batch) bool {
	return b.Transactional() && c.aborted.aborted(b.ProducerID(), b.BaseOffset())
}

// marker returns what stays of a control batch, nil if that is nothing.
func (c *cleaning) marker(b record.Batch) (record.Batch, error) {
	m, err := b.Marker()
	if err != nil {
		return nil, fmt.Errorf("%w: batch at offset %d: %w", ErrCorrupt, b.BaseOffset(), err)
	}
	if m.Commit && b.BaseOffset() != c.last {
		c.changed = true
		return nil, nil
	}
	return b, nil
}
