package wire

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
)

// Inequivalence compares the argument key of a queue or exchange with that of another
// declaration. It returns "" if they are equivalent, else what RabbitMQ says of the two:
// "received '20' but current is '10'".
//
// RabbitMQ compares Erlang terms. Integers of all sizes, timestamps among them, are equal if
// their numbers are; text and bytes if their bytes are; both floats if their numbers are.
// All else must have the same type. A queue of type classic equals one without a type.
func Inequivalence(key string, current, received Table) string {
	c, r := current.Lookup(key), received.Lookup(key)
	if equivalent(c, r) || key == "x-queue-type" && (isClassic(c) && !r.Exists() || isClassic(r) && !c.Exists()) {
		return ""
	}
	both := c.Exists() && r.Exists()
	return "received " + describe(r, both) + " but current is " + describe(c, both)
}

func isClassic(v Value) bool {
	return v.Kind() == KindString && string(v.raw[5:]) == "classic"
}

func equivalent(a, b Value) bool {
	if !a.Exists() || !b.Exists() {
		return a.Exists() == b.Exists()
	}
	if x, ok := a.Float(); ok {
		y, ok := b.Float()
		return ok && x == y
	}
	if ab, ok := a.Bytes(); ok {
		bb, ok := b.Bytes()
		return ok && bytes.Equal(ab, bb)
	}
	if x, negative, ok := a.integer(); ok {
		y, otherNegative, ok := b.integer()
		return ok && x == y && negative == otherNegative
	}
	return a.Kind() == b.Kind() && string(appendTerm(nil, a)) == string(appendTerm(nil, b))
}

// integer returns the bits of an integer or timestamp, and whether it is negative.
func (v Value) integer() (bits uint64, negative, ok bool) {
	if t, ok := v.Timestamp(); ok {
		return t, false, true
	}
	n, ok := v.Int()
	return uint64(n), n < 0, ok
}

// describe is RabbitMQ's text for a value. If only one of two is there, its type is named.
func describe(v Value, both bool) string {
	if k := v.Kind(); k == 0 || k == KindVoid && both {
		return "none"
	}
	if both {
		return "'" + v.String() + "'"
	}
	return fmt.Sprintf("the value '%s' of type '%v'", v, v.Kind())
}

// String returns the value as in RabbitMQ's reply texts: strings as they are, all else as
// Erlang terms.
func (v Value) String() string {
	if p, ok := v.Bytes(); ok {
		return string(p)
	}
	return string(appendTerm(nil, v))
}

// appendTerm appends the Erlang term that RabbitMQ reads v as.
func appendTerm(b []byte, v Value) []byte {
	if n, ok := v.Int(); ok {
		return strconv.AppendInt(b, n, 10)
	}
	if f, ok := v.Float(); ok {
		return appendFloat(b, f)
	}
	switch v.Kind() {
	case KindBool:
		set, _ := v.Bool()
		return strconv.AppendBool(b, set)
	case KindDecimal:
		scale, n, _ := v.Decimal()
		return fmt.Appendf(b, "{%d,%d}", scale, n)
	case KindTimestamp:
		t, _ := v.Timestamp()
		return strconv.AppendUint(b, t, 10)
	case KindString, KindBytes:
		return appendBinary(b, v.raw[5:])
	case KindArray:
		return appendArrayTerm(b, Array{v.raw[5:]})
	case KindTable:
		return appendTableTerm(b, Table{v.raw[5:]})
	}
	return append(b, "undefined"...)
}

func appendArrayTerm(b []byte, a Array) []byte {
	b = append(b, '[')
	first := true
	for v := range a.All() {
		if !first {
			b = append(b, ',')
		}
		first = false
		b = append(append(append(b, '{'), v.Kind().String()...), ',')
		b = append(appendTerm(b, v), '}')
	}
	return append(b, ']')
}

func appendTableTerm(b []byte, t Table) []byte {
	b = append(b, '[')
	first := true
	for name, v := range t.All() {
		if !first {
			b = append(b, ',')
		}
		first = false
		b = appendBinary(append(b, '{'), []byte(name))
		b = append(append(append(b, ','), v.Kind().String()...), ',')
		b = append(appendTerm(b, v), '}')
	}
	return append(b, ']')
}

// appendFloat appends f with a decimal point, as Erlang does.
func appendFloat(b []byte, f float64) []byte {
	if a := math.Abs(f); f == 0 || a >= 1e-4 && a < 1e15 {
		if f == math.Trunc(f) {
			return strconv.AppendFloat(b, f, 'f', 1, 64)
		}
		return strconv.AppendFloat(b, f, 'f', -1, 64)
	}
	return strconv.AppendFloat(b, f, 'e', -1, 64)
}
