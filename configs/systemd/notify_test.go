package systemd

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// listen is a service manager; next returns what it is told next.
func listen(t *testing.T, name string) (next func() string) {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return func() string {
		t.Helper()
		conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		b := make([]byte, 4096)
		n, err := conn.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
}

func open(t *testing.T, environ ...string) *Manager {
	t.Helper()
	m, err := Open(environ, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// TestWhatIsTold: the lines are those of sd_notify, over a socket with a path and over one
// with an abstract name.
func TestWhatIsTold(t *testing.T) {
	for _, name := range []string{filepath.Join(t.TempDir(), "notify"), "@weir-test-" + strconv.Itoa(os.Getpid())} {
		next := listen(t, name)
		m := open(t, "HOME=/", "NOTIFY_SOCKET="+name)
		early := false
		m.Reload(func() { early = true }) // before it is ready: nothing is told
		m.Ready()
		if got := next(); got != "READY=1" || !early {
			t.Errorf("got %q, read early: %v", got, early)
		}
		m.Reload(func() {
			if got := next(); got != "RELOADING=1" {
				t.Errorf("got %q before the settings are read", got)
			}
		})
		if got := next(); got != "READY=1" {
			t.Errorf("got %q", got)
		}
		m.Stopping()
		if got := next(); got != "STOPPING=1" {
			t.Errorf("got %q", got)
		}
	}
}

// TestCloseTellsOfTheStop: the service manager hears of a stop once, also when the daemon
// comes to its end before anybody has told.
func TestCloseTellsOfTheStop(t *testing.T) {
	name := filepath.Join(t.TempDir(), "notify")
	next := listen(t, name)
	var log strings.Builder
	m, err := Open([]string{"NOTIFY_SOCKET=" + name}, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	m.Stopping() // late: the signal's goroutine
	if got := next(); got != "STOPPING=1" || log.Len() > 0 {
		t.Errorf("got %q, logged %q", got, log.String())
	}
}

// TestNobodyListens: without NOTIFY_SOCKET nothing is sent and alive is not called.
func TestNobodyListens(t *testing.T) {
	m := open(t, "WATCHDOG_USEC=1000")
	m.Ready()
	m.Watch(func(context.Context) error { t.Error("asked"); return nil })()
	read := false
	m.Reload(func() { read = true })
	if !read {
		t.Error("the settings were not read")
	}
}

func TestVariables(t *testing.T) {
	pid := os.Getpid()
	for _, c := range []struct {
		environ []string
		want    time.Duration
		ok      bool
	}{
		{nil, 0, true},
		{[]string{"WATCHDOG_USEC=60000000"}, time.Minute, true},
		{[]string{"WATCHDOG_USEC=60000000", "WATCHDOG_PID=" + strconv.Itoa(pid)}, time.Minute, true},
		{[]string{"WATCHDOG_USEC=60000000", "WATCHDOG_PID=1"}, 0, true}, // that of a parent
		{[]string{"WATCHDOG_USEC=soon"}, 0, false},
		{[]string{"WATCHDOG_USEC=0"}, 0, false},
	} {
		got, err := watchdogTime(c.environ, pid)
		if got != c.want || (err == nil) != c.ok {
			t.Errorf("%v: %v, %v", c.environ, got, err)
		}
	}
	if _, err := Open([]string{"NOTIFY_SOCKET=" + filepath.Join(t.TempDir(), "gone")}, slog.Default()); err == nil {
		t.Error("a socket that is not there is no error")
	}
}

// pings counts the datagrams of a connection.
type pings struct {
	net.Conn
	n atomic.Int64
}

func (p *pings) Write(b []byte) (int, error) {
	if string(b) != "WATCHDOG=1" {
		return 0, errors.New("unexpected " + string(b))
	}
	p.n.Add(1)
	return len(b), nil
}

// TestWatchdog: a daemon that answers is alive at least twice within the time; one that
// says that it hangs, or that does not come back, is not.
func TestWatchdog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		p := new(pings)
		m := &Manager{conn: p, watchdog: time.Minute, log: slog.New(slog.NewTextHandler(&log, nil))}
		var answer atomic.Pointer[error]
		fine, hangs := error(nil), errors.New("the committer hangs")
		answer.Store(&fine)
		block := make(chan struct{})
		var blocking atomic.Bool
		stop := m.Watch(func(context.Context) error {
			if blocking.Load() {
				<-block
			}
			return *answer.Load()
		})
		within := func(minutes int) int64 {
			before := p.n.Load()
			time.Sleep(time.Duration(minutes) * time.Minute)
			synctest.Wait()
			return p.n.Load() - before
		}
		if n := within(10); n < 20 || n > 80 {
			t.Errorf("%d times in ten minutes", n)
		}
		answer.Store(&hangs)
		within(1)
		if n := within(10); n != 0 {
			t.Errorf("%d times while it hangs", n)
		}
		if n := strings.Count(log.String(), "the committer hangs"); n != 1 {
			t.Errorf("logged %d times:\n%s", n, log.String())
		}
		answer.Store(&fine)
		if n := within(10); n < 20 {
			t.Errorf("%d times when it goes on", n)
		}
		blocking.Store(true)
		within(1)
		if n := within(10); n != 0 {
			t.Errorf("%d times while nothing comes back", n)
		}
		stop() // does not wait for what hangs
		close(block)
	})
}
