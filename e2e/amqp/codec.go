package amqp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

var errShort = errors.New("frame ends too early")

// widths of the numbers of tables, in bytes.
func width(kind byte) int {
	switch kind {
	case 't', 'b', 'B':
		return 1
	case 's', 'u':
		return 2
	case 'I', 'i', 'f':
		return 4
	default: // l, T, d
		return 8
	}
}

func appendNumber(b []byte, n uint64, width int) []byte {
	for i := width - 1; i >= 0; i-- {
		b = append(b, byte(n>>(8*i)))
	}
	return b
}

func appendShort(b []byte, s string) ([]byte, error) {
	if len(s) > 255 {
		return nil, errors.New("short string of more than 255 bytes")
	}
	return append(append(b, byte(len(s))), s...), nil
}

func appendLong(b []byte, s string) []byte {
	return append(appendNumber(b, uint64(len(s)), 4), s...)
}

func appendFields(b []byte, all fields, named bool) ([]byte, error) {
	start := len(b)
	b = append(b, 0, 0, 0, 0)
	var err error
	for _, f := range all {
		if named {
			if b, err = appendShort(b, f.name); err != nil {
				return nil, err
			}
		}
		b = append(b, f.kind)
		switch data := f.data.(type) {
		case nil:
		case string:
			b = appendLong(b, data)
		case float64:
			if f.kind == 'f' {
				b = appendNumber(b, uint64(math.Float32bits(float32(data))), 4)
			} else {
				b = appendNumber(b, math.Float64bits(data), 8)
			}
		case int64:
			b = appendNumber(b, uint64(data), width(f.kind))
		case fields:
			if b, err = appendFields(b, data, f.kind == 'F'); err != nil {
				return nil, err
			}
		}
	}
	binary.BigEndian.PutUint32(b[start:], uint32(len(b)-start-4))
	return b, nil
}

// appendArguments appends the values of the arguments; one that is not given is zero.
func appendArguments(b []byte, all []argument, given map[string]any) ([]byte, error) {
	bit := 8 // of the last byte; 8: that is full
	var err error
	for _, a := range all {
		v := given[a.name]
		if a.kind == 'b' {
			if bit == 8 {
				b, bit = append(b, 0), 0
			}
			if set, _ := v.(bool); set {
				b[len(b)-1] |= 1 << bit
			}
			bit++
			continue
		}
		bit = 8
		switch a.kind {
		case 'T':
			all, _ := v.(fields)
			b, err = appendFields(b, all, true)
		case 'S':
			s, _ := v.(string)
			b, err = appendShort(b, s)
		case 'G':
			s, _ := v.(string)
			b = appendLong(b, s)
		default:
			n, _ := v.(uint64)
			b = appendNumber(b, n, map[byte]int{'o': 1, 's': 2, 'l': 4, 'L': 8}[a.kind])
		}
		if err != nil {
			return nil, fmt.Errorf("write %s: %w", a.name, err)
		}
	}
	return b, nil
}

// decoder reads a payload; after the first error it reads zeros.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) take(n int) []byte {
	if d.err != nil || n > len(d.b) {
		d.err = errShort
		return nil
	}
	b := d.b[:n]
	d.b = d.b[n:]
	return b
}

func (d *decoder) number(width int) uint64 {
	var n uint64
	for _, c := range d.take(width) {
		n = n<<8 | uint64(c)
	}
	return n
}

func (d *decoder) short() string { return string(d.take(int(d.number(1)))) }
func (d *decoder) long() string  { return string(d.take(int(d.number(4)))) }

func (d *decoder) fields(named bool) fields {
	inner := decoder{b: d.take(int(d.number(4)))}
	all := fields{}
	for len(inner.b) > 0 && inner.err == nil {
		var f field
		if named {
			f.name = inner.short()
		}
		f.value = inner.value()
		all = append(all, f)
	}
	if inner.err != nil {
		d.err = inner.err
	}
	return all
}

func (d *decoder) value() value {
	v := value{kind: byte(d.number(1))}
	switch v.kind {
	case 'V':
	case 'S', 'x':
		v.data = d.long()
	case 'F', 'A':
		v.data = d.fields(v.kind == 'F')
	case 'f':
		v.data = float64(math.Float32frombits(uint32(d.number(4))))
	case 'd':
		v.data = math.Float64frombits(d.number(8))
	case 't', 'b', 'B', 's', 'u', 'I', 'i', 'l', 'T':
		n := d.number(width(v.kind))
		switch v.kind {
		case 'b':
			v.data = int64(int8(n))
		case 's':
			v.data = int64(int16(n))
		case 'I':
			v.data = int64(int32(n))
		default:
			v.data = int64(n)
		}
	default:
		d.err = fmt.Errorf("field of unknown type %q", v.kind)
	}
	return v
}

func (d *decoder) arguments(all []argument) map[string]any {
	got := make(map[string]any)
	bit, flags := 8, uint64(0)
	for _, a := range all {
		if a.kind == 'b' {
			if bit == 8 {
				bit, flags = 0, d.number(1)
			}
			got[a.name] = flags>>bit&1 == 1
			bit++
			continue
		}
		bit = 8
		switch a.kind {
		case 'T':
			got[a.name] = d.fields(true)
		case 'S':
			got[a.name] = d.short()
		case 'G':
			got[a.name] = d.long()
		default:
			got[a.name] = d.number(map[byte]int{'o': 1, 's': 2, 'l': 4, 'L': 8}[a.kind])
		}
	}
	return got
}
