package txn

import (
	"errors"
	"log/slog"
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/cloud/group"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/commitlog/state"
)

const (
	id     = "tx"
	minute = time.Minute
)

var (
	a0 = state.Place{Topic: topicA, Partition: 0}
	a1 = state.Place{Topic: topicA, Partition: 1}
	b0 = state.Place{Topic: topicB, Partition: 0}
)

type world struct {
	t *testing.T
	*Coordinator
	j *heldLog
}

// run runs a test with a coordinator that serves, in a bubble of fake time.
func run(t *testing.T, o Options, test func(w world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := start(t, o, nil, nil)
		test(w)
		w.close()
	})
}

// start makes a coordinator and its groups of what snapshots say.
func start(t *testing.T, o Options, txns, groups []byte) world {
	o.Log = slog.New(slog.DiscardHandler)
	g := group.New(group.Options{Log: o.Log})
	o.Groups = g
	c := New(o)
	if err := errors.Join(c.Restore(txns), g.Restore(groups)); err != nil {
		t.Fatal(err)
	}
	j := newHeldLog(t, c, g)
	g.Serve(j)
	c.serve(j)
	return world{t, c, j}
}

func (w world) close() {
	w.t.Helper()
	if err := errors.Join(w.Close(), w.j.groups.Close()); err != nil {
		w.t.Errorf("close: %v", err)
	}
}

func (w world) want(got, want error) {
	w.t.Helper()
	if !errors.Is(got, want) {
		w.t.Errorf("%v, want %v", got, want)
	}
}

func (w world) begin(expected *Producer) Producer {
	w.t.Helper()
	p, err := w.InitProducerID(w.t.Context(), InitRequest{ID: id, Timeout: minute, Expected: expected})
	w.want(err, nil)
	return p
}

func (w world) add(p Producer, places ...state.Place) {
	w.t.Helper()
	w.want(w.AddPartitions(w.t.Context(), id, p, places), nil)
}

func (w world) end(p Producer, commit, bump bool) (Producer, error) {
	return w.End(w.t.Context(), EndRequest{ID: id, Producer: p, Commit: commit, Bump: bump})
}

func (w world) offsets(p Producer, implicit bool, at int64, of ...state.Place) error {
	r := OffsetsRequest{ID: id, Producer: p, Implicit: implicit, Commit: group.CommitRequest{Group: "g", Generation: -1}}
	for _, x := range of {
		r.Commit.Offsets = append(r.Commit.Offsets, group.Offset{Partition: group.Partition{Topic: x.Topic, Index: x.Partition}, Offset: at, LeaderEpoch: -1})
	}
	_, err := w.CommitOffsets(w.t.Context(), r)
	return err
}

// send appends without waiting; the channel gets the answer.
func (w world) send(p Producer, place state.Place, implicit bool) chan error {
	answer := make(chan error, 1)
	w.Append(Appended{
		Append: commitlog.Append{Topic: place.Topic, Partition: place.Partition, Batch: batchOf(p)}, ID: id, Implicit: implicit,
	}, func(_ int64, err error) { answer <- err })
	return answer
}

func (w world) is(state State, p Producer, places ...state.Place) {
	w.t.Helper()
	d, err := w.Describe(id)
	if err != nil || d.State != state || d.Producer != p || !slices.Equal(d.Places, places) {
		w.t.Errorf("%+v, %v; want %s of %v with %v", d, err, state, p, places)
	}
}

func (w world) marked(want ...marker) {
	w.t.Helper()
	if got := w.j.taken(); !slices.Equal(got, want) {
		w.t.Errorf("markers %v, want %v", got, want)
	}
}

func (w world) committed(of state.Place) int64 {
	w.t.Helper()
	all, err := w.j.groups.Offsets("g", []group.Partition{{Topic: of.Topic, Index: of.Partition}})
	w.want(err, nil)
	if len(all) == 0 {
		return none
	}
	return all[0].Offset
}

