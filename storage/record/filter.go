package record

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

// deleteHorizonFlag says that the base timestamp is a delete horizon (KIP-534).
const deleteHorizonFlag = 0x40

// DeleteHorizon is the time, in milliseconds since 1970, from which on compaction may
// remove the tombstones of the batch (KIP-534). ok reports whether it has one. It takes
// the place of the base timestamp, and the records' timestamps count from it.
func (b Batch) DeleteHorizon() (ms int64, ok bool) {
	if b.attributes()&deleteHorizonFlag == 0 {
		return 0, false
	}
	return b.BaseTimestamp(), true
}

// Filter returns a batch of those records of b that keep wants. It has b's base offset,
// last offset delta, leader epoch, producer, attributes and compression, and the
// records their offsets and timestamps; only the highest timestamp, the count and the
// CRC are new. If all records are kept, Filter returns b itself; if none is kept, nil;
// otherwise the result belongs to the caller. b is not changed. The record is valid
// only during the call of keep. Filter does not look at the CRC.
//
// Errors: as Each; ErrTooLarge also when what is left cannot be expressed.
func Filter(b Batch, keep func(*Record) bool, maxInflated int) (Batch, error) {
	f := filter{keep: keep}
	return f.batch(b, maxInflated)
}

// FilterUntil is Filter, but its result has a delete horizon, in milliseconds since
// 1970, and is never b itself.
//
// Errors: as Filter. ErrTooLarge also when the distance of a timestamp from the
// horizon does not fit the format.
func FilterUntil(b Batch, keep func(*Record) bool, horizon int64, maxInflated int) (Batch, error) {
	f := filter{keep: keep, moves: true, base: horizon}
	return f.batch(b, maxInflated)
}

// filter makes a batch of some records of another.
type filter struct {
	keep  func(*Record) bool
	moves bool  // the timestamps count from base from now on, which is a delete horizon
	base  int64 // base timestamp of the result

	kept   int32
	latest int64  // highest timestamp of those
	buf    []byte // room for the header, then those records
}

func (f *filter) batch(b Batch, maxInflated int) (Batch, error) {
	if err := b.VerifyHeader(); err != nil {
		return nil, err
	}
	buf := buffers.Get().(*buffer)
	defer buf.release()
	f.buf = append(buf.p[:0], b[:HeaderSize]...)
	defer func() { buf.p = f.buf }()
	if !f.moves {
		f.base = b.BaseTimestamp()
	}
	d := decoders.Get().(*decoder)
	defer d.release()
	err := b.walk(walking{maxInflated: maxInflated, bodies: true, fn: func(e entry) error {
		r := &d.record
		var ok bool
		if d.headers, ok = decodeBody(r, e.body, d.headers); !ok {
			return errBody
		}
		r.Offset = b.BaseOffset() + int64(e.offsetDelta)
		created := b.BaseTimestamp() + e.timestampDelta
		r.Timestamp = created
		if b.LogAppendTime() {
			r.Timestamp = b.MaxTimestamp()
		}
		if !f.keep(r) {
			return nil
		}
		return f.append(e, created)
	}})
	switch {
	case err != nil:
		return nil, err
	case f.kept == 0:
		return nil, nil
	case f.kept == b.Count() && !f.moves:
		return b, nil
	}
	return f.finish(b)
}

// append copies a record. Only its timestamp delta may change.
func (f *filter) append(e entry, created int64) error {
	delta := created - f.base
	if (delta >= 0) != (created >= f.base) {
		return fmt.Errorf("%w: timestamps %d and %d in one batch", ErrTooLarge, f.base, created)
	}
	size := 1 + int64(varintSize(delta)+varintSize(int64(e.offsetDelta))) + int64(len(e.body))
	if total := int64(len(f.buf)) + int64(varintSize(size)) + size; size > math.MaxInt32 || total > maxBatch {
		return fmt.Errorf("%w: %d records in %d bytes", ErrTooLarge, f.kept, total)
	}
	f.buf = grow(f.buf, varintSize(size)+int(size))
	f.buf = appendVarint(f.buf, size)
	f.buf = append(f.buf, 0) // attributes
	f.buf = appendVarint(f.buf, delta)
	f.buf = appendVarint(f.buf, int64(e.offsetDelta))
	f.buf = append(f.buf, e.body...)
	if f.kept == 0 || created > f.latest {
		f.latest = created
	}
	f.kept++
	return nil
}

// finish compresses what was kept as b is, and writes the header.
func (f *filter) finish(b Batch) (Batch, error) {
	out := Batch(f.buf)
	if c := b.Codec(); c != None {
		buf := buffers.Get().(*buffer)
		defer buf.release()
		var err error
		if buf.p, err = c.deflate(append(buf.p[:0], f.buf[:HeaderSize]...), f.buf[HeaderSize:]); err != nil {
			return nil, fmt.Errorf("deflate %v records: %w", c, err)
		}
		out = buf.p
	}
	if int64(len(out)) > maxBatch {
		return nil, fmt.Errorf("%w: %d bytes", ErrTooLarge, len(out))
	}
	out = slices.Clone(out)
	be := binary.BigEndian
	be.PutUint32(out[atLength:], uint32(len(out)-lengthFrom))
	be.PutUint32(out[atCount:], uint32(f.kept))
	if f.moves {
		be.PutUint16(out[atAttributes:], b.attributes()|deleteHorizonFlag)
		be.PutUint64(out[atBaseTimestamp:], uint64(f.base))
	}
	if !b.LogAppendTime() {
		be.PutUint64(out[atMaxTimestamp:], uint64(f.latest))
	}
	out.seal()
	return out, nil
}
