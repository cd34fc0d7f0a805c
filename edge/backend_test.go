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
		batch[i] = &mqtt.Message{Topic: topic, Payload: []byte(topic), QoS: 2, Version: 4, Accepted: time.UnixMilli(int64(i))}
	}
	return batch
}

// accept has the backend accept messages, and returns where those of QoS 2 will lie.
func accept(b *backend, all []*mqtt.Message) (batch *mqtt.Batch, places []place, errs []error) {
	batch = &mqtt.Batch{Messages: all, Places: make([]mqtt.Place, len(all)), Errs: make([]error, len(all))}
	b.Accept(batch)
	for _, at := range batch.Places {
		p, _ := decodePlace(at)
		places = append(places, p)
	}
	return batch, places, batch.Errs
}

// store stores a batch that was accepted.
func store(b *backend, batch *mqtt.Batch) error {
	err := errors.New("no answer")
	if more := b.Store(batch, func(e error) { err = e }); !more {
		return errors.New("no other batch is taken, though this one is done")
	}
	return err
}

func stored(b *backend, p place) bool { return b.Stored(p.encode()) }

// readAt returns the value of the record at a place.
func readAt(t *testing.T, b *backend, p place) []byte {
	t.Helper()
	items, err := b.log.Read(p.buffer, weir.Lane(p.lane), p.seq)
	if err != nil || len(items) == 0 || items[0].Seq != p.seq {
		t.Fatalf("read %+v: %v %v", p, items, err)
	}
	return items[0].Record.Value
}

// TestStore: each message lies where Accept said, and nothing is stored before
// Store.
func TestStore(t *testing.T) {
	b := newTestBackend(t, wal.Options{})
	for round := range 3 {
		all := messages("live/1", "alarm/1", "local/1", "bulk/1", "live/2", "alarm/2", "$SYS/x", "live/3")
		batch, places, errs := accept(b, all)
		for i, p := range places {
			if errs[i] != nil || stored(b, p) != (p == stays) {
				t.Fatalf("%s before Store: placed at %+v, stored %v, %v", all[i].Topic, p, stored(b, p), errs[i])
			}
		}
		if err := store(b, batch); err != nil {
			t.Fatal(err)
		}
		for i, p := range places {
			switch kept := all[i].Topic[0] == '$' || all[i].Topic[:5] == "local"; {
			case kept != (p == stays) || !stored(b, p):
				t.Errorf("round %d: %s is at %+v, stored %v", round, all[i].Topic, p, stored(b, p))
			case !kept && !bytes.Equal(readAt(t, b, p), all[i].Payload):
				t.Errorf("round %d: at %+v lies %q, not %s", round, p, readAt(t, b, p), all[i].Topic)
			}
		}
	}
}

// TestAcceptAgain: the last Accept counts, and leaves no hole.
func TestAcceptAgain(t *testing.T) {
	b := newTestBackend(t, wal.Options{})
	batch, _, _ := accept(b, messages("live/1", "live/2", "alarm/1"))
	batch.Messages = batch.Messages[1:2]
	batch.Errs, batch.Places = batch.Errs[:1], batch.Places[:1]
	b.Accept(batch)
	errs := batch.Errs
	var places [1]place
	places[0], _ = decodePlace(batch.Places[0])
	if errs[0] != nil || places[0].seq != 1 {
		t.Fatalf("placed at %+v, %v", places[0], errs[0])
	}
	if err := store(b, batch); err != nil {
		t.Fatal(err)
	}
	if got := readAt(t, b, places[0]); string(got) != "live/2" {
		t.Errorf("stored %q", got)
	}
	if last := b.log.Last(places[0].buffer, weir.Alarm); last != 0 {
		t.Errorf("an alarm of the first Accept was stored: %d", last)
	}
}

// TestAcceptedFits: what is accepted is stored, however the lanes are mixed,
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
		var all []*mqtt.Message
		for range 1 + rng.IntN(20) {
			lane := []string{"bulk", "live", "alarm"}[rng.IntN(3)]
			all = append(all, &mqtt.Message{Topic: fmt.Sprintf("%s/%d", lane, round), Payload: make([]byte, rng.IntN(4000)), QoS: 1})
		}
		batch, _, errs := accept(b, all)
		p := preparedFrom(batch)
		var taken int64
		for i, err := range errs {
			switch {
			case errors.Is(err, mqtt.ErrFull):
				refused[all[i].Topic[:4]] = true // "alar" for alarms
			case err != nil:
				t.Fatal(err)
			default:
				to, _ := b.route(*b.routes.Load(), all[i])
				r, _ := encode(all[i], to, new(arena))
				taken += wal.Size(&r)
			}
		}
		for lane := range p.lanes {
			if room := b.log.Room(weir.Lane(lane)); len(p.lanes[lane].records) > 0 && taken > room {
				t.Fatalf("round %d: %d bytes in all lanes, lane %v has room for %d", round, taken, weir.Lane(lane), room)
			}
		}
		if err := store(b, batch); err != nil {
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
	batch, places, _ := accept(b, messages("live/1", "alarm/1"))
	if err := b.log.Close(); err != nil {
		t.Fatal(err)
	}
	if err := store(b, batch); !errors.Is(err, wal.ErrClosed) {
		t.Errorf("got %v", err)
	}
	if stored(b, places[0]) || stored(b, places[1]) {
		t.Error("what was not stored is said to be")
	}
}
