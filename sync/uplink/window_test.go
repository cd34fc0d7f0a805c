package uplink_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/sync/uplink"
)

// TestWindow: one shard leaves room for the others.
func TestWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := uplink.NewWindow(8, true)
		taken := 0
		go func() {
			for range 8 {
				w.Take(7, 1)
				taken++
			}
		}()
		time.Sleep(time.Hour)
		synctest.Wait()
		if taken != 4 {
			t.Errorf("one shard takes %d of 8", taken)
		}
		w.Take(8, 2)
		w.Give(7, 1)
		if synctest.Wait(); taken != 4 {
			t.Errorf("it takes %d when 3 are left", taken)
		}
		w.Give(8, 2)
		if synctest.Wait(); taken != 5 {
			t.Errorf("it takes %d when 5 are left", taken)
		}
		w.Close()
		if n, ok := w.Take(9, 1); n != 0 || !ok {
			t.Errorf("after Close: %d, %v", n, ok)
		}
		if synctest.Wait(); taken != 8 {
			t.Error("Close does not end waiting")
		}
	})
}

// TestWindowOfSilentShard: who waits for a shard that answers waits on, who waits for one
// that is silent does not.
func TestWindowOfSilentShard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := uplink.NewWindow(8, false)
		try := func(shard uint32, n int64) (ok bool, took time.Duration) {
			began := time.Now()
			_, ok = w.Take(shard, n)
			return ok, time.Since(began)
		}
		w.Take(7, 4)
		for range 3 {
			time.AfterFunc(1900*time.Millisecond, func() { w.Give(7, 1) })
			if ok, took := try(7, 1); !ok || took != 1900*time.Millisecond {
				t.Errorf("of a slow shard: %v after %v", ok, took)
			}
		}
		if ok, took := try(7, 1); ok || took != 2*time.Second {
			t.Errorf("of a silent shard: %v after %v", ok, took)
		}
		if ok, took := try(7, 1); ok || took != 0 {
			t.Errorf("once more: %v after %v", ok, took)
		}
		if ok, took := try(8, 1); !ok || took != 0 {
			t.Errorf("of another shard: %v after %v", ok, took)
		}
		if ok, took := try(8, 3); ok || took != 2*time.Second {
			t.Errorf("of another shard, more than the silent one leaves: %v after %v", ok, took)
		}
		w.Give(8, 1)
		time.Sleep(time.Second)
		if ok, took := try(9, 8); ok || took != time.Second {
			t.Errorf("all, when one answers no more: %v after %v", ok, took)
		}
	})
}

// big sends a MiB for a partition, from another goroutine: the session may wait.
func big(v *visit, partition int32) *outcome {
	o := &outcome{}
	go v.Append(uplink.Append{Stream: stream, Topic: topicIn(2), Partition: partition, Batch: make(record.Batch, 1<<20)}, o.done)
	synctest.Wait()
	return o
}

// TestSilentShard: it gets half of what a session may have in flight. What comes beyond
// that is refused once the shard is silent, and another shard gets the rest meanwhile.
func TestSilentShard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if w := newShards(t, 2); !silentLeavesRoom(t, w) {
			t.Error("a silent shard takes the whole window")
		}
	})
}

func silentLeavesRoom(t *testing.T, w *shards) bool {
	v := begin(t, w.door())
	defer v.Detach()
	for range 4 {
		big(v, 1)
	}
	last := big(v, 1)
	if w.logs[1].count() != 4 {
		return false
	}
	time.Sleep(time.Second)
	waits := !last.answered()
	other := big(v, 0)
	w.logs[0].answer(0, nil)
	time.Sleep(time.Second)
	now := big(v, 1)
	if !waits || !other.is(nil) || !last.is(uplink.ErrBusy) || !now.is(uplink.ErrBusy) {
		t.Errorf("it waits %v, the other shard %v; then %v, %v", waits, other.err, last.err, now.err)
	}
	w.logs[1].answer(0, nil)
	if next := big(v, 1); next.answered() || w.logs[1].count() != 5 {
		t.Errorf("when it answers again: %v, it has %d", next.err, w.logs[1].count())
	}
	for i := range 4 {
		w.logs[1].answer(i+1, errors.New("over"))
	}
	return true
}
