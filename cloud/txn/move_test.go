package txn

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/cloud/group"
	"github.com/weirmq/weir/cloud/machine/machinetest"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/weir"
)

// randomIDs applies entries of some transactional ids, and notes which kinds are about one
// slice.
func randomIDs(t *testing.T, random *rand.Rand, c *Coordinator, about map[uint16]bool) {
	for i := range random.IntN(8) {
		id, at, p := fmt.Sprint("id", i), random.Int64N(1000), Producer{random.Int64N(100), 3}
		commands := [][]byte{encodeInit(id, at, p, NoProducer, 1000).Body}
		kinds := []uint16{kindInit}
		if random.IntN(2) == 0 {
			kinds, commands = append(kinds, kindAdd), append(commands, encodeAdd(id, at, []state.Place{a0}, "g").Body)
		}
		if random.IntN(2) == 0 {
			kinds, commands = append(kinds, kindSpan), append(commands, encodeSpan(id, at, 1, []state.Place{a1}).Body)
			if random.IntN(2) == 0 {
				v := verdict{ending: ending{producer: p, commit: true}, next: p, last: NoProducer, timeout: 1000}
				kinds, commands = append(kinds, kindDecide), append(commands, encodeDecide(id, at, &v, []state.Place{a1}, nil).Body)
			}
		} else if random.IntN(2) == 0 {
			kinds, commands = append(kinds, kindEnd), append(commands, encodeEnd(id, at, true, p, NoProducer).Body)
		}
		for j, kind := range kinds {
			about[kind] = machinetest.Apply(t, c, kind, commands[j])
		}
	}
}

// TestMove: random ids that move to another shard and back are what they were.
func TestMove(t *testing.T) {
	moved := 0
	about := make(map[uint16]bool)
	for seed := range uint64(100) {
		random := rand.New(rand.NewPCG(seed, 1))
		c := New(Options{})
		randomIDs(t, random, c, about)
		moved += machinetest.Split(t, random, c, func() machinetest.Slicer { return New(Options{}) })
		for tr := range c.open {
			if c.ids[tr.id] != tr || tr.state != Ongoing {
				t.Fatalf("%q is listed as ongoing", tr.id)
			}
		}
	}
	if moved < 50 {
		t.Errorf("only %d of 100 had anything to move", moved)
	}
	if !about[kindInit] || !about[kindEnd] || about[kindAdd] || about[kindSpan] || about[kindDecide] {
		t.Errorf("entries of these kinds are about one id: %v", about)
	}
}

