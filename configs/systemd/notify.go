// Package systemd reports a daemon's state to the service manager: that it is ready,
// reads its settings again, stops, and, repeatedly, that it is alive. The units beside
// this package have Type=notify and a watchdog. It also takes the sockets that the service
// manager has opened for the daemon (sockets.go).
//
// The protocol is a datagram of lines to the socket in NOTIFY_SOCKET (sd_notify(3)).
// Without that variable nothing is sent.
package systemd

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Manager is the service manager of this process. If there is none, its methods do
// nothing. It may be used by many goroutines.
type Manager struct {
	conn     net.Conn      // nil: there is no service manager
	watchdog time.Duration // a daemon that is silent for so long is killed; 0: never
	log      *slog.Logger
	ready    atomic.Bool
	stopping sync.Once
}

// Open finds the service manager in the variables of this process. Later errors are
// logged.
//
// Errors: the variables are set and cannot be used.
func Open(environ []string, log *slog.Logger) (*Manager, error) {
	m := &Manager{log: log}
	path := lookup(environ, "NOTIFY_SOCKET")
	if path == "" {
		return m, nil
	}
	watchdog, err := watchdogTime(environ, os.Getpid())
	if err != nil {
		return nil, err
	}
	// A name that begins with @ is one of Linux's abstract names; net knows them, too.
	if m.conn, err = net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"}); err != nil {
		return nil, fmt.Errorf("connect to NOTIFY_SOCKET: %w", err)
	}
	m.watchdog = watchdog
	return m, nil
}

// watchdogTime is WATCHDOG_USEC, if it is meant for this process.
func watchdogTime(environ []string, pid int) (time.Duration, error) {
	text := lookup(environ, "WATCHDOG_USEC")
	if text == "" {
		return 0, nil
	}
	if of := lookup(environ, "WATCHDOG_PID"); of != "" && of != strconv.Itoa(pid) {
		return 0, nil
	}
	µs, err := strconv.ParseInt(text, 10, 64)
	if err != nil || µs <= 0 {
		return 0, fmt.Errorf("WATCHDOG_USEC %q is not a number of microseconds", text)
	}
	return time.Duration(µs) * time.Microsecond, nil
}

func lookup(environ []string, name string) string {
	for _, pair := range environ {
		if value, ok := strings.CutPrefix(pair, name+"="); ok {
			return value
		}
	}
	return ""
}

// Ready reports that the daemon serves.
func (m *Manager) Ready() {
	m.ready.Store(true)
	m.send("READY=1")
}

// Stopping reports, the first time that it is called, that the daemon has begun to
// stop.
func (m *Manager) Stopping() { m.stopping.Do(func() { m.send("STOPPING=1") }) }

// Reload reports that the daemon reads its settings again, calls read, and reports that
// it has finished. Before Ready it reports nothing.
func (m *Manager) Reload(read func()) {
	if !m.ready.Load() {
		read()
		return
	}
	m.send("RELOADING=1")
	read()
	m.send("READY=1")
}

// Watch calls alive a few times within the time of the watchdog, and reports that the
// daemon is alive each time that it returns nil. While it does not return, or returns
// an error, nothing is reported, and the service manager finally kills the daemon. The
// returned function ends the watch. Without a watchdog alive is never called.
//
// The context of alive ends with the watch.
func (m *Manager) Watch(alive func(context.Context) error) (stop func()) {
	if m.conn == nil || m.watchdog == 0 {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { m.watch(ctx, alive) })
	return func() {
		cancel()
		wg.Wait()
	}
}

// watch runs until ctx ends. It does not wait for a hanging call of alive then: the
// process is about to end.
func (m *Manager) watch(ctx context.Context, alive func(context.Context) error) {
	tick := time.NewTicker(m.watchdog / 4)
	defer tick.Stop()
	said := ""
	for {
		answer := make(chan error, 1)
		go func() { answer <- alive(ctx) }()
		select {
		case <-ctx.Done():
			return
		case err := <-answer:
			if err == nil {
				said = ""
				m.send("WATCHDOG=1")
			} else if err.Error() != said {
				said = err.Error()
				m.log.Error("this process hangs: the service manager ends it unless it recovers", "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (m *Manager) send(lines string) {
	if m.conn == nil {
		return
	}
	if _, err := m.conn.Write([]byte(lines)); err != nil {
		m.log.Warn("the service manager did not get a message", "message", lines, "err", err)
	}
}

// Close closes the socket. It reports that the daemon stops, unless Stopping has done
// so.
func (m *Manager) Close() error {
	if m.conn == nil {
		return nil
	}
	m.Stopping()
	return m.conn.Close()
}
