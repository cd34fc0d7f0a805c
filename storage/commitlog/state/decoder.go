package state

import (
	"encoding/binary"
	"fmt"
	"math"
)

// decoder takes fields off the front of a body. Once something is missing bad
// is set and everything that follows is zero; the caller asks at the end.
type decoder struct {
	what string
	p    []byte
	bad  bool
	err  error    // the cause, if a later version wrote the body
	zero [16]byte // what take returns when bytes are missing; as long as the longest fixed field
}

// newDecoder checks the version of a body.
func newDecoder(what string, body []byte) (*decoder, error) {
	d, _, err := newVersionDecoder(what, body, bodyVersion)
	return d, err
}

// newVersionDecoder is newDecoder for an entry of which there are versions from 1 to
// newest.
func newVersionDecoder(what string, body []byte, newest byte) (d *decoder, version byte, err error) {
	d = &decoder{what: what, p: body}
	if version = d.u8(); d.bad {
		return nil, 0, d.corrupt("it is empty")
	} else if version < 1 || version > newest {
		return nil, 0, fmt.Errorf("%w: %s entry of version %d, this program knows %d", ErrFormat, what, version, newest)
	}
	return d, version, nil
}

// later notes that only a later version can read the body.
func (d *decoder) later(format string, args ...any) {
	if d.bad = true; d.err == nil {
		d.err = fmt.Errorf("%w: %s", ErrFormat, fmt.Sprintf(format, args...))
	}
}

func (d *decoder) corrupt(why string) error {
	return fmt.Errorf("%w: %s entry: %s", ErrCorrupt, d.what, why)
}

// end returns an error unless the body was whole and nothing is left of it.
func (d *decoder) end() error {
	if d.err != nil {
		return d.err
	}
	if d.bad || len(d.p) > 0 {
		return d.corrupt("its fields do not fill it")
	}
	return nil
}

// take returns the next n bytes, which alias the body.
func (d *decoder) take(n int) []byte {
	if d.bad || n < 0 || n > len(d.p) {
		d.bad = true
		if n < 0 || n > len(d.zero) {
			n = 0
		}
		return d.zero[:n]
	}
	b := d.p[:n]
	d.p = d.p[n:]
	return b
}

func (d *decoder) u8() byte    { return d.take(1)[0] }
func (d *decoder) u16() uint16 { return binary.BigEndian.Uint16(d.take(2)) }
func (d *decoder) u32() uint32 { return binary.BigEndian.Uint32(d.take(4)) }
func (d *decoder) u64() uint64 { return binary.BigEndian.Uint64(d.take(8)) }

func (d *decoder) string() string { return string(d.take(int(d.u16()))) }

// uvarint takes a number in its shortest form; a longer one is an error, so
// that equal entries are equal bytes.
func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.p)
	if d.bad || n <= 0 || n > 1 && d.p[n-1] == 0 {
		d.bad = true
		return 0
	}
	d.p = d.p[n:]
	return v
}

// varint takes a signed number in its shortest form.
func (d *decoder) varint() int64 {
	u := d.uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

// uvarint32 takes a number of at most 32 bits.
func (d *decoder) uvarint32() uint32 {
	v := d.uvarint()
	if v > math.MaxUint32 {
		d.bad = true
	}
	return uint32(v)
}

// offset takes a number of at most 63 bits.
func (d *decoder) offset() int64 {
	v := d.uvarint()
	if v > math.MaxInt64 {
		d.bad = true
		return 0
	}
	return int64(v)
}

// nameLength takes the length of a gateway's id.
func (d *decoder) nameLength() int {
	n := d.uvarint()
	if n == 0 || n > MaxName {
		d.bad = true
		return 0
	}
	return int(n)
}

// count returns n if n items of at least size bytes can follow, else 0, so that a wrong
// number allocates nothing.
func (d *decoder) count(n uint32, size int) int {
	if d.bad || int64(n)*int64(size) > int64(len(d.p)) {
		d.bad = true
		return 0
	}
	return int(n)
}

// text takes a string of any length.
func (d *decoder) text() string {
	n := int(d.u16())
	if d.bad || n > len(d.p) {
		d.bad = true
		return ""
	}
	return string(d.take(n))
}

// bytes takes as many bytes as a number before them says; they alias the body.
func (d *decoder) bytes(n uint32) []byte {
	if uint64(n) > uint64(len(d.p)) {
		d.bad = true
		return nil
	}
	return d.take(int(n))
}

// configs takes what appendConfigs writes.
func (d *decoder) configs() map[string]string {
	n := d.count(uint32(d.u16()), 2+2)
	configs := make(map[string]string, n)
	last := ""
	for i := range n {
		key := d.string()
		if i > 0 && key <= last {
			d.bad = true
		}
		configs[key], last = d.string(), key
	}
	return configs
}
