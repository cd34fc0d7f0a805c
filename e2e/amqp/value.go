package amqp

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// A value is a field of a table or an array: one of RabbitMQ's types and what it holds.
// As text it is the type's letter, a colon and the value: S:text, I:5, t:1, F:{a=I:1},
// A:[I:1 I:2], x:00ff, V:.
type value struct {
	kind byte
	data any // int64, float64, string (S and x), fields (F and A), nil (V)
}

type field struct {
	name string // empty in an array
	value
}

type fields []field

func (f fields) text(open, close string) string {
	parts := make([]string, len(f))
	for i, v := range f {
		if open == "{" {
			parts[i] = quote(v.name) + "="
		}
		parts[i] += v.String()
	}
	return open + strings.Join(parts, " ") + close
}

func (v value) String() string {
	text := ""
	switch data := v.data.(type) {
	case fields:
		if v.kind == 'F' {
			text = data.text("{", "}")
		} else {
			text = data.text("[", "]")
		}
	case string:
		if text = quote(data); v.kind == 'x' {
			text = hex.EncodeToString([]byte(data))
		}
	case nil:
	default:
		text = fmt.Sprint(data)
	}
	return string(v.kind) + ":" + text
}

// quote quotes what would not read back as one word.
func quote(s string) string {
	if s == "" || strings.ContainsAny(s, " \t\r\n\"{}[]=#$\\") || strconv.Quote(s) != `"`+s+`"` {
		return strconv.Quote(s)
	}
	return s
}

// reader reads the text of arguments.
type reader struct{ rest string }

func (r *reader) space() { r.rest = strings.TrimLeft(r.rest, " \t") }

// word reads up to a space or one of stop; a quoted word may hold anything.
func (r *reader) word(stop string) (string, error) {
	if strings.HasPrefix(r.rest, `"`) {
		quoted, err := strconv.QuotedPrefix(r.rest)
		if err != nil {
			return "", fmt.Errorf("read %s: %w", r.rest, err)
		}
		r.rest = r.rest[len(quoted):]
		return strconv.Unquote(quoted)
	}
	end := strings.IndexAny(r.rest, " \t"+stop)
	if end < 0 {
		end = len(r.rest)
	}
	word := r.rest[:end]
	r.rest = r.rest[end:]
	return word, nil
}

// fields reads what stands between open, which is next, and close.
func (r *reader) fields(open, close string) (fields, error) {
	rest, ok := strings.CutPrefix(r.rest, open)
	if !ok {
		return nil, fmt.Errorf("no %s at %q", open, r.rest)
	}
	r.rest = rest
	all := fields{}
	for {
		r.space()
		if rest, ok := strings.CutPrefix(r.rest, close); ok {
			r.rest = rest
			return all, nil
		}
		var f field
		var err error
		if open == "{" {
			if f.name, err = r.word("="); err != nil {
				return nil, err
			}
			if r.rest, ok = strings.CutPrefix(r.rest, "="); !ok {
				return nil, fmt.Errorf("no = behind %q", f.name)
			}
		}
		if f.value, err = r.value(); err != nil {
			return nil, err
		}
		all = append(all, f)
	}
}

func (r *reader) value() (v value, err error) {
	if len(r.rest) < 2 || r.rest[1] != ':' {
		return v, fmt.Errorf("no type at %q", r.rest)
	}
	v.kind, r.rest = r.rest[0], r.rest[2:]
	switch v.kind {
	case 'F':
		v.data, err = r.fields("{", "}")
		return v, err
	case 'A':
		v.data, err = r.fields("[", "]")
		return v, err
	}
	word, err := r.word("}]")
	if err != nil {
		return v, err
	}
	switch v.kind {
	case 'S':
		v.data = word
	case 'x':
		var raw []byte
		raw, err = hex.DecodeString(word)
		v.data = string(raw)
	case 'f', 'd':
		v.data, err = strconv.ParseFloat(word, 64)
	case 't', 'b', 'B', 's', 'u', 'I', 'i', 'l', 'T':
		v.data, err = strconv.ParseInt(word, 10, 64)
	case 'V':
		if word != "" {
			err = errors.New("a void with a value")
		}
	default:
		err = fmt.Errorf("no type %q", v.kind)
	}
	return v, err
}
