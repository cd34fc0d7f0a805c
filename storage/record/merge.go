package record

import "fmt"

// A batch of fewer records and bytes than these gains by being merged; a
// larger one is a full batch that its producer compressed once and for all.
const (
	smallCount = 64
	smallSize  = 16 << 10
)

// Mergeable says whether b is small and nothing in it belongs to the batch as
// a whole: no transaction, no producer sequence, no time of append.
func Mergeable(b Batch) bool {
	return len(b) >= HeaderSize && len(b) < smallSize && b.Count() < smallCount && unbound(b)
}

// unbound says whether the records of b could as well lie in another batch.
func unbound(b Batch) bool {
	return b.ProducerID() < 0 && !b.Transactional() && !b.Control() && !b.LogAppendTime()
}

// Merge makes one batch of the records of several, in their order: base
// offset 0, leader epoch -1, offsets without a hole, compressed with the
// codec of the first compressed one. The result belongs to the caller; a
// single batch is returned as it is. The batches may be of any size. Merge
// does not look at their CRCs.
//
// Errors: ErrEmpty without batches, ErrNotMergeable, ErrTooLarge when all
// records together inflate beyond maxInflated bytes, and those of
// VerifyRecords. The batches are never changed: whoever cannot merge them can
// still store them one by one.
func Merge(batches []Batch, maxInflated int) (Batch, error) {
	if len(batches) == 1 {
		return batches[0], nil
	}
	buf := buffers.Get().(*buffer)
	defer buf.release()
	m := Builder{buf: buf.p[:0]}
	defer func() { buf.p = m.buf }()
	for i, b := range batches {
		if err := b.checkHeader(); err != nil {
			return nil, fmt.Errorf("merge batch %d: %w", i, err)
		}
		if !unbound(b) {
			return nil, fmt.Errorf("merge batch %d: %w", i, ErrNotMergeable)
		}
		if m.codec == None {
			m.codec = b.Codec()
		}
		left := maxInflated - (m.Size() - HeaderSize)
		err := b.walkDense(left, func(e entry) error {
			return m.appendEntry(b.BaseTimestamp()+e.timestampDelta, e.body)
		})
		if err != nil {
			return nil, fmt.Errorf("merge batch %d: %w", i, err)
		}
	}
	return m.Build()
}
