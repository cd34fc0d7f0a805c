package sender_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/sync/wire"
)

// TestStatus: the cloud hears at once how far behind a gateway is and how it is, and
// then what has changed, once a minute at most.
func TestStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.close()
		var asked, letters atomic.Uint64
		letters.Store(1)
		r.opts.Depth = func() wire.Ping { return wire.Ping{Records: 9} }
		r.opts.Status = func() []wire.Figure {
			asked.Add(1)
			return []wire.Figure{{Key: wire.FigureDead, Value: letters.Load()}}
		}
		r.start()
		synctest.Wait()
		told := func() (records, dead uint64) {
			t.Helper()
			all := r.recv.Gateways()
			if len(all) != 1 || all[0].Depth == nil {
				t.Fatalf("gateways %+v", all)
			}
			dead, _ = all[0].Status.Figure(wire.FigureDead)
			return all[0].Depth.Records, dead
		}
		if records, dead := told(); records != 9 || dead != 1 {
			t.Errorf("at once: %d records, %d dead letters", records, dead)
		}
		letters.Store(2)
		time.Sleep(55 * time.Second)
		if _, dead := told(); dead != 1 || asked.Load() != 1 {
			t.Errorf("within the minute: %d dead letters, asked %d times", dead, asked.Load())
		}
		time.Sleep(10 * time.Second)
		if _, dead := told(); dead != 2 {
			t.Errorf("after a minute: %d dead letters", dead)
		}
	})
}

// TestStatusIsAgreedOn: a node that does not know the feature gets no such frame: it
// would end the session.
func TestStatusIsAgreedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.close()
		r.opts.Status = func() []wire.Figure { t.Error("asked for what nobody wants"); return nil }
		r.older = true
		r.start()
		time.Sleep(3 * time.Minute)
		if s := r.send.State(); !s.Connected || time.Since(s.Since) < 2*time.Minute {
			t.Errorf("%+v", s)
		}
	})
	synctest.Test(t, func(t *testing.T) { // and a gateway without one works with a node that does
		r := newRig(t)
		defer r.close()
		r.start()
		time.Sleep(3 * time.Minute)
		if g := r.recv.Gateways(); len(g) != 1 || g[0].Status != nil || time.Since(g[0].Since) < 2*time.Minute {
			t.Errorf("%+v", g)
		}
	})
}

// oldNode accepts streams as a node of an earlier version does: it reads over the
// features of a Hello.
type oldNode struct {
	accept  func(context.Context) (wire.Channel, error)
	control bool // was accepted
}

func (n *oldNode) acceptStream(ctx context.Context) (wire.Channel, error) {
	st, err := n.accept(ctx)
	if err != nil || n.control {
		return st, err
	}
	n.control = true
	p, err := wire.ReadPreface(st)
	if err != nil {
		return nil, err
	}
	f, err := wire.Read(st, wire.MaxControl)
	if err != nil {
		return nil, err
	}
	f.(*wire.Hello).Features = 0
	var begin bytes.Buffer
	if err := errors.Join(wire.WritePreface(&begin, p), wire.Write(&begin, f)); err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Writer
	}{io.MultiReader(&begin, st), st}, nil
}
