package amqp091

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/weirmq/weir/cloud/amqp091/wire"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/storage/mem"
)

// TestFormerOwner: a node that was stopped for a while, and lost the vhost meanwhile, does
// not say that a queue or the vhost does not exist. It sends the client to another node.
func TestFormerOwner(t *testing.T) {
	var lost, waited atomic.Bool
	d := openDoor(t, mem.New(), func(o *Options) {
		o.Sure = func(context.Context) { waited.Store(true) }
		o.Confirm = func(context.Context, string) error {
			if lost.Load() {
				return broker.ErrNotOwner
			}
			return nil
		}
	})
	answers := func(of string, do func() wire.Method, here wire.Code) {
		t.Helper()
		for _, gone := range []bool{false, true} {
			lost.Store(gone)
			waited.Store(false)
			m, want := do(), here
			if gone {
				want = wire.ConnectionForced
			}
			var code uint16
			switch m := m.(type) {
			case *wire.ChannelClose:
				code = m.ReplyCode
			case *wire.ConnectionClose:
				code = m.ReplyCode
			}
			if code != uint16(want) || !waited.Load() {
				t.Errorf("%s, lost: %v: %+v, want %v; waited until this node is sure: %v", of, gone, m, want, waited.Load())
			}
		}
	}
	answers("a queue", func() wire.Method {
		r := d.opened()
		waited.Store(false) // it was opened at a sure node
		r.send(1, &wire.QueuePurge{Queue: "none"})
		_, m := r.method()
		return m
	}, wire.NotFound)
	answers("an exchange", func() wire.Method {
		r := d.opened()
		waited.Store(false) // it was opened at a sure node
		r.send(1, &wire.ExchangeDeclare{Exchange: "none", Type: "direct", Passive: true})
		_, m := r.method()
		return m
	}, wire.NotFound)
	answers("the vhost", func() wire.Method { return d.dial().handshake("guest", "guest", "none", 0) }, wire.NotAllowed)
}
