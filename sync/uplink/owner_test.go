package uplink_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/weirmq/weir/sync/uplink"
)

// TestNewestSession: an owner hears only the newest session of a gateway, and tells it
// marks only when the log has answered what older ones handed over.
func TestNewestSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &shardLog{}
		o := uplink.NewOwner(3, log.calls(), uplink.Mutations{})
		attach := func(n uplink.Number, gateway string) (*visit, error) {
			v := &visit{}
			var err error
			v.Attachment, v.known, err = o.Attach(t.Context(), gateway, n, nil, v.end)
			return v, err
		}
		first, err := attach(o.Number(), "gw")
		if err != nil {
			t.Fatal(err)
		}
		var taken, late outcome
		first.Append(uplink.Append{}, taken.done)
		var second *visit
		number := o.Number()
		go func() { second, err = attach(number, "gw") }()
		synctest.Wait()
		if second != nil || !errors.Is(first.cause(), uplink.ErrSuperseded) {
			t.Errorf("attached: %v; the older session ends with %v", second != nil, first.cause())
		}
		if other, err := attach(o.Number(), "other"); err != nil || other == nil {
			t.Errorf("another gateway waits: %v", err)
		}
		first.Append(uplink.Append{}, late.done)
		if _, err := first.Offer(t.Context(), nil); !late.is(uplink.ErrSuperseded) || !errors.Is(err, uplink.ErrSuperseded) || log.count() != 1 {
			t.Errorf("the owner hears an older session: %v, %d batches", err, log.count())
		}
		log.answer(0, nil)
		synctest.Wait()
		if second == nil || err != nil || !taken.is(nil) {
			t.Fatalf("second session: %v, %v", second, err)
		}
		if _, err := attach(uplink.Number{Epoch: 2, Count: 900}, "gw"); !errors.Is(err, uplink.ErrSuperseded) || second.cause() != nil {
			t.Errorf("an older session attaches: %v; the newer one ends with %v", err, second.cause())
		}
		if _, err := attach(uplink.Number{Epoch: 4, Count: 1}, "gw"); err != nil || !errors.Is(second.cause(), uplink.ErrSuperseded) {
			t.Errorf("a session with a number of the next epoch: %v; the older one ends with %v", err, second.cause())
		}
	})
}

// TestSecondTry: a session that attaches again is not superseded, and waits for what it
// handed over itself.
func TestSecondTry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &shardLog{}
		o := uplink.NewOwner(1, log.calls(), uplink.Mutations{})
		n := o.Number()
		var first, second visit
		var err error
		if first.Attachment, _, err = o.Attach(t.Context(), "gw", n, nil, first.end); err != nil {
			t.Fatal(err)
		}
		var taken outcome
		first.Append(uplink.Append{}, taken.done)
		n.Try++
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, _, err = o.Attach(ctx, "gw", n, nil, second.end); !errors.Is(err, context.Canceled) {
			t.Errorf("attached while a batch is not answered: %v", err)
		}
		if !errors.Is(first.cause(), uplink.ErrDetached) {
			t.Errorf("the first attachment ends with %v", first.cause())
		}
		n.Try++
		log.answer(0, nil)
		if second.Attachment, _, err = o.Attach(t.Context(), "gw", n, nil, second.end); err != nil {
			t.Error(err)
		}
		o.End()
		var late outcome
		second.Append(uplink.Append{}, late.done)
		_, _, again := o.Attach(t.Context(), "gw", o.Number(), nil, first.end)
		if !errors.Is(second.cause(), uplink.ErrDetached) || !late.is(uplink.ErrDetached) || !errors.Is(again, uplink.ErrDetached) {
			t.Errorf("after the end: %v, %v, %v", second.cause(), late.err, again)
		}
	})
}
