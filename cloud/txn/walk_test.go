package txn

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/cloud/group"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/weir"
)

// oracle says in few words what a transactional id must be after each request.
type oracle struct {
	known          bool
	producer, last Producer
	state          State
	places         map[state.Place]bool
	staged         map[int32]int64 // of group g
	committed      map[int32]int64
}

func (o *oracle) over(to State, next, last Producer) (marks int) {
	marks = len(o.places)
	if to == CompleteCommit {
		maps.Copy(o.committed, o.staged)
	}
	o.state, o.producer, o.last = to, next, last
	o.places, o.staged = map[state.Place]bool{}, map[int32]int64{}
	return marks
}

func (o *oracle) bumped() Producer { return Producer{o.producer.ID, o.producer.Epoch + 1} }

func (o *oracle) init(expected *Producer) (marks int, err error) {
	switch {
	case !o.known:
		o.known = true
		return o.over(Empty, Producer{1001, 0}, NoProducer), nil
	case expected == nil:
		return o.over(Empty, o.bumped(), NoProducer), nil
	case *expected == o.producer:
		return o.over(Empty, o.bumped(), o.producer), nil
	case *expected == o.last && o.state != Ongoing:
		return 0, nil
	}
	return 0, ErrFenced
}

func (o *oracle) enter(p Producer) error {
	switch {
	case !o.known || p.ID != o.producer.ID:
		return ErrUnknownID
	case p != o.producer:
		return ErrFenced
	}
	return nil
}

func (o *oracle) end(p Producer, commit, bump bool) (marks int, err error) {
	to := CompleteAbort
	if commit {
		to = CompleteCommit
	}
	if o.known && bump && p == o.last && (o.state == CompleteCommit || o.state == CompleteAbort) {
		if o.state != to {
			return 0, ErrInvalidState
		}
		return 0, nil
	}
	if err := o.enter(p); err != nil {
		return 0, err
	}
	switch {
	case o.state == Ongoing || bump && !commit:
		if !bump {
			return o.over(to, o.producer, o.last), nil
		}
		return o.over(to, o.bumped(), o.producer), nil
	case !bump && o.state == to:
		return 0, nil
	}
	return 0, ErrInvalidState
}

// One client after the other, with requests that are right, stale and repeated;
// now and then another owner takes over.
func TestRandomWalk(t *testing.T) {
	for seed := range uint64(60) {
		synctest.Test(t, func(t *testing.T) { walk(t, seed) })
	}
}

func walk(t *testing.T, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 7))
	w := start(t, Options{}, nil, nil)
	defer func() { w.close() }()
	o := &oracle{committed: map[int32]int64{}}
	o.over(Empty, NoProducer, NoProducer)
	seen := []Producer{NoProducer}
	for step := range 400 {
		p := o.producer
		if random.IntN(4) == 0 {
			p = seen[random.IntN(len(seen))]
		}
		place := []state.Place{a0, a1, b0}[random.IntN(3)]
		var got, want error
		marks := 0
		commit, bump := random.IntN(2) == 0, random.IntN(2) == 0
		action := random.IntN(9)
		switch action {
		case 0:
			var expected *Producer
			if random.IntN(3) > 0 && p != NoProducer {
				expected = &p
			}
			_, got = w.InitProducerID(t.Context(), InitRequest{ID: id, Timeout: minute, Expected: expected})
			marks, want = o.init(expected)
		case 1, 2:
			got, want = w.AddPartitions(t.Context(), id, p, []state.Place{place}), o.enter(p)
			if want == nil {
				o.state, o.places[place] = Ongoing, true
			}
		case 3, 4:
			got, want = <-w.send(p, place, bump), o.enter(p)
			if want == nil && !o.places[place] && !bump {
				want = ErrNotInTransaction
			} else if want == nil {
				o.state, o.places[place] = Ongoing, true
			}
		case 5:
			at := int64(step)
			got, want = w.offsets(p, true, at, place), o.enter(p)
			if want == nil {
				o.state, o.staged[index(place)] = Ongoing, at
			}
		case 6, 7:
			_, got = w.end(p, commit, bump)
			marks, want = o.end(p, commit, bump)
		case 8:
			time.Sleep(time.Duration(random.IntN(70)) * time.Second)
			synctest.Wait()
			if d, err := w.Describe(id); err == nil && o.state == Ongoing && d.State != Ongoing {
				marks = o.over(CompleteAbort, o.bumped(), NoProducer)
			}
			if random.IntN(3) == 0 {
				w = takeover(w)
			}
		}
		seen = append(seen, o.producer)
		if !errors.Is(got, want) || (got == nil) != (want == nil) {
			t.Fatalf("seed %d, step %d, action %d by %v: %v, want %v (%+v)", seed, step, action, p, got, want, o)
		}
		o.compare(w, fmt.Sprintf("seed %d, step %d, action %d", seed, step, action), marks)
		if t.Failed() {
			return
		}
	}
}

func index(p state.Place) int32 { return int32(p.Topic[0])*10 + p.Partition }

