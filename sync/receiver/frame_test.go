package receiver_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/join"
	"github.com/weirmq/weir/sync/receiver"
	"github.com/weirmq/weir/sync/uplink"
	"github.com/weirmq/weir/sync/wire"
	"github.com/weirmq/weir/sync/wire/wiretest"
)

// large is an Append of many bytes, encoded.
func large(t *testing.T, lane weir.Lane, size int) []byte {
	t.Helper()
	a := live(t, 0, 1, 1)
	a.Lane, a.Batch = lane, batch(t, strings.Repeat("x", size))
	return wire.AppendFrame(nil, a)
}

// lasts returns how long a session lasts in which feed feeds the bulk lane and,
// beside it, other the live one, a second at a time.
func lasts(t *testing.T, most time.Duration, feed, other func(second int) int) (lasted time.Duration, appends int, cause error) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer(t, receiver.Options{})
		defer p.recv.Close()
		p.hello()
		bulk := p.open(wire.Preface{Kind: wire.StreamLane, Lane: weir.Bulk})
		lane := p.open(wire.Preface{Kind: wire.StreamLane, Lane: weir.Live})
		frame := large(t, weir.Bulk, 900_000)
		began := time.Now()
		seq := uint64(0)
		go func() {
			for {
				if _, err := wire.Read(lane, wire.MaxControl); err != nil {
					return
				}
			}
		}()
		for second := 0; time.Since(began) < most; second++ {
			n := min(feed(second), len(frame))
			if n > 0 {
				go bulk.Write(frame[:n])
				frame = frame[n:]
			}
			for sent := 0; sent < other(second); sent += 100 {
				seq++
				go wire.Write(lane, live(t, seq-1, seq, seq))
				synctest.Wait()
				if p.log.count() == int(seq) {
					p.log.answer(int(seq)-1, nil)
				}
			}
			time.Sleep(time.Second)
			select {
			case cause = <-p.ended:
				lasted, appends = time.Since(began), p.log.count()
				return
			default:
			}
		}
		lasted, appends = time.Since(began), p.log.count()
	})
	return lasted, appends, cause
}

// A frame may be slow, and may stand still while the gateway sends something
// else. It may not stand still for nothing.
func TestFramesGoOn(t *testing.T) {
	rate := func(n int) func(int) int { return func(int) int { return n } }
	begun := func(second int) int {
		if second == 0 {
			return 50_000
		}
		return 0
	}
	for name, c := range map[string]struct {
		feed, other  func(int) int
		least, most  time.Duration
		ends, arrive bool
	}{
		"2 kB/s":                 {rate(2_000), rate(0), 450 * time.Second, 10 * time.Minute, false, true},
		"stands still":           {begun, rate(0), 25 * time.Second, 45 * time.Second, true, false},
		"trickles":               {rate(20), rate(0), 25 * time.Second, 45 * time.Second, true, false},
		"other lanes use it all": {begun, rate(3_000), 9 * time.Minute, 12 * time.Minute, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			wait := c.most
			if !c.ends {
				wait = c.least + time.Second
			}
			lasted, appends, cause := lasts(t, wait, c.feed, c.other)
			if (cause != nil) != c.ends || lasted < c.least || lasted > c.most {
				t.Errorf("lasted %v and ended with %v", lasted, cause)
			}
			if c.ends && !strings.Contains(cause.Error(), "frame stopped arriving") {
				t.Errorf("ended with %v", cause)
			}
			if c.arrive && appends != 1 {
				t.Errorf("%d appends", appends)
			}
		})
	}
}

// A gateway that does not read its Acks is closed: they, and what they are about,
// lie in memory.
func TestAcksAreRead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPeer(t, receiver.Options{})
		defer p.recv.Close()
		p.hello()
		lane := p.open(wire.Preface{Kind: wire.StreamLane, Lane: weir.Live})
		go func() {
			for i := uint64(0); wire.Write(lane, live(t, i, i+1, i+1)) == nil; i++ {
			}
		}()
		for answered := 0; ; answered++ {
			synctest.Wait()
			if p.log.count() <= answered {
				break
			}
			p.log.answer(answered, nil)
		}
		time.Sleep(time.Minute)
		select {
		case err := <-p.ended:
			if !strings.Contains(err.Error(), "does not read") {
				t.Errorf("ended with %v", err)
			}
		default:
			t.Error("it goes on")
		}
	})
}

// Connections with one certificate that say nothing give way to newer ones.
func TestSilentConnectionsOfAGateway(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPeer(t, receiver.Options{MaxGateways: 10})
		defer p.recv.Close()
		first := p.ended
		for range 3 {
			p.dial()
		}
		synctest.Wait()
		select {
		case err := <-first:
			t.Fatalf("the first of four ended: %v", err)
		default:
		}
		for range 20 {
			p.dial()
			synctest.Wait()
		}
		if err := <-first; err == nil || !strings.Contains(err.Error(), "have not said Hello") {
			t.Errorf("the first ended with %v", err)
		}
		p.hello()
	})
}

// A node that cannot sign sends the gateway to the one that can.
func TestRenewElsewhere(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPeer(t, receiver.Options{Renew: func(context.Context, string, []byte) ([]byte, error) {
			return nil, &uplink.NotOwnerError{Addr: "owner:7400"}
		}})
		defer p.recv.Close()
		key, err := join.NewKey()
		if err != nil {
			t.Fatal(err)
		}
		csr, err := join.NewCSR(key, "gw-1")
		if err != nil {
			t.Fatal(err)
		}
		p.send(p.control, &wire.Renew{CSR: csr})
		if f, ok := p.read(p.control).(*wire.Redirect); !ok || f.Addr != "owner:7400" {
			t.Errorf("got %+v", f)
		}
	})
}

// A token that there is not costs its address a pause, in which none is looked
// at; one that has expired does not.
func TestWrongTokensPause(t *testing.T) {
	bubble(t, func(t *testing.T) {
		looked, answer := 0, join.ErrTokenExpired
		p := newPeer(t, receiver.Options{Join: func(context.Context, receiver.JoinRequest) (receiver.JoinResult, error) {
			looked++
			return receiver.JoinResult{}, answer
		}})
		defer p.recv.Close()
		ask := func() error {
			link := wiretest.New(wiretest.Options{Peer: wire.Peer{Addr: "10.0.0.7:1"}})
			go p.recv.HandleJoin(sessionOf(link.Node))
			st, err := link.Gateway.OpenStream(t.Context(), 0)
			if err != nil {
				t.Fatal(err)
			}
			p.send(st, &wire.JoinRequest{Gateway: "gw"})
			r, ok := p.read(st).(*wire.JoinResponse)
			if !ok {
				t.Fatal("no response")
			}
			link.Gateway.Close(wire.CodeNone, "")
			return join.VerdictError(r.Verdict, "")
		}
		for _, step := range []struct {
			answer, want error
			looked       int
		}{
			{join.ErrTokenExpired, join.ErrTokenExpired, 1},
			{join.ErrTokenUnknown, join.ErrTokenUnknown, 2},
			{join.ErrTokenUnknown, join.ErrUnavailable, 2},
			{nil, join.ErrUnavailable, 2},
		} {
			answer = step.answer
			if err := ask(); !errors.Is(err, step.want) || looked != step.looked {
				t.Errorf("%v: answered %v, looked %d times", step.answer, err, looked)
			}
		}
	})
}
