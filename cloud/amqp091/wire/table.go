package wire

import (
	"iter"

	"github.com/weirmq/weir/storage/coding"
)

// maxDepth is how deeply tables and arrays may be nested. RabbitMQ has no limit but that of
// the frame.
const maxDepth = 64

// Table is a field table [AMQP 0-9-1 §4.2.5.5]: its bytes, which are known to be valid.
// Names may occur several times; the first one counts, as with RabbitMQ. The zero Table is
// empty.
type Table struct {
	raw []byte
}

// Array is a field array: its bytes, which are known to be valid.
type Array struct {
	raw []byte
}

// ParseTable checks raw, which is a table without its length. The table keeps pointing into
// it. The error names no method.
func ParseTable(raw []byte) (Table, *Error) {
	if !validTable(raw, maxDepth) {
		return Table{}, failed(SyntaxError, 0, "cannot decode table %s", appendOctets(nil, raw[:min(len(raw), MaxShortString)]))
	}
	return Table{raw}, nil
}

func validTable(raw []byte, depth int) bool {
	d := coding.NewDecoder(raw)
	for d.Len() > 0 {
		d.Take(uint64(d.Byte()))
		if !validValue(&d, depth) {
			return false
		}
	}
	return d.Done()
}

func validArray(raw []byte, depth int) bool {
	d := coding.NewDecoder(raw)
	for d.Len() > 0 {
		if !validValue(&d, depth) {
			return false
		}
	}
	return d.Done()
}

// validValue takes a value off d, and reports whether it is valid.
func validValue(d *coding.Decoder, depth int) bool {
	k := Kind(d.Byte())
	n := k.size()
	if n >= 0 {
		d.Take(uint64(n))
		return !d.Bad()
	}
	if n == -2 {
		return false
	}
	body := d.Take(uint64(d.Uint32()))
	switch {
	case d.Bad():
		return false
	case k == KindTable:
		return depth > 0 && validTable(body, depth-1)
	case k == KindArray:
		return depth > 0 && validArray(body, depth-1)
	}
	return true
}

// takeValue takes a value off d, which is valid.
func takeValue(raw []byte) (Value, []byte) {
	n := Kind(raw[0]).size() + 1
	if n == 0 {
		d := coding.NewDecoder(raw[1:])
		n = 1 + 4 + int(d.Uint32())
	}
	return Value{raw[:n:n]}, raw[n:]
}

// Raw returns the bytes of the table, without its length.
func (t Table) Raw() []byte { return t.raw }

// clone returns t in memory of its own.
func (t Table) clone() Table { return Table{append([]byte(nil), t.raw...)} }

// All returns the names and values in their order, each that occurs several times as often.
func (t Table) All() iter.Seq2[string, Value] {
	return func(yield func(string, Value) bool) {
		var v Value
		for raw := t.raw; len(raw) > 0; {
			name := raw[1 : 1+int(raw[0])]
			v, raw = takeValue(raw[1+len(name):])
			if !yield(string(name), v) {
				return
			}
		}
	}
}

// Lookup returns the first value of that name; none if there is no such name.
func (t Table) Lookup(name string) Value {
	var v Value
	for raw := t.raw; len(raw) > 0; {
		n := 1 + int(raw[0])
		found := string(raw[1:n]) == name
		if v, raw = takeValue(raw[n:]); found {
			return v
		}
	}
	return Value{}
}

// All returns the values in their order.
func (a Array) All() iter.Seq[Value] {
	return func(yield func(Value) bool) {
		var v Value
		for raw := a.raw; len(raw) > 0; {
			if v, raw = takeValue(raw); !yield(v) {
				return
			}
		}
	}
}
