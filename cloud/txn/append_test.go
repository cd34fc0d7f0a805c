package txn

import (
	"testing"
	"testing/synctest"

	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/commitlog/state"
)

func TestAppend(t *testing.T) {
	run(t, Options{MaxBytes: 3 * placeSize}, func(w world) {
		p := w.begin(nil)
		w.want(<-w.send(p, a0, false), ErrNotInTransaction)
		w.is(Empty, p)
		w.add(p, a0)
		w.want(<-w.send(p, a0, false), nil)
		w.want(<-w.send(p, a1, false), ErrNotInTransaction)
		w.want(<-w.send(Producer{p.ID, 1}, a0, true), ErrFenced)
		w.want(<-w.send(Producer{9, 0}, a0, true), ErrUnknownID)
		w.want(<-w.send(p, a1, true), nil) // both generations of clients at once
		w.is(Ongoing, p, a0, a1)
		w.want(<-w.send(p, b0, true), nil)
		w.want(<-w.send(p, state.Place{Topic: topicB, Partition: 9}, true), ErrTooLarge)
		w.want(w.AddPartitions(t.Context(), id, p, []state.Place{{Topic: topicB, Partition: 9}}), ErrTooLarge)
		w.want(w.AddPartitions(t.Context(), id, p, []state.Place{a0, b0}), nil)
		if _, err := w.end(p, true, false); err != nil {
			t.Error(err)
		}
		w.marked(marker{a0, p, true}, marker{a1, p, true}, marker{b0, p, true})
		w.want(<-w.send(p, a0, false), ErrNotInTransaction) // the transaction is over
	})
}

// A pipelined producer adds a partition once, and the end waits for all of it.
func TestPipelined(t *testing.T) {
	for _, commit := range []bool{true, false} {
		run(t, Options{}, func(w world) {
			p := w.begin(nil)
			w.j.hold(true)
			sent := []chan error{w.send(p, a0, true), w.send(p, a0, true), w.send(p, a1, true), w.send(p, a0, true)}
			ended := make(chan Producer, 1)
			go func() {
				next, err := w.end(p, commit, true)
				w.want(err, nil)
				ended <- next
			}()
			synctest.Wait()
			w.want(<-w.send(p, b0, true), ErrConcurrent)
			w.is(Empty, p) // nothing has landed
			w.j.hold(false)
			for _, s := range sent {
				w.want(<-s, nil)
			}
			next := <-ended
			w.marked(marker{a0, next, commit}, marker{a1, next, commit})
			if adds := len(w.j.slots); adds != 1+2+1 {
				t.Errorf("%d slots, want that of the producer, of two partitions and of the end", adds)
			}
			w.want(<-w.send(next, a0, true), nil)
			w.is(Ongoing, next, a0)
		})
	}
}

// While the entry of a partition is not in line yet, a batch that comes on another
// connection brings its own: it could overtake.
func TestTwoConnections(t *testing.T) {
	run(t, Options{}, func(w world) {
		p := w.begin(nil)
		w.mu.Lock()
		tx, add, err := w.admit(&Appended{Append: commitlog.Append{Batch: batchOf(p)}, ID: id, Implicit: true}, a0)
		w.mu.Unlock()
		if err != nil || !add {
			t.Fatal(add, err)
		}
		w.want(<-w.send(p, a0, true), nil) // the log would have data of no known transaction
		w.mu.Lock()
		for range 3 {
			tx.done(0)
		}
		tx.reserved -= placeSize
		w.mu.Unlock()
		if _, err := w.end(p, true, true); err != nil {
			t.Error(err)
		}
	})
}
