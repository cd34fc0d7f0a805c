package share

import (
	"errors"
	"log/slog"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/cloud/machine"
	"github.com/weirmq/weir/cloud/share/state"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/commitlog/identity"
	logstate "github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record/recordtest"
)

func (w *world) got(got []Delivery, want ...Delivery) {
	w.t.Helper()
	if len(got)+len(want) > 0 && !reflect.DeepEqual(got, want) {
		w.t.Fatalf("got %v, want %v", got, want)
	}
}

var earliest = Settings{Earliest: true, Lock: time.Second}

// TestDelivery: a record goes to one member at a time, until its time is over or the
// member says what became of it, and then to the next with a higher count.
func TestDelivery(t *testing.T) {
	run(t, 0, earliest, func(w *world) {
		w.append(recordtest.Batch("a", "b", "c", "d"))
		w.got(w.acquire("m", 3), Delivery{0, 2, 1})
		w.got(w.acquire("n", 0), Delivery{3, 3, 1})
		w.got(w.acquire("n", 0))
		w.want(w.ack("m", 0, 2, Accept, Release, Reject), nil)
		w.want(w.ack("m", 0, 0, Accept), ErrInvalidState) // twice
		w.want(w.ack("m", 3, 3, Accept), ErrInvalidState) // another's
		w.got(w.acquire("n", 0), Delivery{1, 1, 2})
		if o := w.offsets(); o.Start != 1 || o.Lag != 2 {
			w.t.Errorf("%+v", o)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		w.want(w.ack("n", 1, 1, Accept), ErrInvalidState) // too late
		time.Sleep(time.Second)
		w.got(w.acquire("m", 0), Delivery{1, 1, 3}, Delivery{3, 3, 2})
	})
}

// TestRenew: a member that needs longer for a record can say so.
func TestRenew(t *testing.T) {
	run(t, 0, earliest, func(w *world) {
		w.append(recordtest.Batch("a", "b"))
		w.acquire("m", 0)
		for range 5 {
			time.Sleep(700 * time.Millisecond)
			w.want(w.ack("m", 1, 1, Renew), nil)
		}
		w.got(w.acquire("n", 0), Delivery{0, 0, 2})
		w.want(w.ack("m", 1, 1, Accept), nil)
	})
}

// TestLimit: a record whose deliveries fail is done after the last.
func TestLimit(t *testing.T) {
	s := earliest
	s.Deliveries = 2
	run(t, 0, s, func(w *world) {
		w.append(recordtest.Batch("a", "b"))
		w.got(w.acquire("m", 0), Delivery{0, 1, 1})
		time.Sleep(2 * time.Second)
		w.got(w.acquire("m", 0), Delivery{0, 1, 2})
		w.want(w.ack("m", 0, 0, Release), nil)
		time.Sleep(2 * time.Second)
		w.got(w.acquire("m", 0))
		if o := w.offsets(); o.Start != 2 {
			w.t.Errorf("%+v", o)
		}
	})
}

// TestLocks: no more records of a partition are acquired at once than the setting says.
func TestLocks(t *testing.T) {
	s := earliest
	s.Locks = 3
	run(t, 0, s, func(w *world) {
		w.append(recordtest.Batch("a", "b"))
		w.append(recordtest.Batch("c", "d"))
		w.got(w.acquire("m", 0), Delivery{0, 2, 1})
		a, err := w.Acquire(w.t.Context(), Request{Place: w.place(), Member: "n", Bytes: 1 << 20})
		w.want(err, nil)
		w.want(w.ack("m", 1, 1, Accept), nil)
		<-a.More[1]
		w.got(w.acquire("n", 0), Delivery{3, 3, 1})
	})
}

// TestLeave: what a member has goes to others when it has gone.
func TestLeave(t *testing.T) {
	run(t, 0, Settings{Earliest: true, Lock: time.Hour}, func(w *world) {
		w.append(recordtest.Batch("a", "b", "c"))
		w.got(w.acquire("m", 2), Delivery{0, 1, 1})
		w.got(w.acquire("n", 0), Delivery{2, 2, 1})
		done := make(chan error, 1)
		w.Leave("g", "m", func(err error) { done <- err })
		w.want(<-done, nil)
		w.got(w.acquire("n", 0), Delivery{0, 1, 2})
		w.Leave("other", "m", func(err error) { done <- err })
		w.want(<-done, nil)
	})
}

// TestCrash: a new owner counts one delivery more for what may have been delivered.
// What came later, or is done, is as it was.
func TestCrash(t *testing.T) {
	s := earliest
	s.Deliveries = 2
	run(t, 0, s, func(w *world) {
		w.append(recordtest.Batch("a", "b", "c", "d"))
		w.got(w.acquire("m", 3), Delivery{0, 2, 1})
		w.want(w.ack("m", 1, 1, Accept), nil)
		w.crash()
		w.append(recordtest.Batch("e"))
		w.want(w.ack("m", 0, 0, Accept), ErrInvalidState) // the lease was memory
		w.got(w.acquire("m", 0), Delivery{0, 0, 2}, Delivery{2, 3, 2}, Delivery{4, 4, 1})
		w.want(w.ack("m", 0, 0, Accept), nil)
		w.crash()
		w.append(recordtest.Batch("f"))
		// A crash alone never makes a record done, though the limit is 2.
		w.got(w.acquire("m", 1), Delivery{2, 2, 3})
		w.want(w.ack("m", 2, 2, Release), nil)
		w.got(w.acquire("m", 0), Delivery{3, 3, 3}, Delivery{4, 4, 2}, Delivery{5, 5, 1})
	})
}

// TestBegin: where a group begins to read a partition.
func TestBegin(t *testing.T) {
	for what, c := range map[string]struct {
		s    Settings
		want int64
	}{
		"latest":   {Settings{}, 2},
		"earliest": {Settings{Earliest: true}, 0},
		"since":    {Settings{Since: time.Minute}, 1},
		"nothing":  {Settings{Since: time.Second}, 2},
	} {
		run(t, 0, c.s, func(w *world) {
			now := time.Now().UnixMilli()
			w.append(recordtest.Timed(now - 120_000))
			w.append(recordtest.Timed(now - 30_000))
			w.acquire("m", 1)
			if o := w.offsets(); o.Start != c.want || o.Lag != 2-c.want {
				w.t.Errorf("%s: %+v", what, o)
			}
			w.append(recordtest.Batch("c"))
			w.crash() // that it began is durable
			if got := w.acquire("n", 0); c.want == 2 && !reflect.DeepEqual(got, []Delivery{{2, 2, 2}}) {
				w.t.Errorf("%s: %v", what, got)
			}
		})
	}
}

// TestNoRecords: markers, aborted records where only committed ones are asked for, and
// offsets that compaction has left empty are done without a delivery. So are the
// records before the start of the partition.
func TestNoRecords(t *testing.T) {
	for _, committed := range []bool{false, true} {
		s := earliest
		s.Committed = committed
		run(t, 0, s, func(w *world) {
			w.transaction(7, 0, false, "a", "b") // 0..1, marker 2
			w.transaction(7, 1, true, "c")       // 3, marker 4
			want := []Delivery{{0, 1, 1}, {3, 3, 1}}
			if committed {
				want = want[1:]
			}
			w.got(w.acquire("m", 0), want...)
			for _, d := range want {
				w.want(w.ack("m", d.First, d.Last, Accept), nil)
			}
			time.Sleep(time.Second)
			if o := w.offsets(); o.Start != 5 || o.Lag != 0 {
				w.t.Errorf("committed %v: %+v", committed, o)
			}
			w.append(recordtest.Transactional(8, 0, 0, "d"))
			if got := w.acquire("m", 0); (len(got) == 0) != committed {
				w.t.Errorf("committed %v: open transaction: %v", committed, got)
			}
		})
	}
	run(t, 0, earliest, func(w *world) {
		for range 4 {
			w.append(recordtest.Batch("a"))
		}
		w.got(w.acquire("m", 1), Delivery{0, 0, 1})
		_, err := w.log.DeleteRecords(w.t.Context(), w.topic, 0, 2)
		w.want(err, nil)
		w.got(w.acquire("m", 1), Delivery{2, 2, 1})
		w.want(w.ack("m", 0, 2, Accept), nil) // those that are gone are ignored
		if o := w.offsets(); o.Start != 3 || o.Lag != 1 {
			w.t.Errorf("%+v", o)
		}
		if p := w.state.Partition(w.place()); p.Start != 3 {
			w.t.Errorf("start at rest: %d", p.Start)
		}
	})
	// Compacted: of the offsets 4 to 15, 6 and 7, 10 to 12 are in batches.
	run(t, 0, earliest, func(w *world) {
		at := func(base int64, n int) []byte {
			b := recordtest.Batch(make([]string, n)...)
			b.SetBaseOffset(base)
			return b
		}
		durable := &state.Partition{ID: 1, Start: 4, Lent: 100, Runs: []state.Run{{First: 11, Last: 11, Done: true}}}
		tk := take{p: &partition{id: 1}, from: 4, room: 100, member: "m"}
		tk.all(durable, commitlog.Fetched{Batches: [][]byte{at(6, 2), at(10, 3)}, Aborted: []logstate.Aborted{}})
		w.got(tk.a.Records, Delivery{6, 7, 1}, Delivery{10, 10, 1}, Delivery{12, 12, 1})
		if want := []state.Run{{First: 4, Last: 5, Done: true}, {First: 8, Last: 9, Done: true}}; !reflect.DeepEqual(tk.none, want) {
			w.t.Errorf("%v, want %v", tk.none, want)
		}
		if n := tk.p.held(); n != 4 {
			w.t.Errorf("%d records are held", n)
		}
	})
}

// TestMore: a member that waits is told when there are records: new ones, and such
// that another does not have any more.
func TestMore(t *testing.T) {
	run(t, 0, earliest, func(w *world) {
		for i, happens := range []func(){
			func() { w.append(recordtest.Batch("a")) },
			func() { w.want(w.ack("m", 0, 0, Release), nil) },
			func() { time.Sleep(2 * time.Second) },
			func() { w.Leave("g", "m", func(error) {}) },
			func() { w.want(w.Begin(w.t.Context(), w.place(), 0), nil) },
			func() { _, err := w.Delete(w.t.Context(), "g", nil); w.want(err, nil) },
		} {
			a, err := w.Acquire(w.t.Context(), Request{Place: w.place(), Member: "n", Bytes: 1})
			w.want(err, nil)
			if len(a.More) != 2 {
				w.t.Fatalf("%d: %+v", i, a)
			}
			happens()
			select {
			case <-a.More[0]:
			case <-a.More[1]:
			case <-time.After(time.Minute):
				w.t.Fatalf("%d: nobody was told", i)
			}
			if got := w.acquire("m", 0); len(got) != 1 || got[0].First != 0 {
				w.t.Fatalf("%d: %v", i, got)
			}
		}
	})
}

// TestAdministrators: a group can be made to begin anew, and to forget.
func TestAdministrators(t *testing.T) {
	run(t, 0, earliest, func(w *world) {
		ctx := w.t.Context()
		w.append(recordtest.Batch("a", "b", "c"))
		w.acquire("m", 0)
		w.want(w.ack("m", 0, 0, Accept), nil)
		w.want(w.Begin(ctx, w.place(), 2), nil)
		w.want(w.ack("m", 1, 1, Accept), ErrInvalidState)
		w.got(w.acquire("m", 0), Delivery{2, 2, 1})
		w.want(w.Begin(ctx, w.of(5), 2), commitlog.ErrUnknownTopic)
		if groups, err := w.Groups(); err != nil || !reflect.DeepEqual(groups, []string{"g"}) {
			w.t.Errorf("%v, %v", groups, err)
		}
		for what, forget := range map[string]func() error{
			"delete a topic": func() error { _, err := w.Delete(ctx, "g", &w.topic); return err },
			"delete all":     func() error { _, err := w.Delete(ctx, "g", nil); return err },
			"forget":         func() error { return w.ForgetTopic(ctx, w.topic) },
		} {
			if got := w.acquire("m", 0); len(got) == 0 && len(w.state.Groups()) == 0 {
				w.t.Errorf("%s: nothing to forget", what)
			}
			w.want(forget(), nil)
			if groups, err := w.Groups(); err != nil || len(groups) > 0 || len(w.Manager.groups) > 0 {
				w.t.Errorf("%s: %v, %v", what, groups, err)
			}
		}
		found, err := w.Delete(ctx, "g", nil)
		if w.want(err, nil); found {
			w.t.Error("deleted again")
		}
		w.want(w.ForgetTopic(ctx, w.topic), nil)
	})
}

// TestRefused: what a client must not do changes nothing.
func TestRefused(t *testing.T) {
	run(t, 0, earliest, func(w *world) {
		w.append(recordtest.Batch("a", "b", "c"))
		w.got(w.acquire("m", 0), Delivery{0, 2, 1})
		for i, c := range []struct {
			all  []Acknowledgement
			want error
		}{
			{[]Acknowledgement{{0, 2, nil}}, ErrInvalid},
			{[]Acknowledgement{{0, 2, []Verdict{Accept, Accept}}}, ErrInvalid},
			{[]Acknowledgement{{0, 0, []Verdict{5}}}, ErrInvalid},
			{[]Acknowledgement{{0, 0, []Verdict{-1}}}, ErrInvalid},
			{[]Acknowledgement{{1, 0, []Verdict{Accept}}}, ErrInvalid},
			{[]Acknowledgement{{-1, 0, []Verdict{Accept}}}, ErrInvalid},
			{[]Acknowledgement{{1, 1, []Verdict{Accept}}, {0, 0, []Verdict{Accept}}}, ErrInvalid},
			{[]Acknowledgement{{0, 0, []Verdict{Accept}}, {2, 3, []Verdict{Accept}}}, ErrInvalidState},
			{[]Acknowledgement{{0, 1 << 60, []Verdict{Accept}}}, ErrInvalidState},
		} {
			done := make(chan error, 1)
			w.Acknowledge(w.place(), "m", c.all, func(err error) { done <- err })
			if err := <-done; !errors.Is(err, c.want) {
				w.t.Errorf("%d: %v, want %v", i, err, c.want)
			}
		}
		w.want(w.ack("m", 0, 2, Accept), nil)
		w.Manager.o.MaxPartitions = 1
		_, err := w.Acquire(w.t.Context(), Request{Place: w.of(1), Member: "m", Bytes: 1})
		w.want(err, ErrTooMany)
		w.want(w.Begin(w.t.Context(), w.of(1), 0), ErrTooMany)
		_, err = w.Acquire(w.t.Context(), Request{Place: w.of(2), Member: "m", Bytes: 1})
		w.want(err, commitlog.ErrUnknownTopic)
		w.want(w.Manager.Close(), nil)
		_, err = w.Acquire(w.t.Context(), Request{Place: w.place(), Member: "m", Bytes: 1})
		w.want(err, ErrClosed)
		w.want(w.ack("m", 0, 0, Accept), ErrClosed)
		_, err = w.Offsets("g")
		w.want(err, ErrClosed)
	})
}

// TestEntries: a delivery needs no entry of its own, and an acknowledgement one.
func TestEntries(t *testing.T) {
	run(t, 0, earliest, func(w *world) {
		for range 50 {
			w.append(recordtest.Batch("a"))
		}
		w.acquire("m", 1)
		before := w.log.Acked()
		for i := range int64(49) {
			w.got(w.acquire("m", 1), Delivery{i + 1, i + 1, 1})
		}
		if after := w.log.Acked(); after != before {
			w.t.Errorf("49 deliveries took the log from %v to %v", before, after)
		}
		w.want(w.ack("m", 0, 49, Accept), nil)
		if after := w.log.Acked(); after.Slot != before.Slot+1 {
			w.t.Errorf("the acknowledgement took it from %v to %v", before, after)
		}
	})
}

// TestSessions: a session is one connection's, and its requests have numbers.
func TestSessions(t *testing.T) {
	s := NewSessions(1)
	x, err := s.Open("g", "m")
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct {
		epoch int32
		want  error
	}{{1, nil}, {1, ErrSessionEpoch}, {3, ErrSessionEpoch}, {2, nil}, {-1, nil}, {3, nil}} {
		if err := x.Check(c.epoch); !errors.Is(err, c.want) {
			t.Errorf("%d: %v, want %v", i, err, c.want)
		}
	}
	if x.epoch = 1<<31 - 1; x.Check(1<<31-1) != nil || x.Check(1) != nil {
		t.Error("epochs do not begin anew")
	}
	if _, err := s.Open("g", "n"); !errors.Is(err, ErrSessionLimit) {
		t.Error(err)
	}
	y, err := s.Open("g", "m") // from another connection
	if err != nil || x.Close() || !errors.Is(x.Check(2), ErrNoSession) {
		t.Errorf("%v: the earlier session is still there", err)
	}
	for i := range int32(3) {
		for range 2 {
			if err := y.Add(Place{Group: "g", Partition: i}); err != nil {
				t.Error(err)
			}
		}
	}
	y.Remove(Place{Group: "g", Partition: 1})
	y.Remove(Place{Group: "g", Partition: 9})
	if a, b := y.Places(), y.Places(); len(a) != 2 || len(b) != 2 || a[0] != b[1] || a[1] != b[0] {
		t.Errorf("%v, then %v", a, b)
	}
	if !y.Close() || y.Close() {
		t.Error("the session did not end, or twice")
	}
	z, err := s.Open("g", "n")
	if err != nil {
		t.Fatal(err)
	}
	for i := range int32(maxSession + 1) {
		err = errors.Join(err, z.Add(Place{Partition: i}))
	}
	if !errors.Is(err, ErrSessionTooWide) {
		t.Error(err)
	}
}

// TestLevel: nothing is written that earlier versions cannot read.
func TestLevel(t *testing.T) {
	b := mem.New()
	if err := b.Create(t.Context(), identity.Key, []byte(`{"id":"AAAAAAAAAAAAAAAAAAAAAA","format":1,"shards":1}`)); err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, bucket: b, opts: Options{Log: slog.New(slog.DiscardHandler)}}
	w.open()
	topic, err := w.log.CreateTopic(t.Context(), "t", 1, nil)
	w.want(err, nil)
	w.topic = topic.ID
	_, err = w.Acquire(t.Context(), Request{Place: w.place(), Member: "m", Bytes: 1})
	w.want(err, machine.ErrLevel)
	w.want(w.Begin(t.Context(), w.place(), 0), machine.ErrLevel)
	w.want(w.Manager.Close(), nil)
	w.want(w.log.Close(), nil)
}

