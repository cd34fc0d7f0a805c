package wire

import (
	"encoding/binary"
	"unicode/utf8"

	"github.com/weirmq/weir/storage/coding"
)

// MaxShortString is the length in bytes of the longest short string.
const MaxShortString = 255

// decoder takes fields off the front of the arguments of a method, or of properties.
type decoder struct {
	coding.Decoder
	err *Error // the first field that was complete and not valid
}

func newDecoder(p []byte) decoder { return decoder{Decoder: coding.NewDecoder(p)} }

func (d *decoder) fail(e *Error) {
	if d.err == nil {
		d.err = e
	}
	d.Fail()
}

// end is the result of decoding args: nil if they have been used up exactly.
func (d *decoder) end(id MethodID, args []byte) error {
	if d.err != nil {
		d.err.Method = id
		return d.err
	}
	if !d.Done() {
		return failed(FrameError, id, "cannot decode %s", appendOctets(nil, args[:min(len(args), MaxShortString)]))
	}
	return nil
}

// short reads a short string, as part of what is decoded.
func (d *decoder) short() []byte { return d.Take(uint64(d.Byte())) }

// name reads a short string of a method, which must be UTF-8, into s. If s has this value
// already, nothing is allocated.
func (d *decoder) name(s *string) {
	b := d.short()
	if !utf8.Valid(b) {
		d.fail(failed(FrameError, 0, "Malformed UTF-8 in shortstr"))
		return
	}
	set(s, b)
}

// text reads a short string of any bytes into s.
func (d *decoder) text(s *string) { set(s, d.short()) }

func set(s *string, b []byte) {
	if *s != string(b) {
		*s = string(b)
	}
}

// long reads a long string, as part of what is decoded.
func (d *decoder) long() []byte { return d.Take(uint64(d.Uint32())) }

// copyLong reads a long string into memory of its own.
func (d *decoder) copyLong() []byte { return append([]byte(nil), d.long()...) }

// table reads a field table, as part of what is decoded.
func (d *decoder) table() Table {
	t, err := ParseTable(d.long())
	if err != nil {
		d.fail(err)
	}
	return t
}

func appendShort(b []byte, s string) []byte {
	return append(append(b, byte(len(s))), s...)
}

func appendLong(b, p []byte) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(p))), p...)
}

// bit returns an octet with bit n set to v.
func bit(v bool, n int) byte {
	if v {
		return 1 << n
	}
	return 0
}
