package cluster

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/join"
	"github.com/weirmq/weir/sync/sender"
	"github.com/weirmq/weir/sync/wire"
)

// readings is the topic that gateways write to.
const readings = "readings"

// fleet is gateways in this process, each with the sender of weir-edge over memory in the
// place of a disk. Forty of them share an address, as behind a router.
type fleet struct {
	b        *testing.B
	n        *nodes
	all      []*gateway
	sockets  []*quic.Transport
	value    int // bytes of a record
	stop     context.CancelFunc
	running  sync.WaitGroup
	accepted atomic.Int64 // readings
	settled  atomic.Int64 // readings that are durable in the cloud
	dials    atomic.Int64
	dialing  chan struct{} // one for each handshake that may be under way
	ended    chan struct{} // closed by stop
}

const perAddress = 40

// atOnce is how many gateways dial at the same time; the others wait for their turn. Real ones
// have processors of their own. Here they share those of the nodes: of thousands that compute
// at once, none would have its handshake complete before its time is over.
const atOnce = 64

// gateway is one of a fleet. It implements sender.Buffers: one buffer, of which one lane
// is used.
type gateway struct {
	of     *fleet
	id     weir.BufferID
	name   string
	sender *sender.Sender
	wake   chan struct{}

	mu   sync.Mutex // guards what follows
	last uint64     // reading
	trim uint64     // the last one that is durable in the cloud
	rows []weir.MapRow
}

