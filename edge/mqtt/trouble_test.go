package mqtt

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// logLines collects log lines of several goroutines.
type logLines struct {
	mu  sync.Mutex
	out bytes.Buffer
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.Write(p)
}

func (l *logLines) with(text string) (lines []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.out.String()) {
		if strings.Contains(line, text) {
			lines = append(lines, line)
		}
	}
	return lines
}

// TestTroublesAreTwoLines: a disk that fails for a while is a line when that begins
// and one when it is over, however many batches and clients it concerns.
func TestTroublesAreTwoLines(t *testing.T) {
	var broken atomic.Bool
	lines, b := &logLines{}, newBackend()
	b.before = func([]*Message) error {
		if broken.Load() {
			return errDisk
		}
		return nil
	}
	bubble(t, Options{Backend: b, Log: slog.New(slog.NewTextHandler(lines, nil))}, func(t *testing.T, s *testServer) {
		broken.Store(true)
		for range 20 {
			c := join(t, s, 4, "c", true)
			c.send(publishPacket("a", "1", 1, 1))
			c.closed(0)
			time.Sleep(5 * time.Second)
		}
		if got := lines.with("level=WARN"); len(got) != 1 || !strings.Contains(got[0], "messages cannot be stored") {
			t.Fatalf("while it fails: %q", got)
		}
		broken.Store(false)
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := lines.with("messages are stored again"); len(got) != 1 || !strings.Contains(got[0], "count=20") {
			t.Fatalf("when it is over: %q", got)
		}
		join(t, s, 4, "c", true).publish("a", "1", 1, 1)
	})
}
