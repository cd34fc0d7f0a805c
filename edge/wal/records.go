package wal

import (
	"encoding/binary"
	"math"

	"github.com/weirmq/weir/storage/coding"
	"github.com/weirmq/weir/storage/record"
)

// FrameOverhead is how many bytes a batch takes on the disk in addition to the Size of
// its records.
const FrameOverhead = headerSize + maxPrefix

// minRecord is the length of the smallest encoded record: topic, timestamp,
// key, value and header count, a byte each.
const minRecord = 5

// Size returns the largest number of bytes that r takes in a frame.
func Size(r *Record) int64 {
	n := int64(6*binary.MaxVarintLen32) + int64(len(r.Topic)+len(r.Key)+len(r.Value))
	for i := range r.Headers {
		n += 2*binary.MaxVarintLen32 + int64(len(r.Headers[i].Key)+len(r.Headers[i].Value))
	}
	return n
}

// appendRecords appends the body of a records frame. The byte table is in
// FORMAT.md.
func appendRecords(dst []byte, recs []Record) []byte {
	topic, clock := "", int64(0)
	for i := range recs {
		r := &recs[i]
		if i > 0 && r.Topic == topic {
			dst = append(dst, 0)
		} else {
			dst = binary.AppendUvarint(dst, uint64(len(r.Topic))+1)
			dst = append(dst, r.Topic...)
		}
		dst = binary.AppendVarint(dst, r.Timestamp-clock)
		topic, clock = r.Topic, r.Timestamp
		dst = appendNullable(dst, r.Key)
		dst = appendNullable(dst, r.Value)
		dst = binary.AppendUvarint(dst, uint64(len(r.Headers)))
		for _, h := range r.Headers {
			dst = binary.AppendUvarint(dst, uint64(len(h.Key)))
			dst = append(dst, h.Key...)
			dst = appendNullable(dst, h.Value)
		}
	}
	return dst
}

// appendNullable appends a length plus one and the bytes; 0 is null.
func appendNullable(dst, p []byte) []byte {
	if p == nil {
		return append(dst, 0)
	}
	dst = binary.AppendUvarint(dst, uint64(len(p))+1)
	return append(dst, p...)
}

// decodeRecords returns the records of a frame, beginning with sequence from. They alias
// body. It accepts only what appendRecords wrote, and allocates no more than a small
// multiple of len(body).
func decodeRecords(body []byte, h header, from uint64) ([]Item, error) {
	if uint64(h.count) > uint64(len(body))/minRecord {
		return nil, corrupt("%d records in %d bytes", h.count, len(body))
	}
	items := make([]Item, 0, h.last()-max(from, h.first)+1)
	c := newDecoder(body)
	var r Record
	var headers []record.Header // of the previous record, whose names are reused
	for i := range uint64(h.count) {
		if n := c.Uvarint(); n > 0 {
			r.Topic = string(c.Take(n - 1))
		} else if i == 0 {
			return nil, corrupt("first record has no topic")
		}
		r.Timestamp += c.Varint()
		r.Key = c.nullable()
		r.Value = c.nullable()
		r.Headers = c.headers(headers)
		headers = r.Headers
		if c.Bad() {
			return nil, corrupt("record %d of %d ends early", i+1, h.count)
		}
		if seq := h.first + i; seq >= from {
			items = append(items, Item{Seq: seq, Record: r})
		}
	}
	if c.Len() > 0 {
		return nil, corrupt("%d bytes behind the last record", c.Len())
	}
	return items, nil
}

// decoder reads the fields of a record.
type decoder struct{ coding.Decoder }

func newDecoder(body []byte) decoder { return decoder{coding.NewDecoder(body)} }

// nullable reads a length plus one and the bytes; 0 is null.
func (c *decoder) nullable() []byte {
	n := c.Uvarint()
	if n == 0 {
		return nil
	}
	return c.Take(n - 1)
}

// headers reads a record's headers. A name is not allocated again if the previous record
// has it at the same index.
func (c *decoder) headers(before []record.Header) []record.Header {
	n := c.Uvarint()
	if n == 0 {
		return nil
	}
	if n > uint64(c.Len())/2 || n > record.MaxHeaders {
		c.Fail()
		return nil
	}
	hs := make([]record.Header, n)
	for i := range hs {
		key := c.Take(c.Uvarint())
		if i < len(before) && before[i].Key == string(key) {
			hs[i].Key = before[i].Key
		} else {
			hs[i].Key = string(key)
		}
		hs[i].Value = c.nullable()
	}
	return hs
}

// checkRecords refuses a batch that decodeRecords would not accept.
func checkRecords(recs []Record) (size int64, err error) {
	for i := range recs {
		if len(recs[i].Headers) > record.MaxHeaders {
			return 0, ErrTooLarge
		}
		size += Size(&recs[i])
		if size > maxBody {
			return 0, ErrTooLarge
		}
	}
	if len(recs) > math.MaxInt32 {
		return 0, ErrTooLarge
	}
	return size, nil
}