func TestInitProducerID(t *testing.T) {
	run(t, Options{MaxIDs: 2}, func(w world) {
		p := w.begin(nil)
		w.is(Empty, p)
		if p != (Producer{1001, 0}) {
			t.Errorf("first producer is %v", p)
		}
		second := w.begin(nil)
		if second != (Producer{1001, 1}) {
			t.Errorf("second producer is %v", second)
		}
		// KIP-360: the current producer gets the next epoch, and the same when it asks
		// again.
		third := w.begin(&second)
		if again := w.begin(&second); third != (Producer{1001, 2}) || again != third {
			t.Errorf("third producer is %v, then %v", third, again)
		}
		for _, r := range []struct {
			InitRequest
			want error
		}{
			{InitRequest{ID: id, Timeout: minute, Expected: &p}, ErrFenced},
			{InitRequest{ID: id, Timeout: minute, Expected: &Producer{1001, 3}}, ErrFenced},
			{InitRequest{ID: id, Timeout: minute, Expected: &Producer{7, 2}}, ErrFenced},
			{InitRequest{ID: "", Timeout: minute}, ErrInvalidID},
			{InitRequest{ID: string(make([]byte, maxName+1)), Timeout: minute}, ErrInvalidID},
			{InitRequest{ID: id}, ErrInvalidTimeout},
			{InitRequest{ID: id, Timeout: -minute}, ErrInvalidTimeout},
			{InitRequest{ID: id, Timeout: 15*minute + time.Millisecond}, ErrInvalidTimeout},
			{InitRequest{ID: "other", Timeout: 15 * minute, Expected: &p}, nil}, // forgotten meanwhile
			{InitRequest{ID: "third", Timeout: minute}, ErrTooManyIDs},
		} {
			_, err := w.InitProducerID(t.Context(), r.InitRequest)
			w.want(err, r.want)
		}
		// A new producer fences a client that asks again.
		w.begin(nil)
		_, err := w.InitProducerID(t.Context(), InitRequest{ID: id, Timeout: minute, Expected: &second})
		w.want(err, ErrFenced)
		w.is(Empty, Producer{1001, 3})
	})
}

func TestInitAbortsTheOngoing(t *testing.T) {
	run(t, Options{}, func(w world) {
		p := w.begin(nil)
		w.add(p, a1, a0)
		w.want(<-w.send(p, a0, false), nil)
		old := Producer{p.ID, -1}
		_, err := w.InitProducerID(t.Context(), InitRequest{ID: id, Timeout: minute, Expected: &old})
		w.want(err, ErrFenced)
		w.is(Ongoing, p, a0, a1) // a fenced client aborts nothing
		next := w.begin(nil)
		w.is(Empty, Producer{p.ID, 1})
		w.marked(marker{a0, next, false}, marker{a1, next, false})
		w.want(<-w.send(p, a0, true), ErrFenced)
		_, err = w.end(p, true, false)
		w.want(err, ErrFenced)
	})
}

func TestEpochsRunOut(t *testing.T) {
	last := int16(math.MaxInt16 - 1)
	age := func(w world, p Producer) {
		command := encodeInit(id, w.now(), Producer{p.ID, last}, NoProducer, 60_000)
		w.want(w.Apply(command.Kind, command.Body), nil)
	}
	run(t, Options{}, func(w world) {
		age(w, w.begin(nil))
		old := Producer{1001, last}
		fresh := w.begin(&old)
		if again := w.begin(&old); fresh != (Producer{1002, 0}) || again != fresh {
			t.Errorf("after the last epoch comes %v, then %v", fresh, again)
		}

		// The highest epoch of all fences.
		age(w, fresh)
		old = Producer{1002, last}
		w.add(old, a0)
		w.want(<-w.send(old, a0, false), nil)
		if got := w.begin(nil); got != (Producer{1003, 0}) {
			t.Errorf("after fencing the last epoch comes %v", got)
		}
		w.marked(marker{a0, Producer{1002, math.MaxInt16}, false})

		// Likewise at the end of a transaction that bumps.
		age(w, Producer{1003, 0})
		old = Producer{1003, last}
		w.add(old, a0)
		for range 2 {
			if got, err := w.end(old, true, true); err != nil || got != (Producer{1004, 0}) {
				t.Errorf("after the last epoch comes %v, %v", got, err)
			}
		}
		w.marked(marker{a0, Producer{1003, math.MaxInt16}, true})

		// Timed out in the last epoch.
		age(w, Producer{1004, 0})
		w.add(Producer{1004, last}, a0)
		time.Sleep(2 * minute)
		synctest.Wait()
		w.is(CompleteAbort, Producer{1004, math.MaxInt16})
		w.marked(marker{a0, Producer{1004, math.MaxInt16}, false})
		if got := w.begin(nil); got != (Producer{1005, 0}) {
			t.Errorf("after the time-out of the last epoch comes %v", got)
		}
	})
}

