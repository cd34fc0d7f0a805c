package record

import (
	"slices"
	"sort"
)

// Opened is a batch whose records can be decoded one by one, in any order. It has a copy
// of what it needs, does not change, and can be used by several goroutines.
type Opened struct {
	base, next int64 // offsets
	bodies     []byte
	spans      []span
}

// span is where the body of a record lies, and what was before the body.
type span struct {
	timestamp   int64
	offsetDelta int32
	end         uint32 // in bodies; the next one begins there
}

// Open copies a batch and finds its records, without decoding them. The records must not
// take more than maxInflated bytes when decompressed. Errors are those of Each, but for
// those of key, value and headers.
func (b Batch) Open(maxInflated int) (*Opened, error) {
	o := &Opened{base: b.BaseOffset(), next: b.NextOffset()}
	if b.Codec() == None {
		o.bodies = make([]byte, 0, len(b)-HeaderSize)
		o.spans = make([]span, 0, min(int(b.Count()), len(b)/minRecordSize))
	}
	err := b.walk(walking{maxInflated: maxInflated, bodies: true, fn: func(e entry) error {
		o.bodies = append(o.bodies, e.body...)
		s := span{b.BaseTimestamp() + e.timestampDelta, e.offsetDelta, uint32(len(o.bodies))}
		if b.LogAppendTime() {
			s.timestamp = b.MaxTimestamp()
		}
		o.spans = append(o.spans, s)
		return nil
	}})
	if err != nil {
		return nil, err
	}
	o.bodies, o.spans = slices.Clip(o.bodies), slices.Clip(o.spans)
	return o, nil
}

// BaseOffset and NextOffset are those of the batch.
func (o *Opened) BaseOffset() int64 { return o.base }

// NextOffset is the offset behind the batch.
func (o *Opened) NextOffset() int64 { return o.next }

// Size is how many bytes of memory it takes, about.
func (o *Opened) Size() int { return len(o.bodies) + 16*len(o.spans) }

// Decode decodes the record with an offset into r, false if the batch has none. The
// headers of r are used again. Key, Value and the values of headers are not to be
// changed: they are those of the batch. Errors: ErrCorrupt.
func (o *Opened) Decode(offset int64, r *Record) (bool, error) {
	i := sort.Search(len(o.spans), func(i int) bool { return o.base+int64(o.spans[i].offsetDelta) >= offset })
	if i == len(o.spans) || o.base+int64(o.spans[i].offsetDelta) != offset {
		return false, nil
	}
	begin := uint32(0)
	if i > 0 {
		begin = o.spans[i-1].end
	}
	end := o.spans[i].end
	headers, ok := decodeBody(r, o.bodies[begin:end:end], r.Headers[:cap(r.Headers)])
	if !ok {
		return false, errBody
	}
	r.Headers = headers[:len(r.Headers)]
	r.Offset, r.Timestamp = offset, o.spans[i].timestamp
	return true, nil
}
