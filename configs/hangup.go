package configs

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// Hangup receives SIGHUP, which asks a daemon to read its files again. After
// ListenHangup the signal does not end the program.
type Hangup chan os.Signal

// ListenHangup takes over the program's SIGHUPs. Those that arrive before Run are
// combined into one.
func ListenHangup() Hangup {
	h := make(Hangup, 1)
	signal.Notify(h, syscall.SIGHUP)
	return h
}

// Run calls reload for each SIGHUP, one after the other, until ctx ends.
func (h Hangup) Run(ctx context.Context, reload func()) {
	for {
		select {
		case <-h:
			reload()
		case <-ctx.Done():
			return
		}
	}
}

// Stop restores the signal's default effect.
func (h Hangup) Stop() { signal.Stop(h) }
