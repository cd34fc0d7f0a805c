package record

import (
	"fmt"
	"sync"
)

// Each calls fn for every record in order. The records must not take more
// than maxInflated bytes when decompressed. The record and everything that it
// points to are valid only during the call, and are not to be changed.
//
// Compaction leaves holes between offsets, so they grow, but not always by
// one. Each does not look at the CRC: call Verify before.
//
// Errors: ErrTooLarge, ErrCorrupt, those of Verify's header check, and the error that
// fn returned, as it is; fn is not called again after it. On ErrCorrupt and ErrTooLarge
// records before the damage, or the limit, may have been handed to fn.
func (b Batch) Each(maxInflated int, fn func(*Record) error) error {
	d := decoders.Get().(*decoder)
	defer d.release()
	return b.walk(walking{maxInflated: maxInflated, bodies: true, fn: func(e entry) error {
		r := &d.record
		var ok bool
		if d.headers, ok = decodeBody(r, e.body, d.headers); !ok {
			return errBody
		}
		r.Offset = b.BaseOffset() + int64(e.offsetDelta)
		r.Timestamp = b.BaseTimestamp() + e.timestampDelta
		if b.LogAppendTime() {
			r.Timestamp = b.MaxTimestamp()
		}
		return fn(r)
	}})
}

// VerifyRecords proves what Verify does not: every record decodes, the offset deltas
// are 0, 1, 2 … without a hole, count and lengths are exact, and there is at least one
// record. It does not look at the CRC.
//
// Errors: ErrTooLarge when the records inflate beyond maxInflated bytes,
// ErrCorrupt, and those of Verify's header check.
func (b Batch) VerifyRecords(maxInflated int) error {
	_, err := b.verifyRecords(maxInflated)
	return err
}

// Admit is VerifyRecords for a batch that goes into a log. As Kafka's brokers do, it
// also corrects a wrong maximum timestamp in place, and with it the CRC: some clients
// get it wrong when a batch is not in the order of time, and searching a log by time
// depends on it.
func (b Batch) Admit(maxInflated int) error {
	latest, err := b.verifyRecords(maxInflated)
	if err != nil {
		return err
	}
	if !b.LogAppendTime() && b.MaxTimestamp() != latest {
		b.setMaxTimestamp(latest)
	}
	return nil
}

// verifyRecords returns the largest timestamp of the records.
func (b Batch) verifyRecords(maxInflated int) (latest int64, err error) {
	err = b.walkDense(walking{maxInflated: maxInflated, fn: func(e entry) error {
		t := b.BaseTimestamp() + e.timestampDelta
		if e.offsetDelta == 0 || t > latest {
			latest = t
		}
		return nil
	}})
	return latest, err
}

// walkDense is walk for a batch whose offsets have no holes. It has checked the body of
// every entry that w.fn gets.
func (b Batch) walkDense(w walking) error {
	if err := b.VerifyHeader(); err != nil {
		return err
	}
	if count, last := b.Count(), b.LastOffsetDelta(); count != last+1 {
		return fmt.Errorf("%w: %d records in %d+1 offsets", ErrCorrupt, count, last)
	}
	// With as many records as offsets, deltas that grow are dense.
	fn := w.fn
	w.fn = func(e entry) error {
		if !e.checked && !checkBody(e.body) {
			return errBody
		}
		return fn(e)
	}
	return b.walk(w)
}

// maxCap bounds the caps of callers, so that sizes fit an int on a 32-bit machine.
const maxCap = 1 << 30

// errBody is what the callbacks of walk return for a body that does not decode.
var errBody = fmt.Errorf("%w: key, value or headers of a record", ErrCorrupt)

// walk calls w.fn for each record, with the deltas checked, and the body only where
// it says so. Entries are valid only during the call.
func (b Batch) walk(w walking) error {
	if err := b.VerifyHeader(); err != nil {
		return err
	}
	w.maxInflated = max(0, min(w.maxInflated, maxCap))
	if b.Codec() == None {
		return b.walkPlain(b[HeaderSize:], w)
	}
	return b.inflated(w)
}

// walkPlain walks uncompressed records.
func (b Batch) walkPlain(p []byte, w walking) error {
	if len(p) > w.maxInflated {
		return fmt.Errorf("%w: %d bytes of records, at most %d allowed", ErrTooLarge, len(p), w.maxInflated)
	}
	if err := checkCount(b.Count(), len(p)); err != nil {
		return err
	}
	last, limit, base := int32(-1), b.LastOffsetDelta(), b.BaseTimestamp()
	for i := range b.Count() {
		e, rest, ok := cutEntry(p)
		switch {
		case !ok:
			return fmt.Errorf("%w: record %d does not decode", ErrCorrupt, i)
		case e.offsetDelta <= last || e.offsetDelta > limit || overflows(base, e.timestampDelta):
			return b.checkEntry(e, i, last)
		}
		if err := w.fn(e); err != nil {
			return err
		}
		p, last = rest, e.offsetDelta
	}
	if len(p) > 0 {
		return fmt.Errorf("%w: %d bytes behind its last record", ErrCorrupt, len(p))
	}
	return nil
}

// checkEntry finds what is wrong with the deltas of record i; the one before it has
// the offset delta last.
func (b Batch) checkEntry(e entry, i, last int32) error {
	switch limit := b.LastOffsetDelta(); {
	case e.offsetDelta <= last || e.offsetDelta > limit:
		return fmt.Errorf("%w: record %d has offset delta %d after %d, at most %d allowed",
			ErrCorrupt, i, e.offsetDelta, last, limit)
	case overflows(b.BaseTimestamp(), e.timestampDelta):
		return fmt.Errorf("%w: record %d has timestamp delta %d", ErrCorrupt, i, e.timestampDelta)
	}
	return nil
}

// overflows reports whether a+d overflows.
func overflows(a, d int64) bool { return (a+d >= a) != (d >= 0) }

// decoder is what Each needs for one batch.
type decoder struct {
	record  Record
	headers []Header
}

// decoders and buffers are shared by the whole program. They hold memory, not state.
var decoders = sync.Pool{New: func() any { return new(decoder) }}

// maxSpareHeaders bounds what a pooled decoder keeps.
const maxSpareHeaders = 64

// release keeps the header keys, which the next batch probably has again, and
// lets go of everything that points into this one.
func (d *decoder) release() {
	d.record = Record{}
	d.headers = d.headers[:min(len(d.headers), maxSpareHeaders)]
	for i := range d.headers {
		d.headers[i].Value = nil
	}
	decoders.Put(d)
}

// buffer is scratch space for inflated records, or deflated ones.
type buffer struct{ p []byte }

var buffers = sync.Pool{New: func() any { return new(buffer) }}

// maxSpareBuffer bounds what a pooled buffer keeps, so that one huge batch
// does not stay for good. An lz4 block of the usual frame asks for room of 4 MiB,
// whatever it holds.
const maxSpareBuffer = 8 << 20

func (b *buffer) release() {
	if cap(b.p) <= maxSpareBuffer {
		buffers.Put(b)
	}
}