// All ends in all states, for both generations of clients.
func TestEnd(t *testing.T) {
	states := map[string]func(w world, p Producer, bump bool) Producer{
		"empty": func(_ world, p Producer, _ bool) Producer { return p },
		"ongoing": func(w world, p Producer, _ bool) Producer {
			w.add(p, a0)
			return p
		},
		"committed": func(w world, p Producer, bump bool) Producer {
			w.add(p, a0)
			next, err := w.end(p, true, bump)
			w.want(err, nil)
			return next
		},
		"aborted": func(w world, p Producer, bump bool) Producer {
			w.add(p, a0)
			next, err := w.end(p, false, bump)
			w.want(err, nil)
			return next
		},
		"timed out": func(w world, p Producer, _ bool) Producer {
			w.add(p, a0)
			time.Sleep(2 * minute)
			synctest.Wait()
			return Producer{p.ID, p.Epoch + 1}
		},
	}
	for _, test := range []struct {
		state        string
		bump, retry  bool // retry: as the producer that it was before that state
		commit       bool
		want         error
		after        State
		bumps, marks int
	}{
		{"empty", false, false, true, ErrInvalidState, Empty, 0, 0},
		{"empty", false, false, false, ErrInvalidState, Empty, 0, 0},
		{"ongoing", false, false, true, nil, CompleteCommit, 0, 1},
		{"ongoing", false, false, false, nil, CompleteAbort, 0, 1},
		{"committed", false, false, true, nil, CompleteCommit, 0, 0},
		{"committed", false, false, false, ErrInvalidState, CompleteCommit, 0, 0},
		{"aborted", false, false, false, nil, CompleteAbort, 0, 0},
		{"aborted", false, false, true, ErrInvalidState, CompleteAbort, 0, 0},
		{"timed out", false, true, false, ErrFenced, CompleteAbort, 0, 0},
		{"timed out", false, true, true, ErrFenced, CompleteAbort, 0, 0},

		{"empty", true, false, true, ErrInvalidState, Empty, 0, 0},
		{"empty", true, false, false, nil, CompleteAbort, 1, 0},
		{"ongoing", true, false, true, nil, CompleteCommit, 1, 1},
		{"ongoing", true, false, false, nil, CompleteAbort, 1, 1},
		{"committed", true, true, true, nil, CompleteCommit, 0, 0},
		{"committed", true, true, false, ErrInvalidState, CompleteCommit, 0, 0},
		{"committed", true, false, true, ErrInvalidState, CompleteCommit, 0, 0},
		{"committed", true, false, false, nil, CompleteAbort, 1, 0},
		{"aborted", true, true, false, nil, CompleteAbort, 0, 0},
		{"aborted", true, true, true, ErrInvalidState, CompleteAbort, 0, 0},
		{"aborted", true, false, true, ErrInvalidState, CompleteAbort, 0, 0},
		{"aborted", true, false, false, nil, CompleteAbort, 1, 0},
		{"timed out", true, true, false, ErrFenced, CompleteAbort, 0, 0},
		{"timed out", true, true, true, ErrFenced, CompleteAbort, 0, 0},
	} {
		run(t, Options{}, func(w world) {
			first := w.begin(nil)
			now := states[test.state](w, first, test.bump)
			w.j.taken()
			asks := now
			if test.retry {
				asks = first
			}
			got, err := w.end(asks, test.commit, test.bump)
			next := Producer{now.ID, now.Epoch + int16(test.bumps)}
			d, _ := w.Describe(id)
			markers := w.j.taken()
			if !errors.Is(err, test.want) || d.State != test.after || d.Producer != next || err == nil && got != next || len(markers) != test.marks {
				t.Errorf("%+v: %v, %v; is %+v, markers %v", test, got, err, d, markers)
			}
			for _, m := range markers {
				if m != (marker{a0, next, test.commit}) {
					t.Errorf("%+v: marker %+v", test, m)
				}
			}
		})
	}
}

