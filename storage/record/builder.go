package record

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

// maxBatch is the largest batch that a Kafka client can address. The length
// field could express 12 bytes more.
const maxBatch = math.MaxInt32

// Builder collects records and makes a Batch of them. The zero value builds
// uncompressed batches. It is not safe for use by several goroutines.
type Builder struct {
	codec Codec
	buf   []byte // room for the header, then the records, uncompressed
	count int32

	baseTimestamp int64
	maxTimestamp  int64

	idempotent    bool
	producerID    int64
	producerEpoch int16
	baseSequence  int32
}

// NewBuilder returns a builder of batches that are compressed with codec
// where that makes them smaller.
func NewBuilder(codec Codec) *Builder { return &Builder{codec: codec} }

// SetProducer makes the next batch one of an idempotent producer; sequence is
// that of its first record.
func (b *Builder) SetProducer(id int64, epoch int16, sequence int32) {
	b.idempotent = true
	b.producerID, b.producerEpoch, b.baseSequence = id, epoch, sequence
}

// Len is the number of records appended since Reset.
func (b *Builder) Len() int { return int(b.count) }

// Size is the length that the batch would have without compression, header
// included.
func (b *Builder) Size() int { return max(len(b.buf), HeaderSize) }

// Append copies r into the batch. Its offset delta is the number of records appended
// before it; r.Offset is ignored. On an error nothing was added, and the builder can go
// on.
//
// Errors: ErrTooLarge when the batch would exceed 2 GiB, when its count or a timestamp
// delta would overflow the format's integers, or when r has more than MaxHeaders
// headers.
func (b *Builder) Append(r *Record) error {
	if len(r.Headers) > MaxHeaders {
		return fmt.Errorf("%w: %d headers, at most %d allowed", ErrTooLarge, len(r.Headers), MaxHeaders)
	}
	if err := b.begin(r.Timestamp, bodySize(r)); err != nil {
		return err
	}
	b.buf = appendBody(b.buf, r)
	return nil
}

// appendEntry copies the body of a record that was part of another batch.
func (b *Builder) appendEntry(timestamp int64, body []byte) error {
	if err := b.begin(timestamp, int64(len(body))); err != nil {
		return err
	}
	b.buf = append(b.buf, body...)
	return nil
}

// begin writes a record without its body, and makes room for the body.
func (b *Builder) begin(timestamp, bodySize int64) error {
	if b.count == 0 {
		b.baseTimestamp, b.maxTimestamp = timestamp, timestamp
	}
	delta := timestamp - b.baseTimestamp
	if (delta >= 0) != (timestamp >= b.baseTimestamp) {
		return fmt.Errorf("%w: timestamps %d and %d in one batch", ErrTooLarge, b.baseTimestamp, timestamp)
	}
	size := 1 + int64(varintSize(delta)+varintSize(int64(b.count))) + bodySize
	if total := int64(b.Size()) + int64(varintSize(size)) + size; total > maxBatch || b.count == math.MaxInt32 {
		return fmt.Errorf("%w: %d records in %d bytes", ErrTooLarge, b.count, total)
	}
	if len(b.buf) == 0 {
		b.buf = append(b.buf, make([]byte, HeaderSize)...)
	}
	b.buf = grow(b.buf, varintSize(size)+int(size))
	b.buf = appendVarint(b.buf, size)
	b.buf = append(b.buf, 0) // attributes
	b.buf = appendVarint(b.buf, delta)
	b.buf = appendVarint(b.buf, int64(b.count))
	b.maxTimestamp = max(b.maxTimestamp, timestamp)
	b.count++
	return nil
}

// Build returns the batch, which belongs to the caller: base offset 0, leader
// epoch -1, create time. Records that compression would make larger stay
// plain. The builder is left as it is; Reset it before the next batch.
//
// Errors: ErrEmpty, ErrTooLarge.
func (b *Builder) Build() (Batch, error) {
	if b.count == 0 {
		return nil, ErrEmpty
	}
	batch, codec := Batch(b.buf), None
	if b.codec != None {
		buf := buffers.Get().(*buffer)
		defer buf.release()
		var err error
		buf.p = append(buf.p[:0], b.buf[:HeaderSize]...)
		if buf.p, err = b.codec.deflate(buf.p, b.buf[HeaderSize:]); err != nil {
			return nil, fmt.Errorf("deflate %v records: %w", b.codec, err)
		}
		if len(buf.p) < len(b.buf) {
			batch, codec = Batch(buf.p), b.codec
		}
	}
	batch = slices.Clone(batch)
	b.putHeader(batch, codec)
	return batch, nil
}

// Take is Build for a builder that is then Reset. What is not compressed is not copied: the
// builder begins with other memory.
func (b *Builder) Take() (Batch, error) {
	if b.codec != None || b.count == 0 {
		batch, err := b.Build()
		if err == nil {
			b.Reset()
		}
		return batch, err
	}
	batch := Batch(b.buf)
	b.putHeader(batch, None)
	b.buf = nil
	b.Reset()
	return batch, nil
}

// Grow makes room for n bytes of records, so that Append need not copy what is there.
func (b *Builder) Grow(n int) {
	if n > 0 && len(b.buf) == 0 {
		n += HeaderSize
	}
	b.buf = slices.Grow(b.buf, n)
}

// putHeader fills the HeaderSize bytes before the records.
func (b *Builder) putHeader(p Batch, codec Codec) {
	id, epoch, sequence := int64(-1), int16(-1), int32(-1)
	if b.idempotent {
		id, epoch, sequence = b.producerID, b.producerEpoch, b.baseSequence
	}
	be := binary.BigEndian
	p.SetBaseOffset(0)
	be.PutUint32(p[atLength:], uint32(len(p)-lengthFrom))
	p.SetLeaderEpoch(-1)
	p[atMagic] = magic
	be.PutUint16(p[atAttributes:], uint16(codec))
	be.PutUint32(p[atLastOffsetDelta:], uint32(b.count-1))
	be.PutUint64(p[atBaseTimestamp:], uint64(b.baseTimestamp))
	be.PutUint64(p[atMaxTimestamp:], uint64(b.maxTimestamp))
	be.PutUint64(p[atProducerID:], uint64(id))
	be.PutUint16(p[atProducerEpoch:], uint16(epoch))
	be.PutUint32(p[atBaseSequence:], uint32(sequence))
	be.PutUint32(p[atCount:], uint32(b.count))
	p.seal()
}

// Reset forgets the records and the producer, and keeps the codec and the
// memory.
func (b *Builder) Reset() {
	*b = Builder{codec: b.codec, buf: b.buf[:0]}
}