// newFleet joins gateways to the cluster. They are stopped at the end of the benchmark.
func newFleet(b *testing.B, n *nodes, gateways, value int) *fleet {
	b.Helper()
	f := &fleet{b: b, n: n, value: value, dialing: make(chan struct{}, atOnce), ended: make(chan struct{})}
	for i := range (gateways + perAddress - 1) / perAddress {
		socket, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 1, byte(i/250), byte(1+i%250))})
		if err != nil {
			b.Fatal(err)
		}
		t := &quic.Transport{Conn: socket}
		f.sockets = append(f.sockets, t)
		b.Cleanup(func() { t.Close(); socket.Close() })
	}
	f.all = make([]*gateway, gateways)
	token, addresses := n.token(gateways), n.addresses("sync")
	key, err := join.NewKey() // all have the same: making it takes longer than joining
	if err != nil {
		b.Fatal(err)
	}
	var next atomic.Int64
	var joining sync.WaitGroup
	for range 16 {
		joining.Go(func() {
			for i := int(next.Add(1)) - 1; i < gateways; i = int(next.Add(1)) - 1 {
				if err := f.join(i, addresses, token, key); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	joining.Wait()
	if b.Failed() {
		b.FailNow()
	}
	return f
}

// join makes the i-th gateway. Its sender knows all addresses and begins with another one
// than the gateway before.
func (f *fleet) join(i int, addresses []string, token join.Token, key *ecdsa.PrivateKey) error {
	g := &gateway{of: f, name: fmt.Sprintf("gw-%05d", i), id: weir.BufferID{3: 1, 11: byte(i), 10: byte(i >> 8)}, wake: make(chan struct{}, 1)}
	dial := f.dialer(i)
	var identity *join.Identity
	var err error
	for range 20 { // a node refuses handshakes beyond what it can do at once
		var s sender.Session
		if s, err = dial(f.b.Context(), addresses[i%len(addresses)], join.JoinTLS(token, nil)); err != nil {
			continue
		}
		identity, err = sender.JoinOver(f.b.Context(), s, token, g.name, key)
		s.Close(wire.CodeNone, "")
		if err == nil {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("join %s: %w", g.name, err)
	}
	k := i % len(addresses)
	g.sender, err = sender.New(sender.Options{Buffers: g, Addrs: append(append([]string{}, addresses[k:]...), addresses[:k]...), Gateway: g.name, Software: "bench",
		Dial: func(ctx context.Context, address string) (sender.Session, error) {
			return dial(ctx, address, identity.TLS(nil))
		}})
	f.all[i] = g
	return err
}

// dialling is how package sender dials.
var dialling = &quic.Config{HandshakeIdleTimeout: 2500 * time.Millisecond, MaxIdleTimeout: 15 * time.Second,
	InitialStreamReceiveWindow: 128 << 10, MaxStreamReceiveWindow: 128 << 10, InitialConnectionReceiveWindow: 128 << 10, MaxConnectionReceiveWindow: 128 << 10,
	MaxIncomingStreams: -1, MaxIncomingUniStreams: -1, InitialPacketSize: 1200}

// dialer returns what dials for the i-th gateway, as package sender does, but over the
// socket that it shares.
func (f *fleet) dialer(i int) func(ctx context.Context, address string, conf *tls.Config) (sender.Session, error) {
	t := f.sockets[i/perAddress]
	return func(ctx context.Context, address string, conf *tls.Config) (sender.Session, error) {
		to, err := net.ResolveUDPAddr("udp", address)
		if err != nil {
			return sender.Session{}, err
		}
		select {
		case f.dialing <- struct{}{}:
			defer func() { <-f.dialing }()
		case <-f.ended:
			return sender.Session{}, context.Canceled
		}
		f.dials.Add(1)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		c, err := t.Dial(ctx, to, conf, dialling)
		if err != nil {
			return sender.Session{}, err
		}
		return sender.Session{
			OpenStream: func(ctx context.Context, urgency int8) (wire.Channel, error) {
				st, err := c.OpenStreamSync(ctx)
				if err != nil {
					return nil, closed(err)
				}
				st.SetPriority(urgency, true)
				return channel{st}, nil
			},
			Close: func(code wire.Code, text string) { c.CloseWithError(quic.ApplicationErrorCode(code), text) },
		}, nil
	}
}

type channel struct{ s *quic.Stream }

func (c channel) Read(p []byte) (int, error)  { n, err := c.s.Read(p); return n, closed(err) }
func (c channel) Write(p []byte) (int, error) { n, err := c.s.Write(p); return n, closed(err) }

// closed translates what ended a connection into an error of the sync protocol.
func closed(err error) error {
	if app, ok := errors.AsType[*quic.ApplicationError](err); ok && app.Remote {
		return &wire.CloseError{Code: wire.Code(app.ErrorCode), Text: app.ErrorMessage}
	}
	return err
}

// run connects all gateways, and returns how long it took until all were.
func (f *fleet) run() time.Duration {
	f.b.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	f.stop = sync.OnceFunc(func() { cancel(); close(f.ended); f.running.Wait() })
	f.b.Cleanup(f.stop)
	began := time.Now()
	for _, g := range f.all {
		f.running.Go(func() { g.sender.Run(ctx) })
	}
	f.awaitConnected()
	return time.Since(began)
}

// awaitConnected waits until all gateways are connected.
func (f *fleet) awaitConnected() {
	f.b.Helper()
	for end := time.Now().Add(stormTime); ; pause(50 * time.Millisecond) {
		missing := 0
		var last error
		for _, g := range f.all {
			if st := g.sender.State(); !st.Connected {
				missing++
				last = st.Err
			}
		}
		if missing == 0 {
			return
		}
		if time.Now().After(end) {
			f.b.Fatalf("%d of %d gateways are not connected: %v", missing, len(f.all), last)
		}
	}
}

// accept gives each gateway so many readings more.
func (f *fleet) accept(each int) {
	for _, g := range f.all {
		g.accept(each)
	}
}

// awaitSettled waits until all readings are durable in the cloud.
func (f *fleet) awaitSettled() {
	f.b.Helper()
	for end := time.Now().Add(time.Minute); f.settled.Load() < f.accepted.Load(); pause(5 * time.Millisecond) {
		if time.Now().After(end) {
			for _, g := range f.all {
				g.mu.Lock()
				trim, last := g.trim, g.last
				g.mu.Unlock()
				if trim < last {
					f.b.Logf("%s: %d of %d readings are durable: %+v", g.name, trim, last, g.sender.State())
				}
			}
			f.b.Fatalf("%d of %d readings are durable", f.settled.Load(), f.accepted.Load())
		}
	}
}

func (g *gateway) accept(n int) {
	g.mu.Lock()
	g.last += uint64(n)
	g.mu.Unlock()
	g.of.accepted.Add(int64(n))
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

func (g *gateway) List() ([]weir.Buffer, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	b := weir.Buffer{ID: g.id, Current: true}
	for lane := range b.Lanes {
		b.Lanes[lane].First = 1
	}
	b.Lanes[weir.Live] = weir.Bounds{First: g.trim + 1, Last: g.last}
	return []weir.Buffer{b}, nil
}

func (g *gateway) Read(_ weir.BufferID, lane weir.Lane, from uint64) ([]sender.Item, error) {
	g.mu.Lock()
	last := g.last
	g.mu.Unlock()
	if lane != weir.Live || from > last {
		return nil, io.EOF
	}
	items := make([]sender.Item, min(last-from+1, 128))
	for i := range items {
		seq := from + uint64(i)
		value := make([]byte, g.of.value)
		for at := 0; at+8 <= len(value); at += 8 { // it compresses to about half
			binary.BigEndian.PutUint64(value[at:], seq*0x9e3779b97f4a7c15>>(at%24))
		}
		binary.BigEndian.PutUint64(value, seq)
		items[i] = sender.Item{Seq: seq, Topic: readings, Record: record.Record{Timestamp: time.Now().UnixMilli(), Key: fmt.Appendf(nil, "%s/%d", g.name, seq%16), Value: value}}
	}
	return items, nil
}

func (g *gateway) Trim(_ weir.BufferID, lane weir.Lane, through uint64) error {
	if lane != weir.Live {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if through > g.trim {
		g.of.settled.Add(int64(through - g.trim))
		g.trim = through
	}
	return nil
}

func (g *gateway) Retire(weir.BufferID) error {
	return errors.New("the current buffer is never retired")
}
func (g *gateway) Notify() <-chan struct{} { return g.wake }

func (g *gateway) Rows(weir.BufferID) ([]weir.MapRow, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]weir.MapRow(nil), g.rows...), nil
}

func (g *gateway) AddRow(row weir.MapRow) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.rows = append(g.rows, row)
	return nil
}

func (g *gateway) AddDead(_ weir.BufferID, _ weir.Lane, items []sender.Item, reason string) error {
	return fmt.Errorf("%s: %d readings are refused: %s", g.name, len(items), reason)
}

// trickle gives each gateway a reading in that time, until stop is called.
func (f *fleet) trickle(every time.Duration) (stop func()) {
	const parts = 50 // of the gateways, one after the other
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for part := 0; ctx.Err() == nil; part++ {
			for i := part % parts; i < len(f.all); i += parts {
				f.all[i].accept(1)
			}
			wait(ctx, every/parts)
		}
	}()
	return func() { cancel(); <-ended }
}
