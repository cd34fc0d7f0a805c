package sender_test

import (
	"context"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/sender"
	"github.com/weirmq/weir/sync/wire"
	"github.com/weirmq/weir/sync/wire/wiretest"
)

// silentNode answers everything at once but Appends, of which it notes the last sequence.
type silentNode struct {
	t      *testing.T
	lanes  [weir.Lanes]wire.Channel
	append *wire.Append // the last one
	mute   atomic.Bool  // it does not answer Pings
}

func (n *silentNode) serve(end *wiretest.End) {
	for {
		st, err := end.AcceptStream(n.t.Context())
		if err != nil {
			return
		}
		p, err := wire.ReadPreface(st)
		if err != nil {
			return
		}
		if p.Kind == wire.StreamLane {
			n.lanes[p.Lane] = st
		}
		go n.answer(st)
	}
}

func (n *silentNode) answer(st wire.Channel) {
	for {
		f, err := wire.Read(st, wire.MaxLane)
		if err != nil {
			return
		}
		switch f := f.(type) {
		case *wire.Hello:
			n.write(st, &wire.Welcome{})
			n.write(st, &wire.Marks{Buffers: []wire.OfferedBuffer{{ID: f.Buffers[0].ID, State: weir.BufferNew}}, Final: true})
		case *wire.Resolve:
			n.write(st, &wire.Topic{Name: f.Name, ID: weir.TopicID{1}, Partitions: 1})
		case *wire.Ping:
			if !n.mute.Load() {
				n.write(st, &wire.Pong{})
			}
		case *wire.Append:
			n.append = f
		}
	}
}

func (n *silentNode) write(st wire.Channel, f wire.Frame) {
	_ = wire.Write(st, f) // fails when the session is over
}

// TestGoesOnBehindOneAck: one Ack settles all that a lane may have read. Nothing else wakes
// the lane, which must go on with the rest.
func TestGoesOnBehindOneAck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		link := wiretest.New(wiretest.Options{})
		n := &silentNode{t: t}
		go n.serve(link.Node)
		r := &rig{t: t, disk: newFakeBuffers()}
		r.disk.frame = 1000
		const all = 40_000
		for i := range all {
			r.put(weir.Live, "sensors", "k", strconv.Itoa(i))
		}
		s, err := sender.New(sender.Options{Buffers: r.disk, Addrs: []string{"node"}, Gateway: gateway, Plain: true,
			Dial: func(context.Context, string) (sender.Session, error) { return dialled(link), nil }})
		if err != nil {
			t.Fatal(err)
		}
		stop := run(s)
		for last := uint64(0); last < all; {
			synctest.Wait()
			if n.append == nil || n.append.Last == last {
				t.Errorf("it sends nothing behind sequence %d", last)
				break
			}
			last = n.append.Last
			n.write(n.lanes[weir.Live], &wire.Ack{Buffer: n.append.Buffer, Lane: weir.Live, Topic: n.append.Topic, Last: last})
		}
		link.Node.Close(wire.CodeNone, "")
		stop()
	})
}

// TestSilence: a session ends when the node has said nothing for 15 seconds, not with the next
// Ping that is due.
func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		link := wiretest.New(wiretest.Options{})
		n := &silentNode{t: t}
		go n.serve(link.Node)
		s, err := sender.New(sender.Options{Buffers: newFakeBuffers(), Addrs: []string{"node"}, Gateway: gateway, Plain: true,
			Dial: func(context.Context, string) (sender.Session, error) { return dialled(link), nil }})
		if err != nil {
			t.Fatal(err)
		}
		stop := run(s)
		time.Sleep(21 * time.Second)
		if !s.State().Connected {
			t.Errorf("the node answers, and the session ends: %v", s.State().Err)
		}
		n.mute.Store(true) // it was heard a second ago
		time.Sleep(13 * time.Second)
		if !s.State().Connected {
			t.Errorf("the session ends after 14 seconds of silence: %v", s.State().Err)
		}
		time.Sleep(1100 * time.Millisecond)
		if s.State().Connected {
			t.Error("the session lasts longer than 15 seconds of silence")
		}
		stop()
		link.Node.Close(wire.CodeNone, "")
	})
}
