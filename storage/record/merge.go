package record

import "errors"

// A batch of fewer records and bytes than these gains by being merged; a
// larger one is a full batch that its producer compressed once and for all.
const (
	smallCount = 64
	smallSize  = 16 << 10
)

// What MergeSmall makes is full at mergeSize bytes of batches, or
// mergeInflated bytes of records.
const (
	mergeSize     = 256 << 10
	mergeInflated = 4 << 20
)

// errNotMergeable: the batch carries something that belongs to it as a whole (see
// Mergeable) and would be lost in a merge.
var errNotMergeable = errors.New("record batch is not mergeable")

// mergeRatio bounds the work of one MergeSmall: mergeInflated bytes of records, and
// mergeRatio more for each byte of the batches. Telemetry compresses less than that,
// and a few bytes that inflate to very many cannot delay other batches.
const mergeRatio = 32

// Mergeable reports whether b is small and nothing in it belongs to the batch as a
// whole: no transaction, no producer sequence, no time of append, no attribute that is
// not known here.
func Mergeable(b Batch) bool {
	return len(b) >= HeaderSize && len(b) < smallSize && b.Count() < smallCount && unbound(b)
}

// unbound reports whether the records of b can be moved into another batch.
func unbound(b Batch) bool {
	return b.ProducerID() < 0 && b.attributes()&^codecMask == 0
}

// MergeSmall joins neighbours that are small (Mergeable) into batches of up to
// 256 KiB, and returns these and the ones that it left alone in the order of
// their records. Trickles of many senders become batches worth compressing
// that way.
//
// What it joins it returns with base offset 0, leader epoch -1 and offsets without a
// hole, for the caller to place, compressed with the codec of the first compressed one.
// It does not look at CRCs. All else comes back as it is, not copied: batches that
// have no neighbour to be joined with, that do not decode, or would take more
// bytes together than apart. The batches are never changed.
func MergeSmall(batches []Batch) []Batch {
	work := int64(mergeInflated)
	for _, b := range batches {
		work += mergeRatio * int64(len(b))
	}
	merged := make([]Batch, 0, len(batches))
	for len(batches) > 0 {
		n := smallRun(batches)
		if n > 1 && work > 0 {
			b, joined, inflated := mergeFirst(batches[:n], int(min(work, mergeInflated)))
			work -= int64(inflated)
			if n = joined; b != nil {
				merged, batches = append(merged, b), batches[n:]
				continue
			}
		}
		n = max(n, 1)
		merged, batches = append(merged, batches[:n]...), batches[n:]
	}
	return merged
}

// smallRun is how many of the first batches could be joined by their sizes.
func smallRun(batches []Batch) int {
	size := 0
	for i, b := range batches {
		if size += len(b); size > mergeSize || !Mergeable(b) {
			return i
		}
	}
	return len(batches)
}

// mergeFirst joins the first n batches: all, or those before one that does not fit or
// does not decode, and at least 1. b is nil if they should stay as they are. inflated
// is the most bytes of records that this can have inflated.
func mergeFirst(batches []Batch, maxInflated int) (b Batch, n, inflated int) {
	buf := buffers.Get().(*buffer)
	defer buf.release()
	m := Builder{buf: buf.p[:0]}
	defer func() { buf.p = m.buf }()
	size := 0
	for n < len(batches) {
		before := m
		if err := m.appendBatch(batches[n], maxInflated); err != nil {
			inflated = maxInflated // it may have failed at its last byte
			before.buf = m.buf[:len(before.buf)]
			m = before
			break
		}
		size += len(batches[n])
		inflated = m.Size()
		n++
	}
	if n < 2 {
		return nil, 1, inflated
	}
	b, err := m.Build()
	if err != nil || len(b) > size {
		return nil, n, inflated
	}
	return b, n, inflated
}

// appendBatch appends all records of batch, unless that would take what is
// there beyond maxInflated bytes of records. On an error some may have been
// appended.
func (b *Builder) appendBatch(batch Batch, maxInflated int) error {
	if err := batch.VerifyHeader(); err != nil {
		return err
	}
	if !unbound(batch) {
		return errNotMergeable
	}
	if b.codec == None {
		b.codec = batch.Codec()
	}
	left := maxInflated - (b.Size() - HeaderSize)
	return batch.walkDense(walking{maxInflated: left, bodies: true, free: true, fn: func(e entry) error {
		return b.appendEntry(batch.BaseTimestamp()+e.timestampDelta, e.body)
	}})
}
