package configs

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// Hangup is SIGHUP, which asks a daemon to read its files again. From ListenHangup on it
// does not end the program.
type Hangup chan os.Signal

// ListenHangup takes the program's SIGHUPs. Those that come before Run wait for it, as
// one.
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

// Stop gives the signal its usual meaning back.
func (h Hangup) Stop() { signal.Stop(h) }
