package wire

import (
	"encoding/binary"
	"math"
	"strconv"
)

// Kind is the type of a value in a field table, as RabbitMQ reads it [AMQP 0-9-1 §4.2.5.5
// and RabbitMQ's errata].
type Kind byte

const (
	KindBool      Kind = 't'
	KindInt8      Kind = 'b'
	KindUint8     Kind = 'B'
	KindInt16     Kind = 's' // the specification has short strings here
	KindUint16    Kind = 'u'
	KindInt32     Kind = 'I'
	KindUint32    Kind = 'i'
	KindInt64     Kind = 'l'
	KindLong      Kind = 'L' // read like 'l'
	KindFloat     Kind = 'f'
	KindDouble    Kind = 'd'
	KindDecimal   Kind = 'D'
	KindString    Kind = 'S' // a long string
	KindBytes     Kind = 'x'
	KindArray     Kind = 'A'
	KindTimestamp Kind = 'T'
	KindTable     Kind = 'F'
	KindVoid      Kind = 'V'
)

// String returns RabbitMQ's name of the type, as in its reply texts.
func (k Kind) String() string {
	switch k {
	case KindBool:
		return "bool"
	case KindInt8:
		return "byte"
	case KindUint8:
		return "unsignedbyte"
	case KindInt16:
		return "short"
	case KindUint16:
		return "unsignedshort"
	case KindInt32:
		return "signedint"
	case KindUint32:
		return "unsignedint"
	case KindInt64, KindLong:
		return "long"
	case KindFloat:
		return "float"
	case KindDouble:
		return "double"
	}
	return k.otherName()
}

func (k Kind) otherName() string {
	switch k {
	case KindDecimal:
		return "decimal"
	case KindString:
		return "longstr"
	case KindBytes:
		return "binary"
	case KindArray:
		return "array"
	case KindTimestamp:
		return "timestamp"
	case KindTable:
		return "table"
	case KindVoid:
		return "void"
	}
	return strconv.QuoteRune(rune(k))
}

// size returns how many bytes a value has after its type: -1 if a length of four bytes says
// so, -2 if there is no such type.
func (k Kind) size() int {
	switch k {
	case KindVoid:
		return 0
	case KindBool, KindInt8, KindUint8:
		return 1
	case KindInt16, KindUint16:
		return 2
	case KindInt32, KindUint32, KindFloat:
		return 4
	case KindDecimal:
		return 5
	case KindInt64, KindLong, KindDouble, KindTimestamp:
		return 8
	case KindString, KindBytes, KindArray, KindTable:
		return -1
	}
	return -2
}

// Value is a value of a field table or array, in its encoded form: what was read and is
// written again has the same bytes. The zero Value is none.
type Value struct {
	raw []byte // the type, and what follows it; valid
}

// Exists reports whether there is a value.
func (v Value) Exists() bool { return len(v.raw) > 0 }

// Raw returns the encoded value: its type and what follows it. It is part of the table.
func (v Value) Raw() []byte { return v.raw }

// Kind returns the type, 0 if there is no value.
func (v Value) Kind() Kind {
	if len(v.raw) == 0 {
		return 0
	}
	return Kind(v.raw[0])
}

// Bool returns a bool; false if v is none.
func (v Value) Bool() (value, ok bool) {
	return v.Kind() == KindBool && v.raw[1] != 0, v.Kind() == KindBool
}

// Int returns an integer of any size; false if v is none.
func (v Value) Int() (int64, bool) {
	switch v.Kind() {
	case KindInt8:
		return int64(int8(v.raw[1])), true
	case KindUint8:
		return int64(v.raw[1]), true
	case KindInt16:
		return int64(int16(binary.BigEndian.Uint16(v.raw[1:]))), true
	case KindUint16:
		return int64(binary.BigEndian.Uint16(v.raw[1:])), true
	case KindInt32:
		return int64(int32(binary.BigEndian.Uint32(v.raw[1:]))), true
	case KindUint32:
		return int64(binary.BigEndian.Uint32(v.raw[1:])), true
	case KindInt64, KindLong:
		return int64(binary.BigEndian.Uint64(v.raw[1:])), true
	}
	return 0, false
}

// Float returns a float or double; false if v is neither.
func (v Value) Float() (float64, bool) {
	switch v.Kind() {
	case KindFloat:
		return float64(math.Float32frombits(binary.BigEndian.Uint32(v.raw[1:]))), true
	case KindDouble:
		return math.Float64frombits(binary.BigEndian.Uint64(v.raw[1:])), true
	}
	return 0, false
}

// Decimal returns a decimal: n divided by ten to the power of scale; false if v is none.
func (v Value) Decimal() (scale uint8, n uint32, ok bool) {
	if v.Kind() != KindDecimal {
		return 0, 0, false
	}
	return v.raw[1], binary.BigEndian.Uint32(v.raw[2:]), true
}

// Timestamp returns seconds since 1970; false if v is no timestamp.
func (v Value) Timestamp() (uint64, bool) {
	if v.Kind() != KindTimestamp {
		return 0, false
	}
	return binary.BigEndian.Uint64(v.raw[1:]), true
}

// Bytes returns a string or bytes, as part of the table; false if v is neither.
func (v Value) Bytes() ([]byte, bool) {
	if k := v.Kind(); k != KindString && k != KindBytes {
		return nil, false
	}
	return v.raw[5:], true
}

// Table returns a table, as part of the one that it is in; false if v is none.
func (v Value) Table() (Table, bool) {
	if v.Kind() != KindTable {
		return Table{}, false
	}
	return Table{v.raw[5:]}, true
}

// Array returns an array, as part of the table; false if v is none.
func (v Value) Array() (Array, bool) {
	if v.Kind() != KindArray {
		return Array{}, false
	}
	return Array{v.raw[5:]}, true
}
