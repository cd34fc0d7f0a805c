package uplink_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/uplink"
)

// TestSlicesMove: the session goes on. It attaches to the shard that got slices, and what the
// one that had them does not take is refused, and goes to the new one in the next round.
func TestSlicesMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newShards(t, 3)
		w.split(2)
		d := w.door()
		topic := topicIn(6)
		current := weir.BufferID{7}
		v := begin(t, d, weir.Buffer{ID: current, Current: true})
		defer v.Detach()
		send := func(round uint32) *outcome {
			o := &outcome{}
			v.Append(uplink.Append{Stream: stream, Topic: topic, Partition: 2, Round: round}, o.done)
			synctest.Wait()
			return o
		}
		durable, flying := send(0), send(0)
		w.logs[0].answer(0, nil)
		w.split(3)
		d.Remapped()
		synctest.Wait()
		if len(w.logs[2].current) != 1 || w.logs[2].current[0] != current {
			t.Errorf("the new shard was told of %v", w.logs[2].current)
		}
		if o := send(0); !o.is(uplink.ErrMoved) || w.logs[2].count() > 0 {
			t.Errorf("a batch goes to the new shard before the old one has answered: %v", o.err)
		}
		w.logs[0].answer(1, &uplink.NotOwnerError{})
		synctest.Wait()
		if !durable.is(nil) || !flying.is(uplink.ErrMoved) || v.cause() != nil {
			t.Errorf("durable %v, in flight %v, session %v", durable.err, flying.err, v.cause())
		}
		w.logs[2].mark = 5
		if mark, err := v.Mark(t.Context(), stream, topic, 2); err != nil || mark != 5 {
			t.Errorf("mark %d, %v", mark, err)
		}
		send(1)
		if w.logs[0].count() != 2 || w.logs[2].count() != 1 {
			t.Errorf("the shards have %d and %d", w.logs[0].count(), w.logs[2].count())
		}
	})
}

// TestFirstSplit: a session of a cluster that had one shard ends, and so does one that has
// not been told all marks.
func TestFirstSplit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newShards(t, 2)
		w.split(1)
		d := w.door()
		v := begin(t, d)
		defer v.Detach()
		w.split(2)
		d.Remapped()
		if _, elsewhere := errors.AsType[*uplink.NotOwnerError](v.cause()); !elsewhere {
			t.Errorf("the session ends with %v", v.cause())
		}
		w.lose(1)
		began := make(chan error, 1)
		go func() {
			_, _, err := d.Attach(t.Context(), "gw", nil, func(error) {})
			began <- err
		}()
		time.Sleep(time.Second)
		d.Remapped()
		w.lead(1)
		if err := <-began; !errors.Is(err, uplink.ErrBusy) {
			t.Errorf("a session that may not have been told all marks begins: %v", err)
		}
		begin(t, d).Detach()
	})
}
