package properties

import (
	"net/url"
	"strings"

	"github.com/weirmq/weir/cloud/amqp091/wire"
)

// types is the header weir.types: "name=T,other=AlS" says that the first header of each of
// these names has that type in a table of AMQP, as the letter of the type. A table or an
// array has those of its elements after it. Names are escaped as in the query of a URL.
// What it does not name has its default type.
type types map[string]string

// parseTypes reads the header. What it cannot read it leaves out.
func parseTypes(text []byte) types {
	all := make(types)
	for one := range strings.SplitSeq(string(text), ",") {
		name, kinds, _ := strings.Cut(one, "=")
		name, err := url.QueryUnescape(name)
		if err == nil && kinds != "" {
			all[name] = kinds
		}
	}
	return all
}

// appendType adds a name to the header.
func appendType(b []byte, name string, k wire.Kind, elements []byte) []byte {
	if len(b) > 0 {
		b = append(b, ',')
	}
	b = append(append(b, url.QueryEscape(name)...), '=', byte(k))
	return append(b, elements...)
}

// append adds a header to a table. It reports false if the value is not what its type
// says: then it has its default type.
func (t types) append(b []byte, name, canonical string, text []byte) ([]byte, bool) {
	b = append(append(b, byte(len(canonical))), canonical...)
	kinds := t[name]
	if kinds == "" {
		b, _ = appendValue(b, defaultKind(canonical, text), text)
		return b, true
	}
	k := wire.Kind(kinds[0])
	var ok bool
	next := b
	if k == wire.KindTable || k == wire.KindArray {
		next, ok = appendNested(b, k, kinds[1:], text)
	} else {
		next, ok = appendValue(b, k, text)
	}
	if !ok {
		next, _ = appendValue(b, defaultKind(canonical, text), text)
	}
	return next, ok
}