func TestWhoMayEnd(t *testing.T) {
	run(t, Options{}, func(w world) {
		p := w.begin(nil)
		w.add(p, a0)
		for _, test := range []struct {
			EndRequest
			want error
		}{
			{EndRequest{ID: "", Producer: p}, ErrInvalidID},
			{EndRequest{ID: "other", Producer: p}, ErrUnknownID},
			{EndRequest{ID: id, Producer: Producer{9, 0}}, ErrUnknownID},
			{EndRequest{ID: id, Producer: Producer{p.ID, 1}}, ErrFenced},
			{EndRequest{ID: id, Producer: NoProducer, Bump: true}, ErrUnknownID},
		} {
			_, err := w.End(t.Context(), test.EndRequest)
			w.want(err, test.want)
		}
		w.is(Ongoing, p, a0)
		w.marked()
	})
}

// A request that comes while an end flies is told to come again.
func TestConcurrent(t *testing.T) {
	run(t, Options{}, func(w world) {
		old := w.begin(nil)
		w.add(old, a0)
		p, err := w.end(old, true, true)
		w.want(err, nil)
		w.j.hold(true)
		aborted := make(chan error, 1) // which a producer may that has not begun
		go func() {
			_, err := w.end(p, false, true)
			aborted <- err
		}()
		synctest.Wait()
		_, err = w.end(old, true, true) // repeated
		w.want(err, ErrConcurrent)
		w.j.hold(false)
		w.want(<-aborted, nil)
		old, p = p, Producer{p.ID, p.Epoch + 1}
		w.add(p, a0)
		w.want(w.AddOffsets(t.Context(), id, p, "g"), nil)
		w.j.hold(true)
		ended := make(chan error, 1)
		go func() {
			_, err := w.end(p, true, false)
			ended <- err
		}()
		synctest.Wait()
		_, err = w.end(p, true, false)
		w.want(err, ErrConcurrent)
		_, err = w.end(old, true, true)
		w.want(err, ErrFenced) // it is what the one before the ongoing was ended by
		_, err = w.InitProducerID(t.Context(), InitRequest{ID: id, Timeout: minute})
		w.want(err, ErrConcurrent)
		w.want(w.AddPartitions(t.Context(), id, p, []state.Place{a0}), ErrConcurrent)
		w.want(w.AddOffsets(t.Context(), id, p, "g"), ErrConcurrent)
		w.want(w.offsets(p, true, 1, a0), ErrConcurrent)
		w.want(<-w.send(p, a0, true), ErrConcurrent)
		w.j.hold(false)
		w.want(<-ended, nil)
		w.is(CompleteCommit, p)
	})
}

func TestLogEnds(t *testing.T) {
	run(t, Options{}, func(w world) {
		p := w.begin(nil)
		w.add(p, a0)
		w.j.breaks(errLog)
		_, err := w.end(p, true, false)
		w.want(err, ErrUnavailable)
		w.want(err, errLog)
		w.want(w.AddPartitions(t.Context(), id, p, []state.Place{b0}), ErrUnavailable)
		w.want(w.offsets(p, true, 1, a0), ErrUnavailable)
		_, err = w.InitProducerID(t.Context(), InitRequest{ID: "new", Timeout: minute})
		w.want(err, ErrUnavailable)
		w.want(<-w.send(p, b0, true), errLog)
		w.is(Ongoing, p, a0)
		w.want(w.Close(), nil)
		_, err = w.end(p, true, false)
		w.want(err, ErrClosed)
		w.want(<-w.send(p, a0, true), ErrClosed)
		if len(w.ids) != 1 {
			t.Errorf("an id that never was is kept: %v", w.ids)
		}
	})
}
