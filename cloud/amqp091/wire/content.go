package wire

import (
	"encoding/binary"
	"fmt"
)

// contentHeaderLen is what precedes the properties in the payload of a header frame:
// class, weight, and the size of the body.
const contentHeaderLen = 2 + 2 + 8

// ContentHeader follows a method that has content.
type ContentHeader struct {
	Class      uint16
	Size       uint64 // of the body in bytes
	Properties []byte // as Properties.Append writes them
}

// weight returns the reserved field of a content header, which must be 0.
func weight(payload []byte) uint16 { return binary.BigEndian.Uint16(payload[2:]) }

// SplitHeader returns what is in the payload of a header frame; the properties are part of
// it. They are not decoded. The payload must be one that Reader.Next returned: it is long
// enough then.
func SplitHeader(payload []byte) ContentHeader {
	return ContentHeader{
		Class:      binary.BigEndian.Uint16(payload),
		Size:       binary.BigEndian.Uint64(payload[4:]),
		Properties: payload[contentHeaderLen:],
	}
}

// Append appends the payload of a header frame.
func (h ContentHeader) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, h.Class)
	b = append(b, 0, 0)
	b = binary.BigEndian.AppendUint64(b, h.Size)
	return append(b, h.Properties...)
}

// PropertyFlags says which properties a content header has.
type PropertyFlags uint16

// moreFlags says that another 16 flags follow: no class has so many. Bit 1 is no property
// either; it is kept, as by RabbitMQ.
const moreFlags PropertyFlags = 1 << 0

// Append appends the flags, and the properties whose flags are set.
func (p *Properties) Append(b []byte) ([]byte, error) {
	if !p.fits() {
		return b, fmt.Errorf("properties: %w", ErrTooLong)
	}
	if p.Flags&moreFlags != 0 {
		return b, failed(SyntaxError, 0, "property flags %#04x are continued", uint16(p.Flags))
	}
	return p.encode(b), nil
}

// Decode reads what Append appended, and clears the properties that raw does not have.
// Headers is part of raw; all else is copied, but a text that p has already is not allocated
// again. Its error is an *Error: a hard one, which names no method.
func (p *Properties) Decode(raw []byte) error {
	d := newDecoder(raw)
	flags := PropertyFlags(d.Uint16())
	if flags&moreFlags != 0 {
		return failed(SyntaxError, 0, "property flags %#04x are continued", uint16(flags))
	}
	if gone := p.Flags &^ flags; gone != 0 {
		*p = Properties{}
	}
	p.Flags = flags
	p.decode(&d)
	if d.err != nil {
		return d.err
	}
	if !d.Done() {
		return failed(SyntaxError, 0, "cannot decode properties %s", appendOctets(nil, raw[:min(len(raw), MaxShortString)]))
	}
	return nil
}