// TestMoveParticipants: offsets that wait in groups move with the groups; both shards
// remember which transactions have ended.
func TestMoveParticipants(t *testing.T) {
	for seed := range uint64(100) {
		random := rand.New(rand.NewPCG(seed, 2))
		p, q := NewParticipant(Options{}), NewParticipant(Options{})
		for producer := range random.Int64N(5) {
			number := uint64(random.IntN(3))
			var errs error
			if number > 0 {
				errs = p.Apply(kindEnded, encodeEnded(producer, number, 10).Body)
			}
			for range random.IntN(4) {
				staged := encodeStaged(producer, number+1, 11, fmt.Sprint("g", random.IntN(6)), []group.Offset{{Partition: group.Partition{Topic: topicA}, Offset: 1}})
				errs = errors.Join(errs, p.Apply(kindStaged, staged.Body))
			}
			if errs != nil {
				t.Fatal(errs)
			}
		}
		var set, rest weir.SliceSet
		for s := range weir.Slice(weir.Slices) {
			if random.IntN(2) == 0 {
				set.Add(s)
			} else {
				rest.Add(s)
			}
		}
		before, staying, moving := p.Snapshot(), p.Export(rest), p.Export(set)
		if moving != nil {
			if err := q.Import(moving); err != nil {
				t.Fatal(err)
			}
		}
		p.Remove(set)
		if !bytes.Equal(q.Snapshot(), moving) || !bytes.Equal(p.Snapshot(), staying) {
			t.Fatalf("seed %d: %x and %x, want %x and %x", seed, p.Snapshot(), q.Snapshot(), staying, moving)
		}
		if moving != nil {
			if err := p.Import(q.Snapshot()); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(p.Snapshot(), before) {
			t.Fatalf("seed %d: split and joined again, it is\n%x\nand was\n%x", seed, p.Snapshot(), before)
		}
	}
}

// TestSettle: an ongoing transaction goes on, and no other begins. When none is ongoing,
// slices can be closed: their ids are elsewhere.
func TestSettle(t *testing.T) {
	run(t, Options{}, func(w world) {
		one, two := w.producer("one"), w.producer("two")
		w.want(w.AddPartitions(w.t.Context(), "one", one, []state.Place{a0}), nil)
		short, cancel := context.WithTimeout(w.t.Context(), time.Second)
		defer cancel()
		w.want(w.Settle(short), context.DeadlineExceeded)
		settled := make(chan error, 1)
		go func() { settled <- w.Settle(w.t.Context()) }()
		synctest.Wait()
		w.want(w.AddPartitions(w.t.Context(), "two", two, []state.Place{a1}), ErrConcurrent)
		_, err := w.InitProducerID(w.t.Context(), InitRequest{ID: "three", Timeout: minute})
		w.want(err, ErrConcurrent)
		w.want(w.AddPartitions(w.t.Context(), "one", one, []state.Place{a1}), nil)
		if len(settled) > 0 {
			w.t.Error("settled during a transaction")
		}
		_, err = w.End(w.t.Context(), EndRequest{ID: "one", Producer: one, Commit: true})
		w.want(err, nil)
		w.want(<-settled, nil)
		var set weir.SliceSet
		set.Add(weir.SliceOfTransaction("one"))
		w.want(w.CloseSlices(w.t.Context(), set), nil)
		w.Unsettle()
		w.want(w.AddPartitions(w.t.Context(), "one", one, []state.Place{a1}), ErrClosed)
		w.want(w.AddPartitions(w.t.Context(), "two", two, []state.Place{a1}), nil)
		_, err = w.End(w.t.Context(), EndRequest{ID: "two", Producer: two, Commit: false})
		w.want(err, nil)
		w.OpenSlices(set)
		w.want(w.AddPartitions(w.t.Context(), "one", one, []state.Place{a1}), nil)
		_, err = w.End(w.t.Context(), EndRequest{ID: "one", Producer: one, Commit: false})
		w.want(err, nil)
	})
}

// producer returns a producer of a transactional id.
func (w world) producer(id string) Producer {
	w.t.Helper()
	p, err := w.InitProducerID(w.t.Context(), InitRequest{ID: id, Timeout: minute})
	w.want(err, nil)
	return p
}

// TestSettleParticipant: what is open here of transactions of other shards ends first.
func TestSettleParticipant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 2, Options{})
		defer r.close()
		p := r.begin(nil)
		if err := <-r.send(1, p, 0, "a", true); err != nil {
			t.Fatal(err)
		}
		settled := make(chan error, 1)
		go func() { settled <- r.owner(1).parts.Settle(t.Context()) }()
		synctest.Wait()
		if len(settled) > 0 {
			t.Error("settled while a transaction is open")
		}
		if _, err := r.end(p, true, false); err != nil {
			t.Fatal(err)
		}
		if err := <-settled; err != nil {
			t.Fatal(err)
		}
		if err := <-r.send(1, p, 1, "b", true); !errors.Is(err, ErrConcurrent) {
			t.Errorf("a transaction begins in a shard that has settled: %v", err)
		}
		r.owner(1).parts.Unsettle()
		if err := <-r.send(1, p, 1, "b", true); err != nil {
			t.Error(err)
		}
	})
}

// TestMovedDecision: a transaction was decided, and then its partition moves. The shard that
// had it refuses the end, and the one that has it now is told.
func TestMovedDecision(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 3, Options{})
		defer r.close()
		p := r.begin(nil)
		if err := <-r.send(1, p, 0, "a", true); err != nil {
			t.Fatal(err)
		}
		release := r.hold(1)
		ended := make(chan error, 1)
		go func() {
			_, err := r.end(p, true, false)
			ended <- err
		}()
		synctest.Wait()
		place := placeIn(1)
		r.move(weir.SliceOf(place.Topic, place.Partition), 2)
		release()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if had, has := r.markers(1, place), r.markers(2, place); had != 0 || has != 1 {
			t.Errorf("%d markers in the shard that had the partition, %d in the one that has it", had, has)
		}
	})
}

// markers counts the markers that a shard has in a partition.
func (r *region) markers(shard int, at state.Place) (n int) {
	for _, b := range r.disks[shard].partition(at).batches {
		if b.marker {
			n++
		}
	}
	return n
}
