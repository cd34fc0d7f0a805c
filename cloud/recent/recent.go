// Package recent keeps the newest warnings and errors of a program's log, for people
// who have access to the program but not to its log.
package recent

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// Limits of what is kept: about 400 KiB together.
const (
	maxLines = 200
	maxText  = 2 << 10 // bytes of one line
)

// Line is one line of a log.
type Line struct {
	Time  time.Time `json:"time"`
	Level string    `json:"level"` // WARN or ERROR
	Text  string    `json:"text"`  // the message
	About []About   `json:"about,omitempty"`
}

// About is a key and value of a line.
type About struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// Lines are the newest lines. The zero value is ready for use.
type Lines struct {
	mu   sync.Mutex // guards the rest
	ring []Line     // at most maxLines
	next int        // where the next line goes, once the ring is full
}

// Newest returns the lines that are kept, the newest first.
func (l *Lines) Newest() []Line {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := append(slices.Clone(l.ring[l.next:]), l.ring[:l.next]...)
	slices.Reverse(all)
	return all
}

func (l *Lines) add(line Line) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.ring) < maxLines {
		l.ring = append(l.ring, line)
		return
	}
	l.ring[l.next] = line
	l.next = (l.next + 1) % maxLines
}

// Handler returns a log/slog handler that passes every line to another one and keeps
// the warnings and errors.
func (l *Lines) Handler(to slog.Handler) slog.Handler { return &handler{to: to, lines: l} }

type handler struct {
	to     slog.Handler
	lines  *Lines
	about  []About // of the logger
	groups string  // prefix of the following keys, with a dot at the end
}

// Enabled implements slog.Handler: warnings are kept even if the other handler does not
// take them.
func (h *handler) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn || h.to.Enabled(ctx, level)
}

// Handle implements slog.Handler.
func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		h.lines.add(h.line(r))
	}
	if !h.to.Enabled(ctx, r.Level) {
		return nil
	}
	return h.to.Handle(ctx, r)
}

func (h *handler) line(r slog.Record) Line {
	line := Line{Time: r.Time, Level: r.Level.String(), Text: cut(r.Message, maxText)}
	room := maxText - len(line.Text)
	for _, a := range h.about {
		line.About, room = appendAbout(line.About, a, room)
	}
	r.Attrs(func(a slog.Attr) bool {
		for _, one := range flat(h.groups, a) {
			line.About, room = appendAbout(line.About, one, room)
		}
		return room > 0
	})
	return line
}

// appendAbout adds a if it fits into room, in bytes.
func appendAbout(all []About, a About, room int) ([]About, int) {
	if room <= len(a.Key) {
		return all, 0
	}
	a.Value = cut(a.Value, room-len(a.Key))
	return append(all, a), room - len(a.Key) - len(a.Value)
}

// flat returns an attribute, or the attributes in it if it is a group.
func flat(prefix string, a slog.Attr) []About {
	value := a.Value.Resolve()
	if value.Kind() != slog.KindGroup {
		return []About{{prefix + a.Key, value.String()}}
	}
	if a.Key != "" {
		prefix += a.Key + "."
	}
	var all []About
	for _, one := range value.Group() {
		all = append(all, flat(prefix, one)...)
	}
	return all
}

// cut shortens a text to n bytes, and makes it valid UTF-8.
func cut(s string, n int) string {
	if len(s) > n {
		for n > 0 && !utf8.RuneStart(s[n]) {
			n--
		}
		s = s[:n]
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// WithAttrs implements slog.Handler.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	next := *h
	next.to = h.to.WithAttrs(attrs)
	next.about = slices.Clip(h.about)
	for _, a := range attrs {
		next.about = append(next.about, flat(h.groups, a)...)
	}
	return &next
}

// WithGroup implements slog.Handler.
func (h *handler) WithGroup(name string) slog.Handler {
	next := *h
	next.to = h.to.WithGroup(name)
	if name != "" {
		next.groups += name + "."
	}
	return &next
}
