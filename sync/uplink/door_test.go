package uplink_test

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/uplink"
)

// stream is a stream of gateway gw.
var stream = weir.Stream{Gateway: "gw", Buffer: weir.BufferID{1}, Lane: weir.Live}

// TestDoorOfOneShard: the session ends when the shard moves, and nothing waits.
func TestDoorOfOneShard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newShards(t, 1)
		d := w.door()
		v := begin(t, d)
		var o outcome
		v.Append(uplink.Append{Stream: stream}, o.done)
		w.lose(0)
		if _, ok := errors.AsType[*uplink.NotOwnerError](v.cause()); !ok {
			t.Errorf("the session ends with %v", v.cause())
		}
		w.logs[0].answer(0, &uplink.NotOwnerError{Addr: "b"})
		if moved, ok := errors.AsType[*uplink.NotOwnerError](o.err); !ok || moved.Addr != "b" {
			t.Errorf("the batch: %v", o.err)
		}
		v.Detach()
		began := time.Now()
		_, _, err := d.Attach(t.Context(), "gw", nil, v.end)
		if moved, ok := errors.AsType[*uplink.NotOwnerError](err); !ok || moved.Addr != "elsewhere" || time.Since(began) > 0 {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

// TestDoorWaitsForAllShards: a session begins when every shard has told what it knows, or
// not at all; and what they know is one answer.
func TestDoorWaitsForAllShards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newShards(t, 3)
		known, fresh, aside := weir.BufferID{1}, weir.BufferID{2}, weir.BufferID{3}
		topic := weir.TopicID{9}
		older := weir.MapRow{Buffer: known, Topic: topic, Row: weir.Row{Partitions: 2, From: 1}}
		newer := weir.MapRow{Buffer: known, Topic: topic, Row: weir.Row{Partitions: 3, From: 5}}
		w.logs[0].known = uplink.Offered{Rows: []weir.MapRow{older}, Marks: []weir.Mark{{Buffer: known, Last: 4}}}
		w.logs[1].known = uplink.Offered{Rows: []weir.MapRow{newer}, Marks: []weir.Mark{{Buffer: known, Partition: 1, Last: 7}}}
		states := [][3]weir.BufferState{{weir.BufferNew, weir.BufferKnown, weir.BufferNew}, {weir.BufferNew, weir.BufferNew, weir.BufferNew}, {weir.BufferKnown, weir.BufferNew, weir.BufferAside}}
		for i, l := range w.logs {
			for b, id := range []weir.BufferID{known, fresh, aside} {
				l.known.Buffers = append(l.known.Buffers, state(id, states[b][i], uint64(10*b+i)))
			}
		}
		w.lose(1)
		d := w.door()
		began := time.Now()
		_, _, err := d.Attach(t.Context(), "gw", nil, func(error) {})
		if !errors.Is(err, uplink.ErrBusy) || time.Since(began) != 5*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		if _, elsewhere := errors.AsType[*uplink.NotOwnerError](err); elsewhere {
			t.Error("the node takes itself for one that has no part of the log")
		}
		time.AfterFunc(2*time.Second, func() { w.lead(1) })
		v := begin(t, d)
		defer v.Detach()
		if v.known.Buffers[0] != state(known, weir.BufferKnown, 2) || v.known.Buffers[1] != state(fresh, weir.BufferNew, 12) || v.known.Buffers[2] != state(aside, weir.BufferAside, 22) {
			t.Errorf("buffers %+v", v.known.Buffers)
		}
		if len(v.known.Marks) != 2 || !slices.Equal(v.known.Rows, []weir.MapRow{newer}) {
			t.Errorf("marks %v, rows %v", v.known.Marks, v.known.Rows)
		}
	})
}

// TestRetiredInOneShard: it is retired in those that know it, before the gateway is told.
func TestRetiredInOneShard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newShards(t, 4)
		b := weir.BufferID{1}
		home := int(weir.SliceOfGateway("gw")) % 4
		at := func(i int) *shardLog { return w.logs[(home+i)%4] }
		at(0).known.Buffers = append(at(0).known.Buffers, state(b, weir.BufferNew, 0))
		at(1).known.Buffers = append(at(1).known.Buffers, state(b, weir.BufferRetired, 0))
		at(2).known.Buffers = append(at(2).known.Buffers, state(b, weir.BufferKnown, 0))
		at(3).known.Buffers = append(at(3).known.Buffers, state(b, weir.BufferNew, 0))
		v := begin(t, w.door())
		defer v.Detach()
		if v.known.Buffers[0].State != weir.BufferRetired {
			t.Errorf("told: %v", v.known.Buffers[0].State)
		}
		if !at(0).hasRetired(b) || at(1).hasRetired(b) || !at(2).hasRetired(b) || at(3).hasRetired(b) {
			t.Errorf("retired at home %v, where it was %v, where it is known %v, elsewhere %v", at(0).hasRetired(b), at(1).hasRetired(b), at(2).hasRetired(b), at(3).hasRetired(b))
		}
		other := weir.BufferID{2}
		topic := topicIn(4)
		v.Append(uplink.Append{Stream: weir.Stream{Gateway: "gw", Buffer: other}, Topic: topic, Partition: int32(home+3) % 4}, func(error) {})
		if err := v.Retire(t.Context(), other); err != nil || !at(0).hasRetired(other) || at(1).hasRetired(other) || !at(3).hasRetired(other) {
			t.Errorf("%v: retired at home %v, where nothing was sent %v, where something was sent %v", err, at(0).hasRetired(other), at(1).hasRetired(other), at(3).hasRetired(other))
		}
	})
}

