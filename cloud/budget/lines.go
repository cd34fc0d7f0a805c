package budget

import (
	"cmp"
	"log/slog"
	"net/netip"
	"sync"
	"time"
)

// LinesOptions configure Lines. The zero value of a field means its default.
type LinesOptions struct {
	Burst     int           // lines about one address within Every; default: 20
	Every     time.Duration // default: 1 min
	All       int           // lines about all addresses within Every; default: 200
	Addresses int           // addresses that are told apart at once; default: 4,096
}

// Lines limits how many log lines are written about strangers. It may be used by many
// goroutines.
type Lines struct {
	o LinesOptions

	mu       sync.Mutex // guards what follows
	began    time.Time  // when the current interval of Every began
	all      int
	lines    map[netip.Addr]int
	unlogged int
}

// NewLines returns a Lines that has counted nothing yet.
func NewLines(o LinesOptions) *Lines {
	o.Burst = cmp.Or(o.Burst, 20)
	o.Every = cmp.Or(o.Every, time.Minute)
	o.All = cmp.Or(o.All, 200)
	o.Addresses = cmp.Or(o.Addresses, 4_096)
	return &Lines{o: o, lines: make(map[netip.Addr]int)}
}

// May reports whether a line about an address (see Address) may be written. If so,
// unlogged is how many lines were left out since the last one.
func (l *Lines) May(about netip.Addr) (ok bool, unlogged int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); now.Sub(l.began) >= l.o.Every {
		l.began, l.all = now, 0
		clear(l.lines)
	}
	n, known := l.lines[about]
	if n >= l.o.Burst || l.all >= l.o.All || !known && len(l.lines) >= l.o.Addresses {
		l.unlogged++
		return false, 0
	}
	l.lines[about]++
	l.all++
	unlogged, l.unlogged = l.unlogged, 0
	return true, unlogged
}

// Warn logs a warning about an address, if it may. It adds how many lines were left out
// since the last one.
func (l *Lines) Warn(log *slog.Logger, about netip.Addr, what string, args ...any) {
	ok, unlogged := l.May(about)
	if !ok {
		return
	}
	if unlogged > 0 {
		args = append(args, "unlogged", unlogged)
	}
	log.Warn(what, args...)
}
