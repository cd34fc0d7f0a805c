// Package payload makes the bytes of a record's key or value readable: JSON with
// indents, CBOR in its diagnostic notation, text as it is, and everything else as a hex
// dump. It returns plain text: the caller must escape it for HTML.
package payload

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/fxamacker/cbor/v2"
)

// Kind says what the bytes are.
type Kind string

// The kinds that are told apart.
const (
	Null   Kind = "null" // there are none: a tombstone in a compacted topic
	Empty  Kind = "empty"
	JSON   Kind = "JSON"
	CBOR   Kind = "CBOR"
	Text   Kind = "text"
	Binary Kind = "bytes"
)

// maxText bounds the result of Decode, in bytes.
const maxText = 256 << 10

// Decode returns the kind of p, and p as text of at most a few hundred kilobytes.
// contentType, which may be empty, is what the record declares.
func Decode(p []byte, contentType string) (Kind, string) {
	switch {
	case p == nil:
		return Null, ""
	case len(p) == 0:
		return Empty, ""
	}
	if named(contentType, "cbor") {
		if text, ok := diagnose(p); ok {
			return CBOR, text
		}
	}
	if looksLikeJSON(p) {
		return JSON, indent(p)
	}
	if Readable(p) {
		return Text, shorten(string(p))
	}
	if contentType == "" && looksLikeCBOR(p) {
		if text, ok := diagnose(p); ok {
			return CBOR, text
		}
	}
	return Binary, Dump(p)
}

// named reports whether a content type is of a format: application/cbor or, for
// example, application/senml+cbor.
func named(contentType, format string) bool {
	kind, _, _ := strings.Cut(strings.ToLower(contentType), ";")
	kind = strings.TrimSpace(kind)
	return strings.HasSuffix(kind, "/"+format) || strings.HasSuffix(kind, "+"+format)
}

// looksLikeJSON reports whether bytes are one JSON value. A bare number or word counts
// as text, which looks the same.
func looksLikeJSON(p []byte) bool {
	p = bytes.TrimLeft(p, " \t\r\n")
	return len(p) > 0 && (p[0] == '{' || p[0] == '[') && json.Valid(p)
}

func indent(p []byte) string {
	if len(p) > maxText/4 { // indents can make it many times as large
		return shorten(string(p))
	}
	var out bytes.Buffer
	if err := json.Indent(&out, p, "", "  "); err != nil || out.Len() > maxText {
		return shorten(string(p))
	}
	return out.String()
}

// looksLikeCBOR reports whether bytes are one array, map or tagged item of CBOR. Other
// items are too easily taken for CBOR.
func looksLikeCBOR(p []byte) bool {
	major := p[0] >> 5
	return major >= 4 && major <= 6 && len(p) > 1 && cbor.Wellformed(p) == nil
}

// diagnose returns CBOR in the notation of RFC 8949, section 8. It has indents where
// that is JSON too.
func diagnose(p []byte) (string, bool) {
	if len(p) > maxText/4 || cbor.Wellformed(p) != nil {
		return "", false
	}
	text, err := cbor.Diagnose(p)
	if err != nil {
		return "", false
	}
	if looksLikeJSON([]byte(text)) {
		return indent([]byte(text)), true
	}
	return shorten(text), true
}

// Compact returns JSON, or CBOR that is JSON too, on one line. ok is false for
// everything else.
func Compact(p []byte) (text string, ok bool) {
	if !looksLikeJSON(p) {
		if len(p) == 0 || !looksLikeCBOR(p) {
			return "", false
		}
		diagnosed, err := cbor.Diagnose(p)
		if err != nil || !looksLikeJSON([]byte(diagnosed)) {
			return "", false
		}
		p = []byte(diagnosed)
	}
	var out bytes.Buffer
	if err := json.Compact(&out, p); err != nil {
		return "", false
	}
	return out.String(), true
}

// Readable reports whether bytes are text without control characters other than tabs
// and line ends.
func Readable(p []byte) bool {
	return utf8.Valid(p) && !bytes.ContainsFunc(p, func(r rune) bool {
		return unicode.IsControl(r) && r != '\n' && r != '\r' && r != '\t'
	})
}

func shorten(s string) string {
	if len(s) <= maxText {
		return s
	}
	n := maxText
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + fmt.Sprintf("\n… %d bytes more", len(s)-n)
}

// maxDump is how many bytes Dump shows.
const maxDump = 4 << 10

// Dump returns bytes as lines of 16, with offsets, in hex and as characters.
func Dump(p []byte) string {
	text := hex.Dump(p[:min(len(p), maxDump)])
	if len(p) > maxDump {
		text += fmt.Sprintf("… %d bytes more\n", len(p)-maxDump)
	}
	return text
}
