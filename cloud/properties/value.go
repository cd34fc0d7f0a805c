package properties

import (
	"encoding/binary"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/weirmq/weir/cloud/amqp091/wire"
)

// defaultKind returns the type that a record header has in a table unless weir.types says
// another one.
func defaultKind(name string, text []byte) wire.Kind {
	switch {
	case text == nil:
		return wire.KindVoid
	case name == tableDelay || name == tableCacheMS:
		if n, err := strconv.ParseInt(string(text), 10, 64); err == nil && strconv.FormatInt(n, 10) == string(text) {
			return wire.KindInt64
		}
	}
	if utf8.Valid(text) {
		return wire.KindString
	}
	return wire.KindBytes
}

// textOf returns a value that is no table and no array as a record header has it.
func textOf(v wire.Value) []byte {
	switch k := v.Kind(); k {
	case wire.KindVoid:
		return nil
	case wire.KindString, wire.KindBytes:
		p, _ := v.Bytes()
		return p
	case wire.KindBool:
		set, _ := v.Bool()
		return strconv.AppendBool(nil, set)
	case wire.KindFloat, wire.KindDouble:
		f, _ := v.Float()
		bits := 64
		if k == wire.KindFloat {
			bits = 32
		}
		return strconv.AppendFloat(nil, f, 'g', -1, bits)
	case wire.KindDecimal:
		scale, n, _ := v.Decimal()
		b := append(strconv.AppendUint(nil, uint64(n), 10), "e-"...)
		return strconv.AppendUint(b, uint64(scale), 10)
	case wire.KindTimestamp:
		s, _ := v.Timestamp()
		return strconv.AppendUint(nil, s, 10)
	}
	n, _ := v.Int()
	return strconv.AppendInt(nil, n, 10)
}

// appendValue appends the value of a type that is neither table nor array. It reports
// false, and appends nothing, if text is not such a value.
func appendValue(b []byte, k wire.Kind, text []byte) ([]byte, bool) {
	if text == nil && k != wire.KindVoid {
		return b, false
	}
	next := append(b, byte(k))
	switch k {
	case wire.KindVoid:
		return next, text == nil
	case wire.KindString, wire.KindBytes:
		next = binary.BigEndian.AppendUint32(next, uint32(len(text)))
		return append(next, text...), true
	case wire.KindBool:
		switch string(text) {
		case "true":
			return append(next, 1), true
		case "false":
			return append(next, 0), true
		}
		return b, false
	case wire.KindFloat:
		f, err := strconv.ParseFloat(string(text), 32)
		return binary.BigEndian.AppendUint32(next, math.Float32bits(float32(f))), err == nil
	case wire.KindDouble:
		f, err := strconv.ParseFloat(string(text), 64)
		return binary.BigEndian.AppendUint64(next, math.Float64bits(f)), err == nil
	case wire.KindDecimal:
		digits, scale, found := strings.Cut(string(text), "e-")
		n, err := strconv.ParseUint(digits, 10, 32)
		s, bad := strconv.ParseUint(scale, 10, 8)
		return binary.BigEndian.AppendUint32(append(next, byte(s)), uint32(n)), found && err == nil && bad == nil
	}
	return appendInteger(next, k, string(text))
}

// appendInteger appends an integer or a time, whose type b ends with.
func appendInteger(b []byte, k wire.Kind, text string) ([]byte, bool) {
	var size int
	var signed bool
	switch k {
	case wire.KindInt8, wire.KindUint8:
		size, signed = 1, k == wire.KindInt8
	case wire.KindInt16, wire.KindUint16:
		size, signed = 2, k == wire.KindInt16
	case wire.KindInt32, wire.KindUint32:
		size, signed = 4, k == wire.KindInt32
	case wire.KindInt64, wire.KindLong, wire.KindTimestamp:
		size, signed = 8, k != wire.KindTimestamp
	default:
		return b, false
	}
	var n uint64
	var err error
	if signed {
		var i int64
		i, err = strconv.ParseInt(text, 10, 8*size)
		n = uint64(i)
	} else {
		n, err = strconv.ParseUint(text, 10, 8*size)
	}
	if err != nil {
		return b, false
	}
	return append(b, binary.BigEndian.AppendUint64(nil, n)[8-size:]...), true
}
