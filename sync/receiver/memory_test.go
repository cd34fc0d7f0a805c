package receiver_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/cloud/budget"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/join"
	"github.com/weirmq/weir/sync/receiver"
	"github.com/weirmq/weir/sync/uplink"
	"github.com/weirmq/weir/sync/uplink/uplinktest"
	"github.com/weirmq/weir/sync/wire"
	"github.com/weirmq/weir/sync/wire/wiretest"
)

// taker is a log that takes everything at once.
type taker struct {
	mu    sync.Mutex
	taken map[string]int // by gateway, guarded by mu
}

func (l *taker) Offer(context.Context, string, []weir.Buffer) (uplink.Offered, error) {
	return uplink.Offered{}, nil
}

func (l *taker) Resolve(context.Context, string, string) (weir.TopicID, int32, error) {
	return weir.TopicID{1}, 1, nil
}

func (l *taker) Append(a uplink.Append, done func(error)) {
	l.mu.Lock()
	l.taken[a.Stream.Gateway]++
	l.mu.Unlock()
	done(nil)
}

func (l *taker) Mark(context.Context, weir.Stream, weir.TopicID, int32) (uint64, error) {
	return 0, nil
}

func (l *taker) Retire(context.Context, string, weir.BufferID) error { return nil }

func (l *taker) count(gateway string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.taken[gateway]
}

// crowd is a receiver with the budgets of a node, small ones, and its gateways.
type crowd struct {
	t     *testing.T
	log   *taker
	recv  *receiver.Receiver
	links []*wiretest.Link
	ended sync.WaitGroup
}

func newCrowd(t *testing.T, o receiver.Options) *crowd {
	c := &crowd{t: t, log: &taker{taken: make(map[string]int)}}
	memory, err := budget.NewPool(receiver.MemoryOptions(32<<20, slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	o.Attach, o.Resolve, o.Memory = uplinktest.Alone(uplink.Calls{Offer: c.log.Offer, Append: c.log.Append, Mark: c.log.Mark, Retire: c.log.Retire}).Attach, c.log.Resolve, memory
	if c.recv, err = receiver.New(o); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *crowd) close() {
	c.recv.Close()
	c.ended.Wait()
}

// sessionOf returns the receiver's end of a link as its session.
func sessionOf(node *wiretest.End) receiver.Session {
	return receiver.Session{Peer: node.Peer(), AcceptStream: node.AcceptStream, Close: node.Close}
}

// gateway connects one and returns its live lane.
func (c *crowd) gateway(name string) wire.Channel {
	c.t.Helper()
	link := wiretest.New(wiretest.Options{Peer: wire.Peer{Addr: "10.0.0.1:1", Gateway: name}, Buffer: 16 << 20})
	c.links = append(c.links, link)
	c.ended.Go(func() { c.recv.Handle(sessionOf(link.Node)) })
	open := func(p wire.Preface) wire.Channel {
		st, err := link.Gateway.OpenStream(c.t.Context(), 0)
		if err == nil {
			err = wire.WritePreface(st, p)
		}
		if err != nil {
			c.t.Fatal(err)
		}
		return st
	}
	control := open(wire.Preface{Kind: wire.StreamControl})
	if err := wire.Write(control, &wire.Hello{Gateway: name}); err != nil {
		c.t.Fatal(err)
	}
	for range 2 {
		if _, err := wire.Read(control, wire.MaxControl); err != nil {
			c.t.Fatal(err)
		}
	}
	return open(wire.Preface{Kind: wire.StreamLane, Lane: weir.Live})
}

// frame is an Append of so many bytes.
func frame(t *testing.T, size int) []byte {
	t.Helper()
	b := record.NewBuilder(record.None)
	if err := b.Append(&record.Record{Value: []byte(strings.Repeat("x", size))}); err != nil {
		t.Fatal(err)
	}
	batch, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return wire.AppendFrame(nil, &wire.Append{Lane: weir.Live, Row: weir.Row{Partitions: 1, From: 1}, First: 1, Last: 1, Kind: wire.KindBatch, Batch: batch})
}

// TestAnnouncedLength: what gateways announce and do not send takes nothing from
// others: not even large frames wait.
func TestAnnouncedLength(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCrowd(t, receiver.Options{})
		defer c.close()
		header := binary.BigEndian.AppendUint32([]byte{byte(wire.TypeAppend)}, wire.MaxLane)
		for i := range 300 {
			go c.gateway(fmt.Sprintf("evil-%d", i)).Write(header)
		}
		synctest.Wait()
		began := time.Now()
		victim := c.gateway("victim")
		for _, size := range []int{100, 900_000, 100} {
			go victim.Write(frame(t, size))
			synctest.Wait()
		}
		if n := c.log.count("victim"); n != 3 || time.Since(began) > 0 {
			t.Errorf("%d of 3 appends after %v", n, time.Since(began))
		}
	})
}