// takeover makes a new owner of the checkpoint, and of what the log holds.
func takeover(w world) world {
	w.close()
	next := start(w.t, Options{}, w.Snapshot(), w.j.groups.Snapshot())
	next.j.open, next.j.fences, next.j.ids, next.j.markers = w.j.open, w.j.fences, w.j.ids, w.j.markers
	return next
}

func (o *oracle) compare(w world, when string, marks int) {
	w.t.Helper()
	if got := w.j.taken(); len(got) != marks {
		w.t.Errorf("%s: markers %v, want %d", when, got, marks)
	}
	d, err := w.Describe(id)
	if !o.known {
		w.want(err, ErrNotFound)
		return
	}
	if err != nil || d.State != o.state || d.Producer != o.producer || w.ids[id].last != o.last || len(d.Places) != len(o.places) {
		w.t.Errorf("%s: %+v, %v; want %+v", when, d, err, o)
	}
	for _, p := range d.Places {
		if !o.places[p] {
			w.t.Errorf("%s: %v is in the transaction", when, p)
		}
	}
	if got := w.Pending("g"); len(got) != len(o.staged) {
		w.t.Errorf("%s: %d pending, want %d", when, len(got), len(o.staged))
	}
	all, err := w.j.groups.Offsets("g", nil)
	got := map[int32]int64{}
	for _, x := range all {
		got[index(state.Place{Topic: weir.TopicID(x.Topic), Partition: x.Index})] = x.Offset
	}
	if err != nil || !maps.Equal(got, o.committed) {
		w.t.Errorf("%s: committed %v, %v; want %v", when, got, err, o.committed)
	}
}

// Many clients of few ids at once, over a log that lands things when it likes:
// the log knows what must never be (heldLog.check).
func TestManyClients(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) { crowd(t, seed) })
	}
}

func crowd(t *testing.T, seed uint64) {
	w := start(t, Options{}, nil, nil)
	var clients sync.WaitGroup
	for i := range uint64(6) {
		random := rand.New(rand.NewPCG(seed, i))
		name := fmt.Sprint(id, i%2)
		clients.Go(func() { client(w, random, name) })
	}
	done := make(chan struct{})
	go func() {
		clients.Wait()
		close(done)
	}()
	random := rand.New(rand.NewPCG(seed, 99))
	for over := false; !over; {
		w.j.hold(random.IntN(2) == 0)
		select {
		case <-time.After(time.Duration(random.IntN(40)) * time.Millisecond):
		case <-done:
			over = true
		}
	}
	w.j.hold(false)
	time.Sleep(2 * minute) // what is still ongoing times out
	synctest.Wait()
	for _, x := range []string{id + "0", id + "1"} {
		if d, err := w.Describe(x); err != nil || d.State == Ongoing || w.ids[x].busy || w.ids[x].inFlight != 0 || w.ids[x].reserved != 0 || len(w.ids[x].adding) != 0 {
			t.Errorf("seed %d: %+v, %v", seed, d, err)
		}
	}
	w.j.mu.Lock()
	for place, producers := range w.j.open {
		if len(producers) > 0 {
			t.Errorf("seed %d: hanging transactions in %v: %v", seed, place, producers)
		}
	}
	if w.j.data == 0 {
		t.Errorf("seed %d: nobody wrote anything", seed)
	}
	w.j.mu.Unlock()
	w.close()
}

// client is a producer of transactions v2 that pipelines, until it is fenced often.
func client(w world, random *rand.Rand, name string) {
	for range 5 {
		p, err := w.InitProducerID(w.t.Context(), InitRequest{ID: name, Timeout: minute})
		for range 10 {
			time.Sleep(time.Duration(random.IntN(20)) * time.Millisecond)
			if err != nil {
				break
			}
			var sent []chan error
			for range random.IntN(5) {
				place := []state.Place{a0, a1, b0}[random.IntN(3)]
				answer := make(chan error, 1)
				w.Append(Appended{
					Append: commitlog.Append{Topic: place.Topic, Partition: place.Partition, Batch: batchOf(p)}, ID: name, Implicit: true,
				}, func(_ int64, err error) { answer <- err })
				sent = append(sent, answer)
			}
			if random.IntN(3) == 0 {
				_, _ = w.CommitOffsets(w.t.Context(), OffsetsRequest{ID: name, Producer: p, Implicit: true, Commit: group.CommitRequest{
					Group: "g", Generation: -1, Offsets: []group.Offset{{Offset: 1}},
				}})
			}
			commit := random.IntN(2) == 0
			for _, s := range sent {
				if commit || random.IntN(2) == 0 { // else it aborts while they fly
					if err := <-s; err != nil && !slices.ContainsFunc([]error{ErrFenced, ErrConcurrent, ErrUnknownID}, func(e error) bool { return errors.Is(err, e) }) {
						w.t.Errorf("append: %v", err)
					}
				}
			}
			var next Producer
			if next, err = w.End(w.t.Context(), EndRequest{ID: name, Producer: p, Commit: commit, Bump: true}); err == nil {
				p = next
			} else if errors.Is(err, ErrInvalidState) || errors.Is(err, ErrConcurrent) {
				err = nil
			}
		}
	}
}
