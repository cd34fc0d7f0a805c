package edge

import (
	"bytes"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/weirmq/weir/edge/mqtt"
	"github.com/weirmq/weir/edge/wal"
	"github.com/weirmq/weir/storage/weir"
)

// TestRefusals: a lane that is full is one line when it begins to refuse and one
// when it takes messages again, whatever comes in between.
func TestRefusals(t *testing.T) {
	for cause, full := range map[string]wal.Space{
		"quota": {Used: 995, Limit: 1000, Quota: 1100, Disk: 1 << 40, Reserve: 64},
		"disk":  {Used: 10, Limit: 1000, Quota: 1100, Disk: -5, Reserve: 64},
	} {
		t.Run(cause, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var out bytes.Buffer
				var space atomic.Pointer[wal.Space]
				space.Store(&full)
				set := metrics.NewSet()
				r := newRefusals(func(weir.Lane) wal.Space { return *space.Load() }, slog.New(slog.NewTextHandler(&out, nil)), set)
				defer r.close()
				r.note(weir.Live, 3, 100)
				for range 100 { // a device tries again every minute, and the lane stays full
					time.Sleep(time.Minute)
					r.note(weir.Live, 1, 50)
				}
				synctest.Wait()
				if lines := strings.Split(strings.TrimSpace(out.String()), "\n"); len(lines) != 1 ||
					!strings.Contains(lines[0], "level=WARN") || !strings.Contains(lines[0], "reason="+cause) || !strings.Contains(lines[0], "lane=live") {
					t.Fatalf("lines while it is full: %q", lines)
				}
				if m := written(set); !strings.Contains(m, `weir_edge_lane_refusing{lane="live"} 1`) ||
					!strings.Contains(m, `weir_edge_refused_messages_total{lane="live",cause="`+cause+`"} 103`) {
					t.Errorf("metrics: %s", m)
				}
				space.Store(&wal.Space{Used: 950, Limit: 1000, Disk: 1 << 40}) // room, but not for the largest
				time.Sleep(time.Hour)
				synctest.Wait()
				if strings.Count(out.String(), "\n") != 1 {
					t.Fatalf("it is over before there is room: %s", &out)
				}
				space.Store(&wal.Space{Used: 100, Limit: 1000, Disk: 1 << 40})
				time.Sleep(time.Hour)
				synctest.Wait()
				lines := strings.Split(strings.TrimSpace(out.String()), "\n")
				if len(lines) != 2 || !strings.Contains(lines[1], "level=INFO") || !strings.Contains(lines[1], "refused=103") ||
					!strings.Contains(lines[1], "lasted=2h40m") {
					t.Fatalf("lines when it is over: %q", lines)
				}
				if m := written(set); !strings.Contains(m, `weir_edge_lane_refusing{lane="live"} 0`) {
					t.Errorf("metrics: %s", m)
				}
			})
		})
	}
}

func written(set *metrics.Set) string {
	var out bytes.Buffer
	set.WritePrometheus(&out)
	return out.String()
}

// TestRefusalsOfAFullLog: the real log says why.
func TestRefusalsOfAFullLog(t *testing.T) {
	var out bytes.Buffer
	b := newTestBackend(t, wal.Options{Quota: 64 << 10, SegmentSize: 8 << 10})
	b.refusals = newRefusals(b.log.Space, slog.New(slog.NewTextHandler(&out, nil)), metrics.NewSet())
	defer b.refusals.close()
	refused := 0
	for range 200 {
		all := messages("live/1", "bulk/1")
		for _, m := range all {
			m.Payload = make([]byte, 500)
		}
		batch, _, errs := accept(b, all)
		for _, err := range errs {
			if err == mqtt.ErrFull {
				refused++
			}
		}
		if err := store(b, batch); err != nil {
			t.Fatal(err)
		}
	}
	text := out.String()
	if refused < 100 || strings.Count(text, "\n") != 2 || strings.Count(text, "reason=quota") != 2 || !strings.Contains(text, "lane=bulk") {
		t.Errorf("%d refused: %s", refused, text)
	}
}

// TestRefusedDevices: a gateway whose buffer is full refuses its devices, and says
// so in two lines, whatever they try.
func TestRefusedDevices(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	file := filepath.Join(t.TempDir(), "token")
	g, _ := start(t, t.TempDir(), Options{Cloud: []string{n.addr}, JoinFile: file, Quota: 4 << 20})
	g.await(SyncUnjoined, "no-token")
	for g.log.Room(weir.Live) > 0 {
		rec := wal.Record{Topic: "a"}
		rec.Value = make([]byte, max(1, min(64<<10, g.log.Room(weir.Live)-1000)))
		if _, _, err := g.log.Append(weir.Live, []wal.Record{rec}); err != nil && !errors.Is(err, wal.ErrFull) {
			t.Fatal(err)
		}
	}
	for range 20 {
		if c, err := tryPublish(t, g, "device"); err == nil {
			t.Fatal("a full buffer takes a message")
		} else {
			c.Close()
		}
	}
	if got := g.logs.count("messages are refused"); got != 1 {
		t.Errorf("%d lines for 20 refusals:\n%s", got, g.logs.b.String())
	}
	g.metric(`weir_edge_lane_refusing{lane="live"} 1`)
	put(t, file, n.token.Reveal())
	g.await(SyncConnected, "")
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(time.Minute); g.logs.count("messages are accepted again") == 0; {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("it never says that it takes messages again:\n%s", g.logs.b.String())
		}
	}
	publish(t, g, "device")
	if g.logs.count("messages are refused") != 1 || g.logs.count("messages are accepted again") != 1 || g.logs.count("refused=20") != 1 {
		t.Errorf("lines:\n%s", g.logs.b.String())
	}
	g.metric(`weir_edge_lane_refusing{lane="live"} 0`)
}