// TestHeldFrames: gateways that send all of their frames but the end leave small
// frames alone, and are closed when a large one waits.
func TestHeldFrames(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCrowd(t, receiver.Options{})
		defer c.close()
		most := frame(t, 900_000)
		most = most[:len(most)-1]
		for i := range 30 {
			go c.gateway(fmt.Sprintf("evil-%d", i)).Write(most)
		}
		synctest.Wait()
		began := time.Now()
		victim := c.gateway("victim")
		for range 100 {
			go victim.Write(frame(t, 1000))
			synctest.Wait()
		}
		if n := c.log.count("victim"); n != 100 || time.Since(began) > 0 {
			t.Errorf("%d of 100 small appends after %v", n, time.Since(began))
		}
		go victim.Write(frame(t, 900_000))
		synctest.Wait()
		if n := c.log.count("victim"); n != 100 {
			t.Fatalf("memory is not short: the test shows nothing")
		}
		time.Sleep(20 * time.Second)
		if n := c.log.count("victim"); n != 101 {
			t.Errorf("a large append waits for more than %v", time.Since(began))
		}
	})
}

// TestSilentJoiners: silent connections on the join port keep no gateway from joining,
// and few wrong tokens are checked.
func TestSilentJoiners(t *testing.T) {
	bubble(t, func(t *testing.T) {
		looked := 0
		c := newCrowd(t, receiver.Options{Join: func(_ context.Context, r receiver.JoinRequest) (receiver.JoinResult, error) {
			if looked++; r.Secret != [16]byte{7} {
				return receiver.JoinResult{}, join.ErrTokenUnknown
			}
			return receiver.JoinResult{}, nil
		}})
		defer c.close()
		dial := func(addr string) *wiretest.Link {
			link := wiretest.New(wiretest.Options{Peer: wire.Peer{Addr: addr}})
			c.ended.Go(func() { c.recv.HandleJoin(sessionOf(link.Node)) })
			return link
		}
		ask := func(addr string, secret byte) error {
			link := dial(addr)
			defer link.Gateway.Close(wire.CodeNone, "")
			st, err := link.Gateway.OpenStream(t.Context(), 0)
			if err == nil {
				err = wire.Write(st, &wire.JoinRequest{Secret: [16]byte{secret}, Gateway: "gw"})
			}
			if err != nil {
				return err
			}
			f, err := wire.Read(st, wire.MaxJoin)
			if r, ok := f.(*wire.JoinResponse); ok {
				return join.VerdictError(r.Verdict, r.Text)
			}
			return err
		}
		for i := range 500 {
			dial(fmt.Sprintf("10.0.0.1:%d", i+1))
			if i%20 == 0 {
				synctest.Wait()
			}
		}
		synctest.Wait()
		if err := ask("10.0.0.2:1", 7); err != nil {
			t.Errorf("another address: %v", err)
		}
		looked = 0
		for range 100 {
			if err := ask("10.0.0.3:1", 1); !errors.Is(err, join.ErrTokenUnknown) && !errors.Is(err, join.ErrUnavailable) {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if looked < 2 || looked > 5 {
			t.Errorf("%d of 100 wrong tokens in 10 s were looked at", looked)
		}
		if err := ask("10.0.0.2:2", 7); err != nil {
			t.Errorf("another address: %v", err)
		}
	})
}
