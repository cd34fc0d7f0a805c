package commitlog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record/recordtest"
	"github.com/weirmq/weir/storage/storagetest"
	"github.com/weirmq/weir/storage/weir"
)

func TestOptions(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"no bucket":      func(o *Options) { o.Bucket = nil },
		"small slots":    func(o *Options) { o.SlotBytes = 1000 },
		"large slots":    func(o *Options) { o.SlotBytes = 64 << 20 },
		"depth":          func(o *Options) { o.Depth = -1 },
		"linger":         func(o *Options) { o.Linger = -1 },
		"tail":           func(o *Options) { o.TailBytes = -1 },
		"machine's kind": func(o *Options) { o.Machines = []state.Machine{&recorder{kinds: []uint16{99}}} },
		"two machines": func(o *Options) {
			o.Machines = []state.Machine{&recorder{kinds: []uint16{100}}, &recorder{kinds: []uint16{100}}}
		},
	} {
		if _, err := Open(context.Background(), options(mem.New(), change)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// A second owner takes over while the first has slots in flight. The answers of the
// first one are true: a batch answered with nil is in the log, once; one answered with
// ErrFenced may be.
func TestTakeover(t *testing.T) {
	for landed := range 4 {
		t.Run(fmt.Sprint(landed, " land"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { takeover(t, landed) })
		})
	}
}

func takeover(t *testing.T, landed int) {
	ctx := context.Background()
	b := mem.New()
	faults := storagetest.NewFaults(b, 1)
	l := open(t, faults)
	topic := createTopic(t, l, "t", 1)
	watch := l.Watch(topic.ID, 0)
	// Of three slots in flight the first few arrive, without an answer; the
	// other Creates hang for an hour.
	var slots int
	faults.Plan(func(c storagetest.Call) storagetest.Outcome {
		if c.Verb != storagetest.Create {
			return storagetest.Outcome{}
		}
		if slots++; slots <= landed {
			return storagetest.Outcome{After: time.Hour}
		}
		return storagetest.Outcome{Before: time.Hour}
	})
	big := make([]string, 64) // no merging
	big[0] = string(make([]byte, leaveBytes))
	var answers []<-chan result
	for range 3 {
		answers = append(answers, send(l, Append{Topic: topic.ID, Batch: recordtest.Batch(big...)}))
		synctest.Wait()
	}
	standing := send(l, Append{Topic: topic.ID, Batch: recordtest.Batch("x")})

	next := open(t, b)
	if err := l.Confirm(ctx); !errors.Is(err, ErrFenced) {
		t.Errorf("confirm: %v", err)
	}
	<-l.Done()
	<-watch
	answers = append(answers, standing)
	for i, a := range answers {
		if r := <-a; !errors.Is(r.err, ErrFenced) || r.base != -1 {
			t.Errorf("append %d: %+v", i, r)
		}
	}
	for name, err := range map[string]error{
		"append":   (<-send(l, Append{Topic: topic.ID, Batch: recordtest.Batch("x")})).err,
		"create":   second(l.CreateTopic(ctx, "u", 1, nil)),
		"fetch":    second(l.Fetch(ctx, topic.ID, 0, 0, 1)),
		"mark":     second(l.Mark(ctx, *stream("g", 1), topic.ID, 0)),
		"producer": second(l.NewProducerID(ctx)),
		"confirm":  l.Confirm(ctx),
		"err":      l.Err(),
	} {
		if !errors.Is(err, ErrFenced) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := len(readAll(t, next, topic.ID, 0)); got != landed*64 {
		t.Errorf("%d records at the new owner, want %d", got, landed*64)
	}
	if next.Epoch() <= l.Epoch() {
		t.Errorf("epoch %d after %d", next.Epoch(), l.Epoch())
	}
	faults.Land()
	if base := appended(t, next, Append{Topic: topic.ID, Batch: recordtest.Batch("y")}); base != int64(landed*64) {
		t.Error(base)
	}
	_ = l.Close() // complains about the slots that were not acknowledged
	sound(t, b)
	for i, a := range answers {
		if len(a) > 0 {
			t.Errorf("append %d was answered twice", i)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// An owner that only slept finds out at its next slot.
func TestFencedBySlot(t *testing.T) {
	b := mem.New()
	l := open(t, b)
	topic := createTopic(t, l, "t", 1)
	next := open(t, b)
	if r := <-send(l, Append{Topic: topic.ID, Batch: recordtest.Batch("x")}); !errors.Is(r.err, ErrFenced) {
		t.Error(r)
	}
	<-l.Done()
	if got := readAll(t, next, topic.ID, 0); len(got) != 0 {
		t.Error(got)
	}
}

// Close answers the requests in line and lets slots in flight land.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := mem.New()
		g := newGate(b)
		l := open(t, g)
		topic := createTopic(t, l, "t", 1)
		release := g.hold()
		flying := send(l, Append{Topic: topic.ID, Batch: recordtest.Batch("x")})
		synctest.Wait()
		standing := send(l, Append{Topic: topic.ID, Batch: recordtest.Batch("y")})
		closed := make(chan error, 1)
		go func() { closed <- l.Close() }()
		synctest.Wait()
		if r := <-standing; !errors.Is(r.err, ErrClosed) {
			t.Error(r)
		}
		if !pending(flying) || len(closed) > 0 {
			t.Error("Close did not wait")
		}
		release()
		if r := <-flying; r.err != nil {
			t.Error(r)
		}
		if err := <-closed; err != nil {
			t.Error(err)
		}
		<-l.Done()
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if r := <-send(l, Append{Topic: topic.ID, Batch: recordtest.Batch("z")}); !errors.Is(r.err, ErrClosed) {
			t.Error(r)
		}
		if _, err := l.Fetch(context.Background(), topic.ID, 0, 0, 1); !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
		if got := readAll(t, open(t, b), topic.ID, 0); len(got) != 1 {
			t.Error(got)
		}
	})
}

// A bucket that no longer answers does not block Close for ever, and slots in flight
// are not reported as lost.
func TestCloseGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := storagetest.NewFaults(mem.New(), 1)
		l := open(t, f)
		topic := createTopic(t, l, "t", 1)
		f.Plan(func(storagetest.Call) storagetest.Outcome { return storagetest.Outcome{Before: 24 * time.Hour} })
		flying := send(l, Append{Topic: topic.ID, Batch: recordtest.Batch("x")})
		synctest.Wait()
		if err := l.Close(); err == nil {
			t.Error("closed with a slot in flight and said nothing")
		}
		if r := <-flying; !errors.Is(r.err, ErrFenced) {
			t.Error(r)
		}
	})
}

