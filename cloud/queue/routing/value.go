package routing

import (
	"cmp"
	"math"
	"slices"
)

// Kind is what a Value is.
type Kind byte

// The kinds of a Value.
const (
	Void    Kind = iota // no value: in a binding it stands for any value
	Bool                // Bits is 0 or 1
	Int                 // Bits is an int64; also timestamps up to its maximum
	Uint                // Bits is a uint64 above the maximum of an int64
	Float               // Bits is a float64's
	Text                // Text is a string or bytes
	Encoded             // Text is the encoding of a decimal, an array or a table
)

// Value is a value of a header as far as values are compared. Numbers are equal if they
// have the same value, whatever their type on the wire; so are strings and bytes. Decimals,
// arrays and tables are equal if their encodings are.
type Value struct {
	Kind Kind
	Bits uint64
	Text string
}

// IntValue returns the value of a signed number.
func IntValue(i int64) Value { return Value{Kind: Int, Bits: uint64(i)} }

// UintValue returns the value of an unsigned number.
func UintValue(u uint64) Value {
	if u > math.MaxInt64 {
		return Value{Kind: Uint, Bits: u}
	}
	return IntValue(int64(u))
}

// FloatValue returns the value of a floating-point number.
func FloatValue(f float64) Value { return Value{Kind: Float, Bits: math.Float64bits(f)} }

// TextValue returns the value of a string or of bytes.
func TextValue(s string) Value { return Value{Kind: Text, Text: s} }

// BoolValue returns the value of a boolean.
func BoolValue(b bool) Value {
	if b {
		return Value{Kind: Bool, Bits: 1}
	}
	return Value{Kind: Bool}
}

// valid reports whether v is in its only form.
func (v Value) valid() bool {
	switch v.Kind {
	case Void:
		return v.Bits == 0 && v.Text == ""
	case Bool:
		return v.Bits <= 1 && v.Text == ""
	case Int, Float:
		return v.Text == ""
	case Uint:
		return v.Bits > math.MaxInt64 && v.Text == ""
	case Text, Encoded:
		return v.Bits == 0
	}
	return false
}

func equal(a, b Value) bool {
	switch {
	case a.Kind == Float && b.Kind == Float:
		return math.Float64frombits(a.Bits) == math.Float64frombits(b.Bits)
	case a.Kind == Float:
		return sameNumber(math.Float64frombits(a.Bits), b)
	case b.Kind == Float:
		return sameNumber(math.Float64frombits(b.Bits), a)
	}
	return a == b
}

// sameNumber compares exactly: a float64 does not hold every integer above 2⁵³.
func sameNumber(f float64, v Value) bool {
	switch {
	case f != math.Trunc(f):
		return false
	case v.Kind == Int:
		return f >= -0x1p63 && f < 0x1p63 && int64(f) == int64(v.Bits)
	case v.Kind == Uint:
		return f >= 0x1p63 && f < 0x1p64 && uint64(f) == v.Bits
	}
	return false
}

// Header is a header of a message, or what a binding asks of one.
type Header struct {
	Name  string
	Value Value
}

// SortHeaders puts headers in the order that Message and Match need. The first of two with
// the same name stays the first, which is the one that counts.
func SortHeaders(h []Header) {
	slices.SortStableFunc(h, func(a, b Header) int { return cmp.Compare(a.Name, b.Name) })
}
