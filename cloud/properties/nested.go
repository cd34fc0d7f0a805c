package properties

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"
	"unicode/utf8"

	"github.com/weirmq/weir/cloud/amqp091/wire"
)

// A table or an array is JSON in a record header. The types of the values in it follow
// its own in weir.types, a letter each, in the order of the text.

// base64Text is the letter of a long string that is not UTF-8: it is base64 in JSON, as
// bytes are.
const base64Text wire.Kind = 'z'

// appendJSON appends a value as JSON, and its types: none for a table or an array, whose
// elements have theirs.
func appendJSON(b, types []byte, v wire.Value) (text, kinds []byte) {
	if t, ok := v.Table(); ok {
		b = append(b, '{')
		first := true
		for name, v := range t.All() {
			if !first {
				b = append(b, ',')
			}
			first = false
			b = append(appendQuoted(b, name), ':')
			b, types = appendJSON(b, types, v)
		}
		return append(b, '}'), types
	}
	if a, ok := v.Array(); ok {
		b = append(b, '[')
		first := true
		for v := range a.All() {
			if !first {
				b = append(b, ',')
			}
			first = false
			b, types = appendJSON(b, types, v)
		}
		return append(b, ']'), types
	}
	return appendScalar(b, types, v)
}

func appendScalar(b, types []byte, v wire.Value) (text, kinds []byte) {
	k := v.Kind()
	switch k {
	case wire.KindVoid:
		b = append(b, "null"...)
	case wire.KindString, wire.KindBytes:
		p, _ := v.Bytes()
		if k == wire.KindString && utf8.Valid(p) {
			b = appendQuoted(b, string(p))
			break
		}
		if k == wire.KindString {
			k = base64Text
		}
		b = append(base64.StdEncoding.AppendEncode(append(b, '"'), p), '"')
	case wire.KindFloat, wire.KindDouble:
		if f, _ := v.Float(); math.IsNaN(f) || math.IsInf(f, 0) { // JSON has no such numbers
			b = appendQuoted(b, string(textOf(v)))
			break
		}
		b = append(b, textOf(v)...)
	default:
		b = append(b, textOf(v)...)
	}
	return b, append(types, byte(k))
}

// appendQuoted appends a JSON string.
func appendQuoted(b []byte, s string) []byte {
	var quoted bytes.Buffer
	e := json.NewEncoder(&quoted)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil { // impossible: it is a string, and memory takes it
		return append(b, `""`...)
	}
	return append(b, bytes.TrimSuffix(quoted.Bytes(), []byte("\n"))...)
}

// errNested means that text is not the table or array that its types describe.
var errNested = errors.New("not a nested value")

// maxNested is how deeply tables and arrays may be nested: as package wire allows.
const maxNested = 64

// nesting reads a nested value.
type nesting struct {
	d     *json.Decoder
	types []byte // of what is still to be read; nil: as JSON suggests
	typed bool
}

// appendNested appends the table or array that is JSON in text. It reports false, and
// appends nothing, if it is none of type k.
func appendNested(b []byte, k wire.Kind, types string, text []byte) ([]byte, bool) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	n := nesting{d: d, types: []byte(types), typed: types != ""}
	next, err := n.value(b, maxNested)
	if err != nil || len(n.types) > 0 || wire.Kind(next[len(b)]) != k || len(bytes.TrimSpace(text[d.InputOffset():])) > 0 {
		return b, false
	}
	return next, true
}

// value appends the next value of the text.
func (n *nesting) value(b []byte, depth int) ([]byte, error) {
	token, err := n.d.Token()
	if err != nil {
		return b, err
	}
	if open, ok := token.(json.Delim); ok {
		if depth == 0 {
			return b, errNested
		}
		return n.compound(b, open, depth)
	}
	k, text, err := n.scalar(token)
	if err != nil {
		return b, err
	}
	b, ok := appendValue(b, k, text)
	if !ok {
		return b, errNested
	}
	return b, nil
}

func (n *nesting) compound(b []byte, open json.Delim, depth int) ([]byte, error) {
	k := wire.KindTable
	if open == '[' {
		k = wire.KindArray
	}
	b = append(b, byte(k), 0, 0, 0, 0)
	begin := len(b)
	for n.d.More() {
		if k == wire.KindTable {
			token, err := n.d.Token()
			if err != nil {
				return b, err
			}
			name, ok := token.(string)
			if !ok || len(name) > wire.MaxShortString {
				return b, errNested
			}
			b = append(append(b, byte(len(name))), name...)
		}
		var err error
		if b, err = n.value(b, depth-1); err != nil {
			return b, err
		}
	}
	binary.BigEndian.PutUint32(b[begin-4:], uint32(len(b)-begin))
	_, err := n.d.Token() // the end
	return b, err
}

// scalar returns the type and the text of a value that is neither table nor array.
func (n *nesting) scalar(token json.Token) (wire.Kind, []byte, error) {
	var k wire.Kind
	if n.typed {
		if len(n.types) == 0 {
			return 0, nil, errNested
		}
		k = wire.Kind(n.types[0])
		n.types = n.types[1:]
	}
	switch x := token.(type) {
	case bool:
		if k == 0 {
			k = wire.KindBool
		}
		if x {
			return k, []byte("true"), nil
		}
		return k, []byte("false"), nil
	case json.Number:
		if k == 0 {
			k = wire.KindDouble
			if _, err := x.Int64(); err == nil {
				k = wire.KindInt64
			}
		}
		return k, []byte(x), nil
	case string:
		switch k {
		case 0:
			k = wire.KindString
		case wire.KindBytes, base64Text:
			p, err := base64.StdEncoding.DecodeString(x)
			if k == base64Text {
				k = wire.KindString
			}
			return k, p, err
		}
		return k, []byte(x), nil
	}
	if k == 0 {
		k = wire.KindVoid
	}
	return k, nil, nil
}
