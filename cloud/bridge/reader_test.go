package bridge

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/cloud/queue"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record"
)

// TestAnsweredBinding: a binding counts from the answer on, also for a key that no queue
// has wanted so far, and though its reader has not been told yet to look at the bindings.
func TestAnsweredBinding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, mem.New()) // without Start nobody tells the reader
		sensors := w.topic("sensors")
		w.bind("other", "other")
		w.vhost(queue.DefaultVhost).look()
		w.put(sensors, 0, reading("sensors/a", "0"))
		synctest.Wait()
		w.bind("q", "sensors.a")
		w.put(sensors, 0, reading("sensors/a", "1"))
		w.expect("q", "1")
	})
}

// TestCatchUp: while there are records to read that no queue wants, a record that one wants
// goes to it at once, and positions become durable.
func TestCatchUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, mem.New())
		sensors := w.topic("sensors")
		w.bind("q", "sensors.a")
		w.put(sensors, 0, reading("sensors/a", "1"))
		other := make([]record.Record, 10)
		for i := range other {
			other[i] = reading("other/a", strings.Repeat("x", fetchBytes/8))
		}
		for range 40 {
			w.put(sensors, 0, other...)
		}
		v := w.vhost(queue.DefaultVhost)
		r := newReader(v, v.id)
		defer r.stopTimers()
		if err := r.begin(t.Context()); err != nil {
			t.Fatal(err)
		}
		var read []uint64 // when a Work is submitted
		for len(r.dirty) > 0 {
			before := r.flying
			if _, err := r.step(t.Context()); err != nil {
				t.Fatal(err)
			}
			if r.flying && !before {
				read = append(read, w.counters.read.Get())
				time.Sleep(time.Second) // it becomes durable
			}
		}
		if len(read) < 3 || read[0] > 20 || read[2] > 390 {
			t.Errorf("submitted when so many records were read: %d", read)
		}
		w.expect("q", "1")
	})
}

// TestLongKeys: nothing is remembered of records with long keys. They reach queues, too.
func TestLongKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, mem.New())
		sensors := w.topic("sensors")
		w.bind("q", "sensors.#")
		long := strings.Repeat("/x", mostOrigin)
		w.put(sensors, 0, reading("sensors"+long, "1"), reading("other"+long, "2"), reading("other", "3"))
		v := w.vhost(queue.DefaultVhost)
		r := newReader(v, v.id)
		defer r.stopTimers()
		if err := r.begin(t.Context()); err != nil {
			t.Fatal(err)
		}
		for len(r.dirty) > 0 || !r.flying {
			if _, err := r.step(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		w.expect("q", "1")
		if r.known != 1 {
			t.Errorf("%d origins are remembered, want the short one", r.known)
		}
	})
}

// TestLagOfFullLog: the metrics do not wait while a vhost waits for room in the log.
func TestLagOfFullLog(t *testing.T) {
	w := started(t, mem.New())
	w.bind("q", "#")
	v := w.vhost(queue.DefaultVhost)
	v.mu.Lock() // as submit holds it
	defer v.mu.Unlock()
	lag := make(chan int64, 1)
	go func() { lag <- w.Lag() }()
	select {
	case <-lag:
	case <-time.After(10 * time.Second):
		t.Error("the metrics wait for the log")
	}
}
