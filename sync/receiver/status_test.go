package receiver_test

import (
	"testing"
	"time"

	"github.com/weirmq/weir/sync/receiver"
	"github.com/weirmq/weir/sync/uplink"
	"github.com/weirmq/weir/sync/wire"
)

// TestStatus: a gateway that says so tells how it is, and what is known of it stays when
// it goes. One of an earlier version does not, and must not.
func TestStatus(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var left []receiver.Gateway
		var refused []receiver.Refusal
		p := newPeer(t, receiver.Options{
			Cluster: func() string { return "c9" },
			Left:    func(g receiver.Gateway) { left = append(left, g) },
			Refused: func(gateway string, r receiver.Refusal) { refused = append(refused, r) },
		})
		defer p.recv.Close()
		p.send(p.control, &wire.Hello{Gateway: "gw-1", Software: "e 1", Features: wire.FeatureStatus | 1<<40})
		if w, ok := p.read(p.control).(*wire.Welcome); !ok || w.Features != wire.FeatureStatus || w.Cluster != "c9" {
			t.Fatalf("got %+v", w)
		}
		p.read(p.control)
		if g := p.recv.Gateways(); len(g) != 1 || g[0].Depth != nil || g[0].Status != nil || time.Since(g[0].Heard) != 0 {
			t.Errorf("gateways %+v", g)
		}
		time.Sleep(time.Second)
		p.send(p.control, &wire.Status{Figures: []wire.Figure{{Key: wire.FigureDead, Value: 7}, {Key: 999, Value: 1}}})
		p.send(p.control, &wire.Ping{Records: 5})
		p.read(p.control)
		heard := time.Now()
		p.log.err = uplink.ErrNotAllowed
		p.send(p.control, &wire.Resolve{Name: "secret"})
		p.read(p.control)
		p.log.err = uplink.ErrBusy
		p.send(p.control, &wire.Resolve{Name: "later"})
		p.read(p.control)
		time.Sleep(time.Second)
		p.link.Gateway.Close(wire.CodeNone, "")
		<-p.ended
		if len(left) != 1 || left[0].Depth.Records != 5 || left[0].Software != "e 1" || !left[0].Heard.Equal(heard) {
			t.Fatalf("left %+v", left)
		}
		if dead, told := left[0].Status.Figure(wire.FigureDead); dead != 7 || !told {
			t.Errorf("dead letters %d, %v", dead, told)
		}
		if _, told := left[0].Status.Figure(wire.FigureFree); told {
			t.Error("a figure that was not told is there")
		}
		if len(refused) != 1 || refused[0].Name != "secret" || refused[0].Reason != wire.ReasonNotAllowed {
			t.Errorf("refused %+v", refused)
		}

		p.log.err = nil
		p.dial()
		p.hello()
		p.send(p.control, &wire.Status{})
		if f, ok := p.read(p.control).(*wire.Goodbye); !ok || f.Code != wire.CodeProtocol {
			t.Errorf("a Status that was not agreed on is answered with %+v", f)
		}
		p.link.Gateway.Close(wire.CodeNone, "")
		if <-p.ended; len(left) != 2 || left[1].Status != nil {
			t.Errorf("left %+v", left)
		}
	})
}

// TestSuperseded: a gateway whose newer session lives has not left.
func TestSuperseded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		left := 0
		p := newPeer(t, receiver.Options{Left: func(receiver.Gateway) { left++ }})
		defer p.recv.Close()
		p.hello()
		first := p.ended
		p.dial()
		p.hello()
		if <-first; left != 0 {
			t.Errorf("it has left %d times", left)
		}
	})
}
