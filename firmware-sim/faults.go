package main

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// faults prints broken connections, at most one a second: when a gateway goes away, all of
// its devices report the same.
type faults struct {
	w     io.Writer
	quiet bool

	mu   sync.Mutex // guards last
	last time.Time
}

func newFaults(w io.Writer, quiet bool) *faults { return &faults{w: w, quiet: quiet} }

func (f *faults) report(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.quiet || time.Since(f.last) < time.Second {
		return
	}
	f.last = time.Now()
	fmt.Fprintln(f.w, "connection:", err)
}
