package commitlog

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record/recordtest"
)

// mirroredKind is that of the machine that mirrors follow in these tests; the one of
// otherKind they do not.
const (
	mirroredKind = 150
	otherKind    = 160
)

// openMirrored opens the log of shard 0 with a machine that mirrors follow and one that
// they do not, and returns the first one.
func openMirrored(t testing.TB, b *mem.Bucket) (*Log, *recorder) {
	t.Helper()
	followed, other := &recorder{kinds: []uint16{mirroredKind}}, &recorder{kinds: []uint16{otherKind}}
	l := openShard(t, b, 0, func(o *Options) {
		o.Machines, o.Mirrored = []state.Machine{other, followed}, []state.Machine{followed}
	})
	return l, followed
}

// mirrored is a Mirror with its machine.
type mirrored struct {
	*Mirror
	machine *recorder
}

func newMirrored(t testing.TB, l *Log) mirrored {
	t.Helper()
	m := mirrored{machine: &recorder{kinds: []uint16{mirroredKind}}}
	var err error
	if m.Mirror, err = NewMirror(l.CatalogueSnapshot(), m.machine); err != nil {
		t.Fatal(err)
	}
	return m
}

// equals compares a Mirror with the log that it follows.
func (m mirrored) equals(t testing.TB, l *Log, machine *recorder) {
	t.Helper()
	if got, want := m.Topics(), l.Topics(); !reflect.DeepEqual(got, want) {
		t.Fatalf("the mirror has topics\n%+v, the log\n%+v", got, want)
	}
	if !slices.Equal(m.machine.got, machine.got) {
		t.Fatalf("the mirror's machine was told %q, the log's %q", m.machine.got, machine.got)
	}
}

// changeCatalogue makes a random change of the catalogue, or of what is not part of it.
func changeCatalogue(t testing.TB, l *Log, rng *rand.Rand, n int) {
	t.Helper()
	ctx := t.Context()
	topics := l.Topics()
	var err error
	switch k := rng.IntN(10); {
	case k < 3 || len(topics) == 0:
		_, err = l.CreateTopic(ctx, fmt.Sprint("t", n), 1+rng.Int32N(3), map[string]string{"k": fmt.Sprint(n)})
	case k == 3:
		err = l.GrowTopic(ctx, topics[0].ID, topics[0].Partitions+1)
	case k == 4:
		err = l.AlterTopic(ctx, topics[0].ID, map[string]string{"n": fmt.Sprint(n)})
	case k == 5:
		_, err = l.DeletingTopic(ctx, topics[0].ID)
	case k == 6:
		err = l.DeleteTopic(ctx, topics[len(topics)-1].ID)
	case k == 7:
		err = l.Propose(ctx, mirroredKind, fmt.Append(nil, n))
	case k == 8:
		err = l.Propose(ctx, otherKind, fmt.Append(nil, n))
	default:
		appended(t, l, Append{Topic: topics[0].ID, Batch: recordtest.Batch("v")})
	}
	must(err)
}

// A Mirror that is told what it lacks is what the log is, however far behind it was,
// over changes of owner, and so is one that is read from the bucket.
func TestMirror(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 1))
		b := mem.New()
		l, machine := openMirrored(t, b)
		m := newMirrored(t, l)
		for n := range 60 {
			changeCatalogue(t, l, rng, n)
			if rng.IntN(20) == 0 {
				must(l.Maintain(t.Context()))
			}
			if rng.IntN(15) == 0 {
				must(l.Close())
				l, machine = openMirrored(t, b)
			}
			if rng.IntN(3) > 0 {
				continue
			}
			u, _ := l.CatalogueAfter(m.Position())
			if u.Snapshot != nil { // only an owner that has read a checkpoint lacks what was before
				m = newMirrored(t, l)
			} else {
				must(m.Apply(u))
			}
			m.equals(t, l, machine)
		}
		read := &recorder{kinds: []uint16{mirroredKind}}
		again, err := ReadMirror(t.Context(), b, read)
		must(err)
		mirrored{again, read}.equals(t, l, machine)
		if u, _ := l.CatalogueAfter(again.Position()); len(u.Slots) > 0 || u.Snapshot != nil || u.At != again.Position() {
			t.Errorf("seed %d: read up to %v, and %d slots are lacking up to %v", seed, again.Position(), len(u.Slots), u.At)
		}
	}
}