// TestShardMoves: the session goes on. What was not answered is refused, and so is the rest
// of the round; the mark is told when there is a new owner. Other partitions notice nothing.
func TestShardMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newShards(t, 2)
		d := w.door()
		topic := topicIn(2)
		current := weir.BufferID{7}
		v := begin(t, d, weir.Buffer{ID: current, Current: true})
		defer v.Detach()
		send := func(partition int32, round uint32) *outcome {
			o := &outcome{}
			v.Append(uplink.Append{Stream: stream, Topic: topic, Partition: partition, Round: round}, o.done)
			synctest.Wait()
			return o
		}
		other, flying, idle := send(0, 0), send(1, 4), send(3, 0)
		w.logs[1].answer(1, nil)
		w.lose(1)
		late := send(1, 4)
		if flying.answered() || !late.is(uplink.ErrMoved) || !idle.is(nil) || v.cause() != nil {
			t.Fatalf("in flight %v, late %v, answered before %v, session %v", flying.answered(), late.err, idle.err, v.cause())
		}
		told := make(chan uint64, 1)
		go func() {
			mark, err := v.Mark(t.Context(), stream, topic, 1)
			if err != nil {
				t.Error(err)
			}
			told <- mark
		}()
		time.Sleep(3 * time.Second)
		if len(told) > 0 {
			t.Error("a mark is told without an owner")
		}
		w.logs[1].mark = 9
		w.lead(1)
		time.Sleep(2 * time.Second)
		if mark := <-told; mark != 9 || w.logs[1].count() != 2 {
			t.Errorf("mark %d, the log has %d", mark, w.logs[1].count())
		}
		w.logs[1].answer(0, &uplink.NotOwnerError{}) // by the former owner
		if !flying.is(uplink.ErrMoved) {
			t.Errorf("in flight %v", flying.err)
		}
		if o := send(1, 4); !o.is(uplink.ErrMoved) || w.logs[1].count() != 2 {
			t.Errorf("another batch of the round: %v", o.err)
		}
		next, free := send(1, 5), send(3, 0)
		if next.answered() || free.answered() || w.logs[1].count() != 4 {
			t.Errorf("the next round: %v, another partition: %v", next.err, free.err)
		}
		w.logs[0].answer(0, nil)
		if !other.is(nil) || !slices.Equal(w.logs[1].current, []weir.BufferID{current, current}) {
			t.Errorf("the other shard %v; told to be open %v", other.err, w.logs[1].current)
		}
	})
}

// TestDoorHearsOfMove: what was handed to an owner that does not answer is refused when
// another has the shard, whatever the old one says later.
func TestDoorHearsOfMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newShards(t, 2)
		d := w.door()
		topic := topicIn(2)
		v := begin(t, d)
		var durable, failed, next outcome
		v.Append(uplink.Append{Stream: stream, Topic: topic, Partition: 1}, durable.done)
		v.Append(uplink.Append{Stream: stream, Topic: topic, Partition: 1}, failed.done)
		w.lead(1) // the old owner has not heard of it
		d.Moved(1)
		synctest.Wait()
		w.logs[1].answer(0, nil)
		w.logs[1].answer(1, &uplink.NotOwnerError{})
		if !durable.is(nil) || !failed.is(uplink.ErrMoved) {
			t.Errorf("%v, %v", durable.err, failed.err)
		}
		v.Append(uplink.Append{Stream: stream, Topic: topic, Partition: 1, Round: 1}, next.done)
		if w.logs[1].count() != 3 {
			t.Errorf("the new owner has %d", w.logs[1].count()-2)
		}
		w.lose(1)
		w.logs[1].answer(2, uplink.ErrDetached)
		v.Detach()
		if !next.is(uplink.ErrMoved) {
			t.Errorf("at the end of the session: %v", next.err)
		}
	})
}

// TestSupersededAtOneShard: the session ends everywhere.
func TestSupersededAtOneShard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newShards(t, 2)
		old, fresh := w.door(), w.door()
		first := begin(t, old)
		second := begin(t, fresh)
		if !errors.Is(first.cause(), uplink.ErrSuperseded) || second.cause() != nil {
			t.Errorf("the older %v, the newer %v", first.cause(), second.cause())
		}
		first.Detach()
		var o outcome
		second.Append(uplink.Append{Stream: stream, Topic: topicIn(2), Partition: 1}, o.done)
		w.logs[1].answer(0, nil)
		if !o.is(nil) {
			t.Errorf("the newer session: %v", o.err)
		}
		second.Detach()
	})
}