// Everything that can be asked is the same after a crash, from a log of several
// owners.
func TestReopenEqualsBefore(t *testing.T) {
	ctx := context.Background()
	b := mem.New()
	var topic state.Topic
	for round := range 3 {
		l := open(t, b)
		if round == 0 {
			topic = createTopic(t, l, "t", 2)
		}
		doomed := createTopic(t, l, fmt.Sprint("doomed", round), 1)
		for i := range 20 {
			appended(t, l, Append{Topic: topic.ID, Batch: recordtest.Batch("x", "y")})
			appended(t, l, Append{Topic: topic.ID, Partition: 1, Batch: recordtest.Produced(int64(i), 0, int32(round), "p")})
			appended(t, l, Append{Topic: topic.ID, Batch: recordtest.Batch("z"), Source: source("g", uint32(round+1), uint64(i), uint64(i+1), uint64(i+1))})
			appended(t, l, Append{Topic: doomed.ID, Batch: recordtest.Batch("d"), Source: source("h", 1, uint64(i), uint64(i+1), uint64(i+1))})
		}
		must(l.Retire(ctx, "g", buffer(uint32(round+1))))
		must(l.DeleteTopic(ctx, doomed.ID))
		must(second(l.NewProducerID(ctx)))
		before := l.state
		after := open(t, b).state // while the first one is open, as after a crash
		for _, s := range []*state.State{before, after} {
			s.Appended, s.Changed = nil, nil
		}
		if !reflect.DeepEqual(before, after) {
			t.Fatalf("round %d: the state after a reopen differs", round)
		}
	}
	sound(t, b)
}

