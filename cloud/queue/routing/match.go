package routing

import (
	"slices"
	"strings"
)

// Mode is the x-match of a binding to a headers exchange.
type Mode byte

// The modes; without x-match it is All. The modes without x ignore what the binding asks of
// headers whose name begins with "x-".
const (
	All Mode = iota
	Any
	AllWithX
	AnyWithX
)

var modes = [...]string{"all", "any", "all-with-x", "any-with-x"}

// ParseMode returns the mode that x-match names.
func ParseMode(s string) (Mode, error) {
	i := slices.Index(modes[:], s)
	if i < 0 {
		return 0, &Error{Err: ErrInvalid, Argument: "x-match", Received: s}
	}
	return Mode(i), nil
}

// Match is what a binding to a headers exchange asks for: its arguments, decoded.
type Match struct {
	Mode    Mode
	Headers []Header // all arguments but x-match, in any order
}

// kept returns the part of m that is compared, in order.
func (m Match) kept() *Match {
	k := &Match{Mode: m.Mode}
	for _, h := range m.Headers {
		if h.Name == "x-match" || m.Mode < AllWithX && strings.HasPrefix(h.Name, "x-") {
			continue
		}
		h.Name, h.Value.Text = strings.Clone(h.Name), strings.Clone(h.Value.Text)
		k.Headers = append(k.Headers, h)
	}
	SortHeaders(k.Headers)
	return k
}

func (m Match) valid() bool {
	for _, h := range m.Headers {
		if !h.Value.valid() {
			return false
		}
	}
	return m.Mode <= AnyWithX
}

// matches merges two sorted lists. A header is used up by the one that matched its name.
func (m *Match) matches(headers []Header) bool {
	any := m.Mode == Any || m.Mode == AnyWithX
	for _, p := range m.Headers {
		for len(headers) > 0 && headers[0].Name < p.Name {
			headers = headers[1:]
		}
		same := false
		if len(headers) > 0 && headers[0].Name == p.Name {
			same = p.Value.Kind == Void || equal(p.Value, headers[0].Value)
			headers = headers[1:]
		}
		if same == any {
			return any
		}
	}
	return !any
}