// TestUsage: what a group does with a topic is counted, by how a record ended.
func TestUsage(t *testing.T) {
	s := earliest
	s.Deliveries = 2
	run(t, 0, s, func(w *world) {
		w.append(recordtest.Batch("a", "b", "c", "d", "e", "f"))
		usage := func(want Usage) {
			t.Helper()
			got, err := w.Usage()
			want.Group, want.Topic = "g", w.topic
			if err != nil || len(got) != 1 || got[0] != want {
				t.Errorf("%+v, %v; want %+v", got, err, want)
			}
		}
		w.acquire("m", 5)
		usage(Usage{Lag: 6, Acquired: 5})
		w.want(w.ack("m", 0, 3, Accept, Reject, Release, Accept), nil)
		usage(Usage{Lag: 3, Acquired: 1, Accepted: 2, Rejected: 1})
		time.Sleep(2 * time.Second) // e comes back
		w.got(w.acquire("m", 0), Delivery{2, 2, 2}, Delivery{4, 4, 2}, Delivery{5, 5, 1})
		w.want(w.ack("m", 2, 2, Release), nil)
		usage(Usage{Lag: 2, Acquired: 2, Accepted: 2, Rejected: 1, Archived: 1})
		time.Sleep(2 * time.Second)
		usage(Usage{Lag: 1, Accepted: 2, Rejected: 1, Archived: 2})
		w.crash()
		usage(Usage{Lag: 1})
	})
}

