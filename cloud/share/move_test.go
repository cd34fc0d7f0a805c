package share

import (
	"testing"
	"testing/synctest"

	"github.com/weirmq/weir/storage/record/recordtest"
	"github.com/weirmq/weir/storage/weir"
)

// TestMove: from the moment on when its slice is closed, a partition is not shared here. The
// new owner knows what is done, and that what a member has may have been delivered. What is
// on its way is awaited first.
func TestMove(t *testing.T) {
	run(t, 0, earliest, func(w *world) {
		var set weir.SliceSet
		set.Add(weir.SliceOf(w.topic, 0))
		w.append(recordtest.Batch("a", "b", "c"))
		w.got(w.acquire("m", 2), Delivery{0, 1, 1})
		acked, closed := make(chan error, 1), make(chan error, 1)
		w.Acknowledge(w.place(), "m", []Acknowledgement{{0, 0, []Verdict{Accept}}}, func(err error) { acked <- err })
		go func() { closed <- w.CloseSlices(w.t.Context(), set) }()
		synctest.Wait()
		if len(closed) > len(acked) {
			t.Error("closed while an acknowledgement was on its way")
		}
		w.want(<-acked, nil)
		w.want(<-closed, nil)
		w.elsewhere()
		w.OpenSlices(set)
		w.got(w.acquire("m", 1), Delivery{2, 2, 1})
		w.want(w.CloseSlices(w.t.Context(), set), nil)
		body := w.Export(set)
		w.Remove(set)
		w.elsewhere()

		w.OpenSlices(set)
		w.want(w.Import(body), nil) // as if it were the other shard
		w.append(recordtest.Batch("d"))
		w.got(w.acquire("m", 0), Delivery{1, 3, 2}) // it is not known here that d was never delivered
		w.want(w.ack("m", 1, 3, Accept), nil)
		if o := w.offsets(); o.Start != 4 || o.Lag != 0 {
			t.Errorf("%+v", o)
		}
	})
}

// elsewhere checks that all calls for the partition say that it is not here.
func (w *world) elsewhere() {
	w.t.Helper()
	_, err := w.Acquire(w.t.Context(), Request{Place: w.place(), Member: "m", Bytes: 1})
	w.want(err, ErrClosed)
	w.want(w.ack("m", 1, 1, Accept), ErrClosed)
	w.want(w.Begin(w.t.Context(), w.place(), 0), ErrClosed)
	if found, err := w.Delete(w.t.Context(), "g", nil); found || w.state.Has("g") != (err == ErrClosed) {
		w.t.Errorf("deleted: %v, %v", found, err)
	}
}
