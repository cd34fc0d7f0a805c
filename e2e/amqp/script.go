package amqp

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A step is one line of a script; README.md describes them.
type step struct {
	text    string // as written, without the spaces around it
	conn    string
	channel uint16
	raw     bool // the connection and the channel are not opened for it
	verb    string
	method  *method        // nil when the verb is one of the player's own
	given   map[string]any // arguments of the method
	props   map[string]any
	body    string
	as      string   // variable that takes the first argument of the answer
	words   []string // of a verb of the player's own
}

// own are the verbs that are not methods, and how many words follow.
var own = map[string][2]int{
	"dial": {0, 0}, "handshake": {0, 9}, "bytes": {1, 1}, "frame": {2, 2}, "drop": {0, 0},
	"wait": {2, 2}, "until": {2, 2}, "barrier": {1, 1}, "closed": {0, 0},
}

// parse reads a script.
func (c *catalogue) parse(text string) ([]step, error) {
	var steps []step
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		s, err := c.parseStep(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		steps = append(steps, s)
	}
	return steps, nil
}

func (c *catalogue) parseStep(line string) (step, error) {
	s := step{text: line, conn: "a", channel: 1}
	r := &reader{line}
	first, err := r.word("")
	if err != nil {
		return s, err
	}
	if where, ok := strings.CutSuffix(first, ":"); ok {
		conn, channel, ok := strings.Cut(where, "/")
		n, err := strconv.ParseUint(channel, 10, 16)
		if !ok || err != nil || conn == "" {
			return s, fmt.Errorf("%q is no connection/channel", where)
		}
		s.conn, s.channel = conn, uint16(n)
		r.space()
		if first, err = r.word(""); err != nil {
			return s, err
		}
	}
	s.verb, s.raw = strings.CutPrefix(first, "!")
	if s.method = c.byName[s.verb]; s.method != nil {
		return s, c.parseArguments(&s, r)
	}
	count, ok := own[s.verb]
	if !ok {
		return s, fmt.Errorf("no verb %q", s.verb)
	}
	for r.space(); r.rest != ""; r.space() {
		word, err := r.word("=")
		if err != nil {
			return s, err
		}
		if rest, ok := strings.CutPrefix(r.rest, "="); ok {
			r.rest = rest
			value, err := r.word("")
			if err != nil {
				return s, err
			}
			word += "=" + value
		}
		s.words = append(s.words, word)
	}
	if len(s.words) < count[0] || len(s.words) > count[1] {
		return s, fmt.Errorf("%s with %d words", s.verb, len(s.words))
	}
	return s, c.checkWords(&s)
}

// checkWords checks the words of the player's own verbs as far as they can be wrong.
func (c *catalogue) checkWords(s *step) error {
	switch s.verb {
	case "wait":
		if _, err := strconv.Atoi(s.words[0]); err != nil {
			return err
		}
		if c.byName[s.words[1]] == nil {
			return fmt.Errorf("no method %q", s.words[1])
		}
	case "until":
		_, err := strconv.ParseUint(s.words[1], 10, 32)
		return err
	case "frame":
		_, err := strconv.ParseUint(s.words[0], 10, 8)
		return err
	case "handshake":
		for _, w := range s.words {
			if name, _, ok := strings.Cut(w, "="); !ok || !slices.Contains([]string{"mechanism", "response", "vhost", "frame-max", "channel-max", "until"}, name) {
				return fmt.Errorf("handshake has no %q", w)
			}
		}
	}
	return nil
}

// parseArguments reads the arguments of a method; those of a message may follow.
func (c *catalogue) parseArguments(s *step, r *reader) error {
	s.given, s.props = make(map[string]any), make(map[string]any)
	for r.space(); r.rest != ""; r.space() {
		name, err := r.word("=")
		if err != nil {
			return err
		}
		rest, hasValue := strings.CutPrefix(r.rest, "=")
		r.rest = rest
		if name == "body" || name == "as" {
			word, err := r.word("")
			if err != nil {
				return err
			}
			if name == "as" {
				s.as = word
			} else {
				s.body = word
			}
			continue
		}
		into, a, err := c.find(s, name)
		if err != nil {
			return err
		}
		if hasValue == (a.kind == 'b') {
			return fmt.Errorf("%s: a bit has no value, all else has one", name)
		}
		if into[name], err = r.argument(a.kind); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// find finds an argument of the method, or a property when the method has content.
func (c *catalogue) find(s *step, name string) (map[string]any, argument, error) {
	named := func(a argument) bool { return a.name == name && !a.reserved }
	if i := slices.IndexFunc(s.method.arguments, named); i >= 0 {
		return s.given, s.method.arguments[i], nil
	}
	if i := slices.IndexFunc(c.properties, named); i >= 0 && s.method.content {
		return s.props, c.properties[i], nil
	}
	return nil, argument{}, fmt.Errorf("%s has no argument %q", s.verb, name)
}

func (r *reader) argument(kind byte) (any, error) {
	switch kind {
	case 'b':
		return true, nil
	case 'T':
		return r.fields("{", "}")
	}
	word, err := r.word("")
	if err != nil || kind == 'S' || kind == 'G' {
		return word, err
	}
	bits := map[byte]int{'o': 8, 's': 16, 'l': 32, 'L': 64}[kind]
	return strconv.ParseUint(word, 10, bits)
}
