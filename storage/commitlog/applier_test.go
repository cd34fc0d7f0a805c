package commitlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record/recordtest"
)

// The next owner encodes the same state as a log that ends after faults and takeovers.
func TestSnapshotOfRandomSchedules(t *testing.T) {
	for seed := range uint64(8) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, 1000+seed)
			for range 80 {
				w.step()
			}
			w.finish()
			owner := w.log()
			must(owner.Close())
			next, err := Open(t.Context(), options(w.bucket, with(&recorder{kinds: []uint16{130}})))
			if err != nil {
				t.Fatal(err)
			}
			must(next.Close())
			if !bytes.Equal(next.state.Append(nil), owner.state.Append(nil)) {
				t.Error("the next owner's state has another encoding")
			}
		})
	}
}

// restored is a Log that holds what body says.
func restored(t testing.TB, body []byte, all ...state.Machine) (*Log, error) {
	t.Helper()
	l, err := prepare(options(mem.New(), with(all...)))
	if err != nil {
		t.Fatal(err)
	}
	// What was there before a recovery that starts over.
	must(l.state.Apply(journal.Position{Epoch: 1, Slot: 1}, created()))
	must(l.state.Apply(journal.Position{Epoch: 1, Slot: 2}, runOf(0, recordtest.Batch("gone"), *source("gone", 1, 0, 1, 1))))
	return l, l.restore(journal.Position{Epoch: 1 << 20, Slot: 1}, body)
}

func TestSnapshotAndRestore(t *testing.T) {
	ctx := context.Background()
	a, c := &recorder{kinds: []uint16{300, 101, 200}}, &recorder{kinds: []uint16{150}}
	l := open(t, mem.New(), with(c, a))
	topic := createTopic(t, l, "t", 3)
	appended(t, l, Append{Topic: topic.ID, Batch: recordtest.Batch("a", "b"), Source: source("g", 1, 0, 1, 2)})
	appended(t, l, Append{Topic: topic.ID, Partition: 2, Batch: recordtest.Produced(5, 0, 0, "x")})
	for i, kind := range []uint16{300, 150, 101} {
		must(l.Propose(ctx, kind, fmt.Append(nil, i)))
	}
	must(l.Close())
	body := l.snapshot()

	a2, c2, d := &recorder{kinds: []uint16{101, 200, 300}}, &recorder{kinds: []uint16{150}}, &recorder{kinds: []uint16{120}, got: []string{"old"}}
	l2, err := restored(t, body, d, c2, a2)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := l2.state.Append(nil), l.state.Append(nil); !bytes.Equal(got, want) || l2.spec.durable != l2.state {
		t.Errorf("restored %x, want %x", got, want)
	}
	if !slices.Equal(a2.got, a.got) || !slices.Equal(c2.got, c.got) || d.got != nil {
		t.Errorf("machines: %q %q %q", a2.got, c2.got, d.got)
	}

	if _, err := restored(t, body, a2); !errors.Is(err, state.ErrFormat) {
		t.Errorf("without a machine: %v", err)
	}
	if _, err := restored(t, body, a2, c2, &recorder{kinds: []uint16{100, 102}}); err != nil {
		t.Errorf("with another machine: %v", err)
	}
	if _, err := restored(t, slices.Concat(body[:len(body)-1], []byte("x")), a2, c2); err == nil {
		t.Error("a machine's error is lost")
	}
	if err := l2.restore(journal.Position{Epoch: 1, Slot: 1}, body); !errors.Is(err, state.ErrCorrupt) {
		t.Errorf("before what it holds: %v", err)
	}
}

// Fields that are not part of the log outlive a Restore, and watchers are woken.
func TestRestoreKeepsTheOwners(t *testing.T) {
	l, err := prepare(options(mem.New()))
	must(err)
	must(l.state.Apply(journal.Position{Epoch: 1, Slot: 1}, created()))
	p := l.state.Partition(state.Place{Topic: testTopic.ID, Partition: 1})
	p.Grown = make(chan struct{})
	watched := p.Grown
	kept := false
	l.state.Appended, l.state.Adopted["g"] = func(state.Place, int64, []byte) { kept = true }, buffer(3)
	s := l.state
	must(l.restore(journal.Position{Epoch: 1, Slot: 1}, (&Log{state: state.Empty()}).snapshot()))
	if s.Appended(state.Place{}, 0, nil); l.state != s || !kept || s.Adopted["g"] != buffer(3) || len(s.Topics)+len(s.Names) != 0 {
		t.Errorf("%+v", s)
	}
	select {
	case <-watched:
	default:
		t.Error("nobody is woken")
	}
}
