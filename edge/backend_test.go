package edge

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/weirmq/weir/edge/mqtt"
	"github.com/weirmq/weir/edge/wal"
	"github.com/weirmq/weir/storage/weir"
)

func openLog(t *testing.T, o wal.Options) *wal.Log {
	t.Helper()
	o.Dir, o.Reserve = t.TempDir(), -1
	log, err := wal.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := log.Close(); err != nil && !errors.Is(err, wal.ErrClosed) {
			t.Error(err)
		}
	})
	return log
}

// newTestBackend routes alarm/…, live/… and bulk/… to these lanes, and keeps
// local/… on the gateway.
func newTestBackend(t *testing.T, o wal.Options) *backend {
	t.Helper()
	routes, err := ParseRoutes([]byte(`routes:
  - {filter: alarm/#, topic: alarms, lane: alarm}
  - {filter: bulk/#, topic: bulk, lane: bulk}
  - {filter: local/#, drop: true}`))
	if err != nil {
		t.Fatal(err)
	}
	log := openLog(t, o)
	quiet, set := slog.New(slog.DiscardHandler), metrics.NewSet()
	b := &backend{log: log, gateway: "gw-1", refusals: newRefusals(log.Space, quiet, set), count: newRouting(set), storing: new(atomic.Int64)}
	b.names = openNames(filepath.Join(t.TempDir(), "topics"), DefaultMaxTopics, quiet)
	b.routes.Store(&routes)
	t.Cleanup(func() {
		if err := b.names.close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func messages(topics ...string) []*mqtt.Message {
	batch := make([]*mqtt.Message, len(topics))
	for i, topic := range topics {
		batch[i] = &mqtt.Message{Topic: topic, Payload: []byte(topic), QoS: 1, Version: 4, Accepted: time.UnixMilli(int64(i))}
	}
	return batch
}

func placeAll(b *backend, batch []*mqtt.Message) ([]mqtt.Place, []error) {
	places, errs := make([]mqtt.Place, len(batch)), make([]error, len(batch))
	b.Place(batch, places, errs)
	return places, errs
}

// readAt returns the value of the record at a place.
func readAt(t *testing.T, b *backend, p mqtt.Place) []byte {
	t.Helper()
	items, err := b.log.Read(p.Buffer, weir.Lane(p.Lane), p.Seq)
	if err != nil || len(items) == 0 || items[0].Seq != p.Seq {
		t.Fatalf("read %+v: %v %v", p, items, err)
	}
	return items[0].Record.Value
}

// TestStore: each message lies where Place said, and nothing is stored before
// Store.
func TestStore(t *testing.T) {
	b := newTestBackend(t, wal.Options{})
	for round := range 3 {
		batch := messages("live/1", "alarm/1", "local/1", "bulk/1", "live/2", "alarm/2", "$SYS/x", "live/3")
		places, errs := placeAll(b, batch)
		for i, p := range places {
			if errs[i] != nil || b.Stored(p) != (p == stays) {
				t.Fatalf("%s before Store: placed at %+v, stored %v, %v", batch[i].Topic, p, b.Stored(p), errs[i])
			}
		}
		if err := b.Store(batch, places); err != nil {
			t.Fatal(err)
		}
		for i, p := range places {
			switch kept := batch[i].Topic[0] == '$' || batch[i].Topic[:5] == "local"; {
			case kept != (p == stays) || !b.Stored(p):
				t.Errorf("round %d: %s is at %+v, stored %v", round, batch[i].Topic, p, b.Stored(p))
			case !kept && !bytes.Equal(readAt(t, b, p), batch[i].Payload):
				t.Errorf("round %d: at %+v lies %q, not %s", round, p, readAt(t, b, p), batch[i].Topic)
			}
		}
	}
}

// TestPlaceAgain: the last Place counts, and leaves no hole.
func TestPlaceAgain(t *testing.T) {
	b := newTestBackend(t, wal.Options{})
	placeAll(b, messages("live/1", "live/2", "alarm/1"))
	batch := messages("live/2")
	places, errs := placeAll(b, batch)
	if errs[0] != nil || places[0].Seq != 1 {
		t.Fatalf("placed at %+v, %v", places[0], errs[0])
	}
	if err := b.Store(batch, places); err != nil {
		t.Fatal(err)
	}
	if got := readAt(t, b, places[0]); string(got) != "live/2" {
		t.Errorf("stored %q", got)
	}
	if last := b.log.Last(places[0].Buffer, weir.Alarm); last != 0 {
		t.Errorf("an alarm of the first Place was stored: %d", last)
	}
}

// TestAcceptedFits: what Place accepts is stored, however the lanes are mixed,
// until nothing fits any more; and bulk never keeps an alarm out.
func TestAcceptedFits(t *testing.T) {
	const seed = 7
	rng := rand.New(rand.NewPCG(seed, 0))
	b := newTestBackend(t, wal.Options{Quota: 256 << 10, SegmentSize: 16 << 10})
	refused := make(map[string]bool)
	for round := 0; !refused["alar"]; round++ {
		if round == 10_000 {
			t.Fatal("the log never fills up")
		}
		var batch []*mqtt.Message
		for range 1 + rng.IntN(20) {
			lane := []string{"bulk", "live", "alarm"}[rng.IntN(3)]
			batch = append(batch, &mqtt.Message{Topic: fmt.Sprintf("%s/%d", lane, round), Payload: make([]byte, rng.IntN(4000)), QoS: 1})
		}
		places, errs := placeAll(b, batch)
		var taken int64
		for i, err := range errs {
			switch {
			case errors.Is(err, mqtt.ErrFull):
				refused[batch[i].Topic[:4]] = true // "alar" for alarms
			case err != nil:
				t.Fatal(err)
			default:
				to, _ := b.route(*b.routes.Load(), batch[i])
				r, _ := encode(batch[i], to, new(arena))
				taken += wal.Size(&r)
			}
		}
		for lane := range b.lanes {
			if room := b.log.Room(weir.Lane(lane)); len(b.lanes[lane].records) > 0 && taken > room {
				t.Fatalf("round %d: %d bytes in all lanes, lane %v has room for %d", round, taken, weir.Lane(lane), room)
			}
		}
		if err := b.Store(batch, places); err != nil {
			t.Fatalf("round %d: accepted and not stored: %v", round, err)
		}
		if refused["alar"] {
			if !refused["bulk"] || !refused["live"] {
				t.Errorf("an alarm was refused before others: %v", refused)
			}
			return
		}
	}
}

// TestStoreFails: an error says that nothing may be acknowledged.
func TestStoreFails(t *testing.T) {
	b := newTestBackend(t, wal.Options{})
	batch := messages("live/1", "alarm/1")
	places, _ := placeAll(b, batch)
	if err := b.log.Close(); err != nil {
		t.Fatal(err)
	}
	if err := b.Store(batch, places); !errors.Is(err, wal.ErrClosed) {
		t.Errorf("got %v", err)
	}
	if b.Stored(places[0]) || b.Stored(places[1]) {
		t.Error("what was not stored is said to be")
	}
}
