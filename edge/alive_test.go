package edge

import (
	"context"
	"log/slog"
	"testing"
	"time"
)

// TestPulse: a gateway hangs if packets wait and none is taken for a minute. One that is slow,
// idle or busy does not hang.
func TestPulse(t *testing.T) {
	type look struct {
		after   time.Duration // of the one before
		queued  int
		taken   uint64
		storing time.Duration // how long a write has run; 0: none does
		hangs   bool
	}
	for name, looks := range map[string][]look{
		"idle":        {{}, {after: time.Hour}, {after: time.Hour}},
		"busy":        {{queued: 9, taken: 1}, {after: time.Minute * 2, queued: 9, taken: 2}, {after: time.Minute * 2, queued: 9, taken: 3}},
		"a slow disk": {{storing: time.Second}, {after: 30 * time.Second, storing: 31 * time.Second}, {after: time.Second}},
		"idle first":  {{}, {after: time.Hour}, {after: time.Second, queued: 1}, {after: 30 * time.Second, queued: 1}, {after: 40 * time.Second, queued: 1, hangs: true}},
		"committer":   {{queued: 1}, {after: 61 * time.Second, queued: 5, hangs: true}, {after: time.Second, queued: 4, taken: 1}},
		"disk":        {{storing: 61 * time.Second, hangs: true}, {after: time.Second}},
	} {
		t.Run(name, func(t *testing.T) {
			now := time.Now()
			var p pulse
			for i, l := range looks {
				now = now.Add(l.after)
				p.storing.Store(0)
				if l.storing > 0 {
					p.storing.Store(now.Add(-l.storing).UnixNano())
				}
				if err := p.judge(now, l.queued, l.taken); (err != nil) != l.hangs {
					t.Errorf("look %d: %v", i, err)
				}
			}
		})
	}
}

// TestAlive: a gateway without a cloud is alive; one whose write does not return is not.
func TestAlive(t *testing.T) {
	e, err := Open(Options{Data: t.TempDir(), Gateway: "gw", MQTT: Off, HTTP: Off, Reserve: -1, Cloud: []string{"127.0.0.1:1"}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if err := e.Alive(context.Background()); err != nil {
		t.Error(err)
	}
	e.pulse.storing.Store(time.Now().Add(-2 * stuck).UnixNano())
	if e.Alive(context.Background()) == nil {
		t.Error("a write hangs, and the gateway is alive")
	}
}
