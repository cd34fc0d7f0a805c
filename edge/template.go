package edge

import (
	"fmt"
	"strings"

	"github.com/weirmq/weir/configs"
)

// template is a topic or a key with placeholders: its parts, in order.
type template []part

// part is literal text or a placeholder.
type part struct {
	kind partKind
	text string // if kind is partText
}

// partKind is what a part expands to. The values from 1 to 9 are levels of the MQTT
// topic.
type partKind int8

const (
	partText    partKind = 0
	partTopic   partKind = -1 // the whole MQTT topic
	partClient  partKind = -2
	partGateway partKind = -3
)

// placeholders are the names that may stand between { and }, besides 1 to 9.
var placeholders = map[string]partKind{"topic": partTopic, "client": partClient, "gateway": partGateway}

// maxLevel is the deepest level of an MQTT topic that a template can name.
const maxLevel = 9

// parseTemplate reads a template. An unknown placeholder is an error.
func parseTemplate(text string) (template, error) {
	var t template
	for rest := text; rest != ""; {
		before, after, found := strings.Cut(rest, "{")
		if before != "" {
			t = append(t, part{text: before})
		}
		if !found {
			break
		}
		name, tail, closed := strings.Cut(after, "}")
		if !closed {
			return nil, fmt.Errorf("%q: { is never closed", text)
		}
		kind, known := placeholders[name]
		switch {
		case known:
		case len(name) == 1 && name[0] >= '1' && name[0] <= '9':
			kind = partKind(name[0] - '0')
		default:
			var names []string
			for n := range placeholders {
				names = append(names, n)
			}
			if near := configs.Nearest(name, names); near != "" {
				return nil, fmt.Errorf("%q: unknown placeholder {%s} (did you mean {%s}?)", text, name, near)
			}
			return nil, fmt.Errorf("%q: unknown placeholder {%s}: there are {topic}, {client}, {gateway} and {1} to {9}", text, name)
		}
		t = append(t, part{kind: kind})
		rest = tail
	}
	return t, nil
}

// fixed reports whether the template has no placeholder.
func (t template) fixed() bool {
	for _, p := range t {
		if p.kind != partText {
			return false
		}
	}
	return true
}

// has reports whether the template contains a placeholder.
func (t template) has(kind partKind) bool {
	for _, p := range t {
		if p.kind == kind {
			return true
		}
	}
	return false
}

// expand fills in the template for a message. A level that the topic does not have is
// empty.
func (t template) expand(m *Origin) string {
	if len(t) == 1 {
		return t[0].of(m)
	}
	var b strings.Builder
	for _, p := range t {
		b.WriteString(p.of(m))
	}
	return b.String()
}

func (p part) of(m *Origin) string {
	switch p.kind {
	case partText:
		return p.text
	case partTopic:
		return m.Topic
	case partClient:
		return m.Client
	case partGateway:
		return m.Gateway
	}
	rest, more := m.Topic, true
	var level string
	for n := partKind(0); n < p.kind; n++ {
		if !more {
			return ""
		}
		level, rest, more = strings.Cut(rest, "/")
	}
	return level
}
