package coding

import (
	"bytes"
	"encoding/binary"
	"math"
	"testing"
)

// body has a field of each kind.
func body() []byte {
	b := []byte{7}
	b = binary.BigEndian.AppendUint16(b, 1<<9)
	b = binary.BigEndian.AppendUint32(b, 1<<20)
	b = binary.BigEndian.AppendUint64(b, 1<<40)
	b = append(b, bytes.Repeat([]byte{9}, 16)...)
	b = binary.AppendUvarint(b, 127)
	b = binary.AppendUvarint(b, math.MaxUint64)
	b = binary.AppendVarint(b, -5)
	b = binary.AppendVarint(b, math.MinInt64)
	b = binary.AppendUvarint(b, math.MaxInt32)
	b = AppendString(b, "some text")
	b = AppendString(b, "")
	b = append(binary.AppendUvarint(b, 2), "abcd"...)
	return b
}

// read reads the fields of body and reports whether all have their values.
func read(d *Decoder) bool {
	same := d.Byte() == 7 && d.Uint16() == 1<<9 && d.Uint32() == 1<<20 && d.Uint64() == 1<<40 && d.ID() == [16]byte(bytes.Repeat([]byte{9}, 16)) &&
		d.Uvarint() == 127 && d.Uvarint() == math.MaxUint64 && d.Varint() == -5 && d.Varint() == math.MinInt64 && d.Int31() == math.MaxInt32 &&
		d.String() == "some text" && d.String() == "" && d.Count(2) == 2
	return same && string(d.Rest()) == "abcd"
}

func TestDecoder(t *testing.T) {
	whole := body()
	d := NewDecoder(whole)
	if !read(&d) || !d.Done() || d.Bad() || d.Len() != 0 {
		t.Errorf("read back differs, with %d bytes left", d.Len())
	}
	for n := range whole {
		d := NewDecoder(whole[:n])
		if read(&d) {
			t.Errorf("the first %d of %d bytes are enough", n, len(whole))
		}
	}
}

// TestBad: a field that does not fit leaves nothing, and zeros follow.
func TestBad(t *testing.T) {
	for name, c := range map[string]struct {
		body []byte
		read func(d *Decoder)
	}{
		"too few bytes":           {[]byte{1, 2}, func(d *Decoder) { d.Take(3) }},
		"unfinished varint":       {[]byte{0x80}, func(d *Decoder) { d.Uvarint() }},
		"varint of 65 bits":       {bytes.Repeat([]byte{0xff}, 10), func(d *Decoder) { d.Uvarint() }},
		"varint with a zero more": {[]byte{0x81, 0x00}, func(d *Decoder) { d.Uvarint() }},
		"signed, with one more":   {[]byte{0x81, 0x00}, func(d *Decoder) { d.Varint() }},
		"more than the limit":     {[]byte{6, 1}, func(d *Decoder) { d.UpTo(5) }},
		"33 bits":                 {binary.AppendUvarint(nil, math.MaxInt32+1), func(d *Decoder) { d.Int31() }},
		"more items than bytes":   {[]byte{2, 1, 1, 1}, func(d *Decoder) { d.Count(2) }},
		"text that is cut short":  {[]byte{3, 'a', 'b'}, func(d *Decoder) { _ = d.String() }},
		"nonsense":                {[]byte{3, 'a', 'b'}, (*Decoder).Fail},
	} {
		d := NewDecoder(c.body)
		c.read(&d)
		if !d.Bad() || d.Done() || d.Len() != 0 || d.Byte() != 0 || d.Uvarint() != 0 || d.String() != "" || len(d.Rest()) != 0 {
			t.Errorf("%s: bad %v, %d bytes left", name, d.Bad(), d.Len())
		}
	}
}

// TestTakeIsCapped: an append to what was taken does not reach what follows.
func TestTakeIsCapped(t *testing.T) {
	d := NewDecoder([]byte("abcd"))
	_ = append(d.Take(2), 'x')
	if rest := string(d.Rest()); rest != "cd" {
		t.Errorf("%q follows", rest)
	}
}
