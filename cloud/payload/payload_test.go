package payload

import (
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
)

func encode(t *testing.T, v any) []byte {
	t.Helper()
	p, err := cbor.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestDecode(t *testing.T) {
	for _, c := range []struct {
		value       []byte
		contentType string
		kind        Kind
		text        string
	}{
		{nil, "", Null, ""},
		{[]byte{}, "", Empty, ""},
		{[]byte(`{"b":1,"a":[2]}`), "", JSON, "{\n  \"b\": 1,\n  \"a\": [\n    2\n  ]\n}"},
		{[]byte(` [1]`), "application/cbor", JSON, "[\n  1\n]"},
		{[]byte(`{"b":`), "", Text, `{"b":`},
		{[]byte("21.5"), "", Text, "21.5"},
		{[]byte("grün\n\tblau"), "", Text, "grün\n\tblau"},
		{[]byte("<script>"), "text/html", Text, "<script>"},
		{encode(t, map[string]any{"t": 21.5}), "", CBOR, "{\n  \"t\": 21.5\n}"},
		{encode(t, map[int]string{1: "x"}), "", CBOR, `{1: "x"}`},
		{encode(t, 7), "application/cbor; v=1", CBOR, "7"},
		{encode(t, []byte{1, 2}), "application/senml+cbor", CBOR, "h'0102'"},
		{append(encode(t, []int{1, 300}), 0xff), "", Binary, ""},
		{[]byte{0, 1, 2}, "", Binary, "00000000  00 01 02"},
		{[]byte("\x1b[2J"), "", Binary, "00000000  1b 5b"},
		{[]byte{0xff}, "application/cbor", Binary, "00000000  ff"},
	} {
		kind, text := Decode(c.value, c.contentType)
		if kind != c.kind || !strings.HasPrefix(text, c.text) || c.kind != Binary && text != c.text {
			t.Errorf("%q as %q: %s %q, want %s %q", c.value, c.contentType, kind, text, c.kind, c.text)
		}
	}
}

// TestDecodeBounds: however large a value is, and whatever it unfolds to, what is
// made of it has bounds.
func TestDecodeBounds(t *testing.T) {
	for what, p := range map[string][]byte{
		"text":          []byte(strings.Repeat("ü", 1<<20)),
		"bytes":         make([]byte, 1<<20),
		"JSON":          []byte("[" + strings.Repeat("1,", 1<<19) + "1]"),
		"deep JSON":     []byte(strings.Repeat("[", 5000) + strings.Repeat("]", 5000)),
		"deep CBOR":     []byte(strings.Repeat("\x81", 1<<16) + "\x01"),
		"CBOR of bytes": encode(t, [][]byte{make([]byte, 60<<10)}),
	} {
		if _, text := Decode(p, ""); len(text) > maxText+100 {
			t.Errorf("%s: %d bytes", what, len(text))
		}
	}
}

func TestCompact(t *testing.T) {
	for _, c := range []struct {
		value []byte
		text  string
		ok    bool
	}{
		{[]byte("{ \"a\": 1 }"), `{"a":1}`, true},
		{encode(t, map[string]int{"a": 1}), `{"a":1}`, true},
		{encode(t, map[int]int{1: 1}), "", false},
		{[]byte("21.5"), "", false},
		{nil, "", false},
		{[]byte{0}, "", false},
	} {
		if text, ok := Compact(c.value); text != c.text || ok != c.ok {
			t.Errorf("%q: %q %v", c.value, text, ok)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"a":[1,2]}`), "application/json")
	f.Add([]byte("\xa1\x61a\x01"), "application/cbor")
	f.Add([]byte("\x9f\x01\xff"), "")
	f.Fuzz(func(t *testing.T, p []byte, contentType string) {
		kind, text := Decode(p, contentType)
		if kind == "" || len(text) > maxText+100 {
			t.Errorf("%s, %d bytes", kind, len(text))
		}
		Compact(p)
	})
}
