package mqtt

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// TestConnectsKeepTheirPlace: a connection comes after everything that was in
// the queue before it, however the batches are cut, and connections come
// together, not one sync after the other.
func TestConnectsKeepTheirPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(100, 1<<20)
		put := func(kind workKind, id uint16) {
			w := &work{kind: kind, id: id}
			if kind == workConnect {
				w.req = &request{login: new(login)}
			}
			if !q.put(w) {
				t.Fatal("closed")
			}
		}
		take := func(items int, want ...uint16) {
			t.Helper()
			batch, more := q.take(nil, items, 1<<20)
			var got []uint16
			for _, w := range batch {
				got = append(got, w.id)
			}
			if !more || !slices.Equal(got, want) {
				t.Fatalf("got %v, want %v", got, want)
			}
		}
		put(workPublish, 1)
		put(workPublish, 2)
		put(workGone, 3)
		put(workConnect, 10)
		put(workPublish, 4)
		put(workPublish, 5)
		take(2, 1, 2)
		take(2, 3, 4, 10)
		put(workConnect, 11)
		put(workConnect, 12)
		take(9, 5)
		put(workConnect, 13) // the timer of those before it is enough
		begin := time.Now()
		for len(q.connects) > 0 {
			batch, more := q.take(nil, 9, 1<<20)
			if len(batch) > 0 && (len(batch) != 3 || batch[0].id != 11) || !more {
				t.Fatalf("%d, %v", len(batch), more)
			}
		}
		if d := time.Since(begin); d != connectGap {
			t.Errorf("taken after %v", d)
		}
		// One that must wait for the rest of a batch that was cut is not forgotten.
		time.Sleep(time.Second)
		put(workConnect, 14)
		put(workPublish, 6)
		put(workConnect, 15)
		take(0, 14)
		take(9, 6)
		for len(q.connects) > 0 {
			if batch, more := q.take(nil, 9, 1<<20); len(batch) > 0 && batch[0].id != 15 || !more {
				t.Fatalf("%d, %v", len(batch), more)
			}
		}
		put(workConnect, 16)
		q.close()
		take(9, 16)
		if batch, more := q.take(nil, 9, 1<<20); more || len(batch) > 0 {
			t.Errorf("%d, %v after the end", len(batch), more)
		}
	})
}