// recorder is a Machine that remembers what it was told.
type recorder struct {
	kinds []uint16
	got   []string
	fail  error
}

func (r *recorder) Kinds() []uint16 { return r.kinds }

func (r *recorder) Apply(kind uint16, body []byte) error {
	r.got = append(r.got, fmt.Sprintf("%d:%s", kind, body))
	return r.fail
}

func (r *recorder) Snapshot() []byte {
	body, err := json.Marshal(r.got)
	must(err)
	return body
}

func (r *recorder) Restore(body []byte) error {
	r.got = nil
	if len(body) == 0 {
		return nil
	}
	return json.Unmarshal(body, &r.got)
}

func with(machines ...state.Machine) func(*Options) {
	return func(o *Options) { o.Machines = machines }
}

func TestMachines(t *testing.T) {
	ctx := context.Background()
	b := mem.New()
	a, c := &recorder{kinds: []uint16{100, 101}}, &recorder{kinds: []uint16{200}}
	l := open(t, b, with(a, c))
	for i, kind := range []uint16{100, 200, 101, 100} {
		if err := l.Propose(ctx, kind, fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Propose(ctx, 102, nil); !errors.Is(err, state.ErrFormat) {
		t.Error(err)
	}
	if err := l.Propose(ctx, 1, nil); !errors.Is(err, state.ErrFormat) {
		t.Error(err)
	}
	if err := l.Propose(ctx, 100, make([]byte, 16<<20)); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
	must(l.Close())
	a2, c2 := &recorder{kinds: []uint16{100, 101}}, &recorder{kinds: []uint16{200}}
	l = open(t, b, with(a2, c2))
	want := []string{"100:0", "101:2", "100:3"}
	if !reflect.DeepEqual(a.got, want) || !reflect.DeepEqual(a2.got, want) || !reflect.DeepEqual(c.got, c2.got) || len(c.got) != 1 {
		t.Error(a.got, a2.got, c.got, c2.got)
	}
	must(l.Close())

	// A later version has written here: this one must not lead.
	_, err := Open(ctx, options(b, with(&recorder{kinds: []uint16{100, 101}})))
	if !errors.Is(err, state.ErrFormat) {
		t.Errorf("unknown kind: %v", err)
	}
	if report := sound(t, b); report.Entries != 5 { // and what the log says of the object cluster
		t.Errorf("%+v", report)
	}
}

// A Machine that cannot apply an entry ends the ownership, now and at the next
// start.
func TestMachineFails(t *testing.T) {
	b := mem.New()
	broken := errors.New("broken")
	m := &recorder{kinds: []uint16{100}, fail: broken}
	l := open(t, b, with(m))
	if err := l.Propose(context.Background(), 100, nil); !errors.Is(err, ErrFenced) || !errors.Is(err, broken) {
		t.Error(err)
	}
	<-l.Done()
	if _, err := Open(context.Background(), options(b, with(m))); !errors.Is(err, broken) {
		t.Error(err)
	}
}

// A caller that stops waiting does not disturb the log.
func TestAskerLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(mem.New())
		l := open(t, g)
		release := g.hold()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := l.CreateTopic(ctx, "t", 1, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		release()
		synctest.Wait()
		if _, ok := l.Topic("t"); !ok {
			t.Error("what had left for the bucket was dropped")
		}
	})
}

// Entries of a kind or version that this program does not know stop recovery.
func TestUnknownEntries(t *testing.T) {
	for name, e := range map[string]journal.Entry{
		"kind":    {Kind: 50, Body: []byte{1}},
		"version": {Kind: state.KindTopicDeleted, Body: append([]byte{2}, make([]byte, 16)...)},
	} {
		b := raw(t, e)
		if _, err := Open(context.Background(), options(b)); !errors.Is(err, state.ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
	b := raw(t, journal.Entry{Kind: state.KindTopicDeleted, Body: state.EncodeTopicDeleted(weir.TopicID{1})})
	if _, err := Open(context.Background(), options(b)); !errors.Is(err, state.ErrCorrupt) {
		t.Error(err)
	}
}
