package wire

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Builder makes a table. The zero Builder is an empty one.
type Builder struct {
	raw []byte
	err error
}

// Add adds a value. A name of more than MaxShortString bytes makes Table fail.
func (b *Builder) Add(name string, v Value) {
	if len(name) > MaxShortString {
		b.err = fmt.Errorf("name %.20q… in a table: %w", name, ErrTooLong)
		return
	}
	b.raw = append(appendShort(b.raw, name), v.raw...)
}

// Table returns the table.
func (b *Builder) Table() (Table, error) {
	if b.err != nil {
		return Table{}, b.err
	}
	t, err := ParseTable(b.raw)
	if err != nil {
		return Table{}, err
	}
	return t, nil
}

// Bool makes a bool.
func Bool(v bool) Value { return Value{[]byte{byte(KindBool), bit(v, 0)}} }

// Int32 makes a signed integer of 32 bits.
func Int32(n int32) Value {
	return Value{binary.BigEndian.AppendUint32([]byte{byte(KindInt32)}, uint32(n))}
}

// Int64 makes a signed integer of 64 bits.
func Int64(n int64) Value {
	return Value{binary.BigEndian.AppendUint64([]byte{byte(KindInt64)}, uint64(n))}
}

// Double makes a floating-point number of 64 bits.
func Double(f float64) Value {
	return Value{binary.BigEndian.AppendUint64([]byte{byte(KindDouble)}, math.Float64bits(f))}
}

// Timestamp makes a time from seconds since 1970.
func Timestamp(seconds uint64) Value {
	return Value{binary.BigEndian.AppendUint64([]byte{byte(KindTimestamp)}, seconds)}
}

// Text makes a long string.
func Text(s string) Value { return Value{appendLong([]byte{byte(KindString)}, []byte(s))} }

// Bytes makes a long string that RabbitMQ takes for binary.
func Bytes(p []byte) Value { return Value{appendLong([]byte{byte(KindBytes)}, p)} }

// Void makes a value of no value.
func Void() Value { return Value{[]byte{byte(KindVoid)}} }

// Nested makes a table in a table.
func Nested(t Table) Value { return Value{appendLong([]byte{byte(KindTable)}, t.raw)} }

// List makes an array.
func List(values ...Value) Value {
	var raw []byte
	for _, v := range values {
		raw = append(raw, v.raw...)
	}
	return Value{appendLong([]byte{byte(KindArray)}, raw)}
}
