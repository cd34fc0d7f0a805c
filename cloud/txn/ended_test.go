package txn

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// Each transaction that has ended is told once, with how, and nothing else is.
func TestEnded(t *testing.T) {
	bump := func(w world, p Producer, commit bool) Producer {
		next, err := w.end(p, commit, true)
		w.want(err, nil)
		return next
	}
	for what, test := range map[string]struct {
		do   func(w world, p Producer)
		want []Ending
		open int
	}{
		"producers":   {func(w world, _ Producer) { w.begin(nil); w.begin(nil) }, nil, 0},
		"ongoing":     {func(w world, p Producer) { w.add(p, a0) }, nil, 1},
		"commit":      {func(w world, p Producer) { w.add(p, a0); bump(w, p, true) }, []Ending{Committed}, 0},
		"abort":       {func(w world, p Producer) { w.add(p, a0); bump(w, p, false) }, []Ending{Aborted}, 0},
		"two":         {func(w world, p Producer) { w.add(p, a0); p = bump(w, p, true); w.add(p, b0); bump(w, p, false) }, []Ending{Committed, Aborted}, 0},
		"repeated":    {func(w world, p Producer) { w.add(p, a0); bump(w, p, true); bump(w, p, true) }, []Ending{Committed}, 0},
		"again":       {func(w world, p Producer) { w.add(p, a0); _, _ = w.end(p, true, false); _, _ = w.end(p, true, false) }, []Ending{Committed}, 0},
		"of nothing":  {func(w world, p Producer) { bump(w, p, false) }, nil, 0},
		"not allowed": {func(w world, p Producer) { _, _ = w.end(p, true, false) }, nil, 0},
		"taken over":  {func(w world, p Producer) { w.add(p, a0); w.begin(nil) }, []Ending{Aborted}, 0},
		"timed out": {func(w world, p Producer) {
			w.add(p, a0)
			time.Sleep(2 * minute)
			synctest.Wait()
		}, []Ending{TimedOut}, 0},
		"log that ends": {func(w world, p Producer) {
			w.add(p, a0)
			w.j.breaks(errors.New("no bucket"))
			_, err := w.end(p, true, false)
			w.want(err, ErrUnavailable)
		}, nil, 1},
	} {
		t.Run(what, func(t *testing.T) {
			var got []Ending // in the bubble, one goroutine at a time ends something
			run(t, Options{Ended: func(how Ending) { got = append(got, how) }}, func(w world) {
				test.do(w, w.begin(nil))
				if open := w.Open(); !slices.Equal(got, test.want) || open != test.open {
					t.Errorf("%v and %d open, want %v and %d", got, open, test.want, test.open)
				}
			})
		})
	}
}

// What a new owner reads of the log has been told by the one before.
func TestEndedIsNotTold(t *testing.T) {
	run(t, Options{}, func(w world) {
		p := w.begin(nil)
		w.add(p, a0)
		_, err := w.end(p, true, false)
		w.want(err, nil)
		w.add(p, a0)
		c := New(Options{Ended: func(how Ending) { t.Errorf("%s is told", how) }})
		if err := c.Restore(w.Snapshot()); err != nil {
			t.Fatal(err)
		}
		for _, command := range history() {
			w.want(c.Apply(command.Kind, command.Body), nil)
		}
		if c.Open() == 0 {
			t.Error("no transaction is open")
		}
	})
}
