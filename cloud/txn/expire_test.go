package txn

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestTimeout(t *testing.T) {
	run(t, Options{}, func(w world) {
		p := w.begin(nil)
		time.Sleep(10 * minute) // nothing is ongoing
		w.add(p, a0)
		w.want(w.offsets(p, true, 1, a1), nil)
		time.Sleep(minute - time.Millisecond)
		synctest.Wait()
		w.is(Ongoing, p, a0)
		time.Sleep(time.Millisecond)
		synctest.Wait()
		fenced := Producer{p.ID, p.Epoch + 1}
		w.is(CompleteAbort, fenced)
		w.marked(marker{a0, fenced, false})
		w.pending()
		w.want(w.AddPartitions(t.Context(), id, p, nil), ErrFenced)
		_, err := w.InitProducerID(t.Context(), InitRequest{ID: id, Timeout: minute, Expected: &p})
		w.want(err, ErrFenced)
	})
}

// A new owner counts from when the transaction began.
func TestTimeoutAfterTakeover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, Options{}, nil, nil)
		p := w.begin(nil)
		w.add(p, a0)
		time.Sleep(40 * time.Second)
		snapshot := w.Snapshot()
		w.close()
		w = start(t, Options{}, snapshot, nil)
		defer w.close()
		time.Sleep(20*time.Second - time.Millisecond)
		synctest.Wait()
		w.is(Ongoing, p, a0)
		time.Sleep(time.Millisecond)
		synctest.Wait()
		w.is(CompleteAbort, Producer{p.ID, 1})
	})
}

// A time-out that cannot be made durable is tried again.
func TestTimeoutIsTriedAgain(t *testing.T) {
	run(t, Options{}, func(w world) {
		p := w.begin(nil)
		w.add(p, a0)
		w.j.breaks(errLog)
		time.Sleep(2 * minute)
		synctest.Wait()
		w.is(Ongoing, p, a0)
		w.j.breaks(nil)
		time.Sleep(2 * retryAfter)
		synctest.Wait()
		w.is(CompleteAbort, Producer{p.ID, 1})
	})
}

func TestIdleIDsAreForgotten(t *testing.T) {
	run(t, Options{}, func(w world) {
		p := w.begin(nil)
		_, err := w.InitProducerID(t.Context(), InitRequest{ID: "other", Timeout: minute})
		w.want(err, nil)
		time.Sleep(6 * 24 * time.Hour)
		w.add(p, a0)
		_, err = w.end(p, true, false)
		w.want(err, nil)
		time.Sleep(25 * time.Hour)
		synctest.Wait()
		if _, err := w.Describe("other"); err == nil {
			t.Error("an idle id is kept")
		}
		w.is(CompleteCommit, p)
		time.Sleep(7 * 24 * time.Hour)
		synctest.Wait()
		_, err = w.Describe(id)
		w.want(err, ErrNotFound)
		w.want(w.AddPartitions(t.Context(), id, p, nil), ErrUnknownID)
		if all, err := w.List(); err != nil || len(all) != 0 || len(w.ids) != 0 {
			t.Errorf("left over: %v, %v", all, err)
		}
		if got := w.begin(&p); got == p {
			t.Error("a producer id was given twice")
		}
	})
}