// Who waits is woken by each change of the catalogue, and by nothing else.
func TestCatalogueChanged(t *testing.T) {
	l, _ := openMirrored(t, mem.New())
	topic := createTopic(t, l, "t", 1)
	m := newMirrored(t, l)
	u, changed := l.CatalogueAfter(m.Position())
	if len(u.Slots) > 0 || u.Snapshot != nil {
		t.Fatalf("a new mirror lacks %+v", u)
	}
	appended(t, l, Append{Topic: topic.ID, Batch: recordtest.Batch("v")})
	must(l.Propose(t.Context(), otherKind, nil))
	select {
	case <-changed:
		t.Error("woken without a change")
	default:
	}
	if u, _ := l.CatalogueAfter(m.Position()); !m.Position().Before(u.At) {
		t.Errorf("the position stays at %v", u.At)
	}
	must(l.Propose(t.Context(), mirroredKind, []byte("x")))
	<-changed
	u, _ = l.CatalogueAfter(m.Position())
	if len(u.Slots) != 1 || len(u.Slots[0].Entries) != 1 || string(u.Slots[0].Entries[0].Body) != "x" {
		t.Errorf("%+v", u)
	}
}

// Who is too far behind gets everything, and so does who is ahead of the log. What does
// not follow is refused.
func TestMirrorBehind(t *testing.T) {
	l, machine := openMirrored(t, mem.New())
	m := newMirrored(t, l)
	for range 3 {
		must(l.Propose(t.Context(), mirroredKind, []byte(strings.Repeat("x", maxFeed/2))))
	}
	if l.feed.bytes > maxFeed {
		t.Errorf("%d bytes are kept", l.feed.bytes)
	}
	u, _ := l.CatalogueAfter(m.Position())
	if err := m.Apply(u); !errors.Is(err, ErrBehind) || u.Snapshot == nil {
		t.Errorf("a snapshot was applied: %v", err)
	}
	m = newMirrored(t, l)
	m.equals(t, l, machine)
	if u, _ := l.CatalogueAfter(journal.Position{Epoch: 9, Slot: 1}); u.Snapshot == nil {
		t.Error("who is ahead gets no snapshot")
	}
	at := m.Position()
	if err := m.Apply(CatalogueUpdate{At: before(at)}); !errors.Is(err, ErrBehind) || m.Position() != at {
		t.Errorf("an older position: %v", err)
	}
	bad := CatalogueUpdate{At: journal.Position{Epoch: 9, Slot: 1}, Slots: []CatalogueSlot{{journal.Position{Epoch: 9, Slot: 1}, []journal.Entry{{Kind: state.KindTopicDeleted, Body: state.EncodeTopicDeleted([16]byte{7})}}}}}
	if err := m.Apply(bad); !errors.Is(err, state.ErrCorrupt) {
		t.Errorf("an unknown topic is deleted: %v", err)
	}
	u = l.CatalogueSnapshot()
	if _, err := NewMirror(u); !errors.Is(err, state.ErrFormat) {
		t.Errorf("without the machine: %v", err)
	}
	for n := range 7 { // 7 bytes are one without topics
		if _, err := NewMirror(CatalogueUpdate{At: u.At, Snapshot: u.Snapshot[:n]}, &recorder{kinds: []uint16{mirroredKind}}); err == nil {
			t.Errorf("a snapshot of %d bytes is whole", n)
		}
	}
}

// A snapshot is what the log was between two slots, whatever is applied meanwhile.
func TestCatalogueIsOneMoment(t *testing.T) {
	l, _ := openMirrored(t, mem.New())
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		for n := 0; ; n++ { // topic and entry are in one slot, or in two that follow each other
			if _, err := l.CreateTopic(ctx, fmt.Sprint("t", n), 1, nil); err != nil {
				ended <- err
				return
			}
			must(l.Propose(context.Background(), mirroredKind, fmt.Append(nil, n)))
		}
	}()
	for range 50 {
		m := newMirrored(t, l)
		topics, entries := len(m.Topics()), len(m.machine.got)
		if topics != entries && topics != entries+1 {
			t.Fatalf("%d topics and %d entries at %v", topics, entries, m.Position())
		}
		u, _ := l.CatalogueAfter(m.Position())
		must(m.Apply(u))
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