// TestCountsDurable: records count as done when that is durable, not when it is tried.
func TestCountsDurable(t *testing.T) {
	for name, usable := range map[string]string{"": "", "dlq.t": "true", "dlq.u": "false"} {
		s := earliest
		s.Deliveries, s.DeadLetters = 1, name
		run(t, 0, s, func(w *world) {
			if topic, ok := w.log.Topic(name); ok {
				w.want(w.log.AlterTopic(w.t.Context(), topic.ID, map[string]string{DeadLetterEnable: usable}), nil)
			}
			w.append(recordtest.Batch("a", "b", "c", "d", "e", "f"))
			w.acquire("m", 0)
			w.want(w.ack("m", 0, 2, Accept, Reject, Release), nil)
			before, log := w.Manager, w.log
			counts := func() [4]int64 {
				before.mu.Lock()
				defer before.mu.Unlock()
				p := before.groups["g"][topicPart{w.topic, 0}]
				return [4]int64{p.accepted, p.rejected, p.archived, p.uncopied}
			}
			want := [4]int64{1, 1, 1, 0}
			if usable == "false" {
				want[3] = 2
			}
			if got := counts(); got != want {
				t.Errorf("%q: %v, want %v", name, got, want)
			}
			w.open()
			for o, v := range map[int64]Verdict{3: Accept, 4: Reject} {
				done := make(chan error, 1)
				before.Acknowledge(w.place(), "m", []Acknowledgement{{o, o, []Verdict{v}}}, func(err error) { done <- err })
				if err := <-done; !gone(err) {
					t.Errorf("%q: the verdict was taken: %v", name, err)
				}
			}
			time.Sleep(2 * time.Second) // the leases end
			synctest.Wait()
			if got := counts(); got != want {
				t.Errorf("%q: %v after what failed, want %v", name, got, want)
			}
			_ = log.Close() // it is fenced
			w.want(before.Close(), nil)
		})
	}
}
