package receiver_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/VictoriaMetrics/metrics"
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

// stubLog keeps what it is given until the test decides.
type stubLog struct {
	mu      sync.Mutex
	taken   []uplink.Append
	done    []func(error)
	offers  int
	retired []weir.BufferID
	mark    uint64
	err     error // of Offer and Resolve
	marks   []weir.Mark
	rows    []weir.MapRow
	states  []wire.OfferedBuffer
}

func (l *stubLog) Offer(context.Context, string, []weir.Buffer) (uplink.Offered, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.offers++
	return uplink.Offered{Buffers: l.states, Marks: l.marks, Rows: l.rows}, l.err
}

func (l *stubLog) Resolve(_ context.Context, _, topic string) (weir.TopicID, int32, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return weir.TopicID{15: byte(len(topic))}, 3, l.err
}

func (l *stubLog) Append(a uplink.Append, done func(error)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.taken = append(l.taken, a)
	l.done = append(l.done, done)
}

func (l *stubLog) Mark(context.Context, weir.Stream, weir.TopicID, int32) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mark, nil
}

func (l *stubLog) Retire(_ context.Context, _ string, id weir.BufferID) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.retired = append(l.retired, id)
	return nil
}

func (l *stubLog) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.taken)
}

// answer answers the n-th append.
func (l *stubLog) answer(n int, err error) {
	l.mu.Lock()
	f := l.done[n]
	l.mu.Unlock()
	f(err)
}

// peer is a hand-driven gateway.
type peer struct {
	t       *testing.T
	recv    *receiver.Receiver
	log     *stubLog
	logged  *bytes.Buffer
	link    *wiretest.Link
	control wire.Channel
	ended   chan error
}

func newPeer(t *testing.T, o receiver.Options) *peer {
	p := &peer{t: t, log: &stubLog{}, logged: &bytes.Buffer{}}
	if o.Attach == nil {
		o.Attach, o.Resolve = uplinktest.Alone(uplink.Calls{Offer: p.log.Offer, Append: p.log.Append, Mark: p.log.Mark, Retire: p.log.Retire}).Attach, p.log.Resolve
	}
	o.Logger = slog.New(slog.NewTextHandler(p.logged, nil))
	recv, err := receiver.New(o)
	if err != nil {
		t.Fatal(err)
	}
	p.recv = recv
	p.dial()
	return p
}

func (p *peer) dial() {
	link, ended := wiretest.New(wiretest.Options{Peer: wire.Peer{Addr: "10.0.0.9:1234", Gateway: "gw-1"}}), make(chan error, 1)
	p.link, p.ended = link, ended
	go func() { ended <- p.recv.Handle(sessionOf(link.Node)) }()
	p.control = p.open(wire.Preface{Kind: wire.StreamControl})
}

func (p *peer) open(pre wire.Preface) wire.Channel {
	st, err := p.link.Gateway.OpenStream(p.t.Context(), 0)
	if err != nil {
		p.t.Fatal(err)
	}
	if err := wire.WritePreface(st, pre); err != nil {
		p.t.Fatal(err)
	}
	return st
}

func (p *peer) hello() {
	p.send(p.control, &wire.Hello{Gateway: "gw-1"})
	if f := p.read(p.control); f.Type() != wire.TypeWelcome {
		p.t.Fatalf("got %T", f)
	}
	if f := p.read(p.control); f.Type() != wire.TypeMarks {
		p.t.Fatalf("got %T", f)
	}
}

func (p *peer) send(st wire.Channel, f wire.Frame) {
	p.t.Helper()
	if err := wire.Write(st, f); err != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) read(st wire.Channel) wire.Frame {
	p.t.Helper()
	f, err := wire.Read(st, wire.MaxControl)
	if err != nil {
		p.t.Fatal(err)
	}
	return f
}

func batch(t *testing.T, values ...string) record.Batch {
	b := record.NewBuilder(record.None)
	for _, v := range values {
		if err := b.Append(&record.Record{Value: []byte(v)}); err != nil {
			t.Fatal(err)
		}
	}
	out, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func live(t *testing.T, prev, first, last uint64) *wire.Append {
	return &wire.Append{Lane: weir.Live, Row: weir.Row{Partitions: 1, From: 1}, Prev: prev, First: first, Last: last, Kind: wire.KindBatch, Batch: batch(t, "v")}
}

func bubble(t *testing.T, f func(t *testing.T)) { synctest.Test(t, f) }

// Nothing is acked before it is durable; then Acks are cumulative.
func TestAcksWhenDurable(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPeer(t, receiver.Options{})
		defer p.recv.Close()
		p.hello()
		lane := p.open(wire.Preface{Kind: wire.StreamLane, Lane: weir.Live})
		for i := range uint64(3) {
			p.send(lane, live(t, i, i+1, i+1))
		}
		synctest.Wait()
		if p.log.count() != 3 {
			t.Fatalf("%d appends", p.log.count())
		}
		got := make(chan wire.Frame, 8)
		go func() {
			for {
				f, err := wire.Read(lane, wire.MaxControl)
				if err != nil {
					return
				}
				got <- f
			}
		}()
		synctest.Wait()
		if len(got) != 0 {
			t.Fatalf("acked before durable: %+v", <-got)
		}
		for i := range 3 {
			p.log.answer(i, nil)
		}
		synctest.Wait()
		var last wire.Frame
		for len(got) > 0 {
			last = <-got
		}
		if a, ok := last.(*wire.Ack); !ok || a.Last != 3 || a.Lane != weir.Live {
			t.Fatalf("got %+v", last)
		}
	})
}

func TestRefusals(t *testing.T) {
	for want, err := range map[wire.Reason]error{
		wire.ReasonHole: uplink.ErrHole, wire.ReasonMoved: uplink.ErrMoved, wire.ReasonBusy: errors.New("whatever"),
		wire.ReasonGone: uplink.ErrGone, wire.ReasonTooLarge: uplink.ErrTooLarge,
		wire.ReasonNotAllowed: uplink.ErrNotAllowed, wire.ReasonCorrupt: uplink.ErrCorrupt,
	} {
		bubble(t, func(t *testing.T) {
			p := newPeer(t, receiver.Options{})
			defer p.recv.Close()
			p.hello()
			p.log.mark = 41
			lane := p.open(wire.Preface{Kind: wire.StreamLane, Lane: weir.Live})
			a := live(t, 4, 5, 9)
			a.Round = 7
			p.send(lane, a)
			synctest.Wait()
			p.log.answer(0, err)
			f, ok := p.read(lane).(*wire.Refused)
			if !ok || f.Reason != want || f.Mark != 41 || f.Round != 7 || f.First != 5 || f.Last != 9 {
				t.Errorf("%v: got %+v", err, f)
			}
			if said := strings.Contains(p.logged.String(), "level=WARN"); said != (want != wire.ReasonHole && want != wire.ReasonMoved) {
				t.Errorf("%v: logged %s", err, p.logged)
			}
			if c := p.recv.Counts()[0]; c.Requests != 1 || c.Errors != 1 {
				t.Errorf("%v: counted %+v", err, c)
			}
		})
	}
}

// What a gateway must not send is refused before the log sees it.
func TestBatchesThatAreRefusedHere(t *testing.T) {
	producer := record.NewBuilder(record.None)
	producer.SetProducer(7, 0, 0)
	if err := producer.Append(&record.Record{Value: []byte("v")}); err != nil {
		t.Fatal(err)
	}
	idempotent, err := producer.Build()
	if err != nil {
		t.Fatal(err)
	}
	for name, x := range map[string]struct {
		batch []byte
		want  wire.Reason
	}{
		"junk":         {[]byte("junk"), wire.ReasonCorrupt},
		"two batches":  {append(batch(t, "a"), batch(t, "b")...), wire.ReasonCorrupt},
		"producer":     {idempotent, wire.ReasonCorrupt},
		"too many":     {batch(t, "a", "b", "c"), wire.ReasonCorrupt},
		"over the cap": {batch(t, strings.Repeat("x", 2000)), wire.ReasonTooLarge},
	} {
		bubble(t, func(t *testing.T) {
			p := newPeer(t, receiver.Options{MaxBatch: 1000})
			defer p.recv.Close()
			p.hello()
			lane := p.open(wire.Preface{Kind: wire.StreamLane, Lane: weir.Live})
			a := live(t, 0, 1, 2)
			a.Batch = x.batch
			p.send(lane, a)
			if f, ok := p.read(lane).(*wire.Refused); !ok || f.Reason != x.want {
				t.Errorf("%s: got %+v", name, f)
			}
			if p.log.count() != 0 {
				t.Errorf("%s: the log saw it", name)
			}
		})
	}
}

// A gap becomes one record of weir.gaps; a Gap for another topic does not.
func TestGapBecomesARecord(t *testing.T) {
	bubble(t, func(t *testing.T) {
		set := metrics.NewSet()
		p := newPeer(t, receiver.Options{Metrics: set})
		defer p.recv.Close()
		p.hello()
		lane := p.open(wire.Preface{Kind: wire.StreamLane, Lane: weir.Bulk})
		id := weir.TopicID{15: byte(len(weir.GapTopic))}
		p.send(lane, &wire.Gap{Lane: weir.Bulk, Topic: id, Row: weir.Row{Partitions: 1, From: 1}, Prev: 1, Ranges: []wire.Range{{First: 3, Last: 4}, {First: 9, Last: 9}}, Count: 3, Exact: true, Of: "sensors", Cause: "gone: x"})
		p.send(lane, &wire.Gap{Lane: weir.Bulk, Topic: weir.TopicID{1}, Row: weir.Row{Partitions: 1, From: 1}, Ranges: []wire.Range{{First: 1, Last: 1}}})
		if f, ok := p.read(lane).(*wire.Refused); !ok || f.Reason != wire.ReasonGone {
			t.Fatalf("got %+v", f)
		}
		a := p.log.taken[0]
		if !a.Gap || a.Prev != 1 || a.First != 3 || a.Last != 9 {
			t.Fatalf("got %+v", a)
		}
		err := a.Batch.Each(1<<20, func(r *record.Record) error {
			want := `"lane":"bulk","first":3,"last":9,"ranges":[[3,4],[9,9]],"count":3,"exact":true,"topic":"sensors","cause":"gone: x"}`
			if string(r.Key) != "gw-1" || !strings.HasSuffix(string(r.Value), want) {
				t.Errorf("record %s = %s", r.Key, r.Value)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		p.log.answer(0, nil)
		if f, ok := p.read(lane).(*wire.Ack); !ok || f.Last != 9 {
			t.Fatalf("got %+v", f)
		}
		if n := set.GetOrCreateCounter("weir_gap_records_total").Get(); n != 3 {
			t.Errorf("%d gap records counted", n)
		}
	})
}

// Malformed input closes that connection with the protocol's code and a log
// line that names the peer.
func TestMalformedInput(t *testing.T) {
	big := []byte{byte(wire.TypeAppend), 0x7f, 0xff, 0xff, 0xff}
	for name, do := range map[string]func(p *peer){
		"junk on control":       func(p *peer) { p.control.Write([]byte("GET / HTTP/1.1\r\n\r\n")) },
		"not a Hello":           func(p *peer) { p.send(p.control, &wire.Ping{}) },
		"lane frame on control": func(p *peer) { p.hello(); p.send(p.control, &wire.Ack{}) },
		"control frame on lane": func(p *peer) {
			p.hello()
			p.send(p.open(wire.Preface{Kind: wire.StreamLane}), &wire.Ping{})
		},
		"another lane's append": func(p *peer) {
			p.hello()
			p.send(p.open(wire.Preface{Kind: wire.StreamLane, Lane: weir.Bulk}), live(p.t, 0, 1, 1))
		},
		"second control":   func(p *peer) { p.hello(); p.open(wire.Preface{Kind: wire.StreamControl}) },
		"second lane":      func(p *peer) { p.hello(); p.open(wire.Preface{Kind: 2}); p.open(wire.Preface{Kind: 2}) },
		"oversized append": func(p *peer) { p.hello(); p.open(wire.Preface{Kind: 2}).Write(big) },
	} {
		bubble(t, func(t *testing.T) {
			set := metrics.NewSet()
			p := newPeer(t, receiver.Options{Metrics: set})
			defer p.recv.Close()
			do(p)
			err := <-p.ended
			if !errors.Is(err, wire.ErrMalformed) && !errors.Is(err, wire.ErrTooLarge) {
				t.Errorf("%s: ended with %v", name, err)
			}
			_, err = io.Copy(io.Discard, p.control)
			if c, ok := errors.AsType[*wire.CloseError](err); !ok || c.Code != wire.CodeProtocol {
				t.Errorf("%s: the peer saw %v", name, err)
			}
			if out := p.logged.String(); !strings.Contains(out, "10.0.0.9:1234") || !strings.Contains(out, "broke the protocol") {
				t.Errorf("%s: logged %s", name, out)
			}
			if set.GetOrCreateCounter("weir_sync_protocol_errors_total").Get() != 1 || p.recv.Counts()[0].Errors != 1 {
				t.Errorf("%s: not counted", name)
			}
		})
	}
}

// How a session ends is told in a last frame and in the transport's code.
func TestGoodbyes(t *testing.T) {
	for name, x := range map[string]struct {
		o    receiver.Options
		do   func(p *peer)
		code wire.Code
	}{
		"identity": {do: func(p *peer) { p.send(p.control, &wire.Hello{Gateway: "gw-2"}) }, code: wire.CodeIdentity},
		"revoked": {
			o:  receiver.Options{Admit: func(string, *x509.Certificate) error { return join.ErrRevoked }},
			do: func(p *peer) { p.send(p.control, &wire.Hello{Gateway: "gw-1"}) }, code: wire.CodeRevoked,
		},
		"log down": {
			do: func(p *peer) {
				p.log.err = errors.New("no store")
				p.send(p.control, &wire.Hello{Gateway: "gw-1"})
			}, code: wire.CodeBusy,
		},
		"shutdown": {do: func(p *peer) { p.hello(); go p.recv.Close() }, code: wire.CodeShutdown},
		"silent":   {do: func(*peer) {}, code: wire.CodeTimeout},
		"retired": {do: func(p *peer) {
			p.hello()
			p.send(p.open(wire.Preface{Kind: wire.StreamLane, Lane: weir.Live}), live(p.t, 0, 1, 1))
			synctest.Wait()
			p.log.answer(0, uplink.ErrRetired)
		}, code: wire.CodeShutdown},
	} {
		bubble(t, func(t *testing.T) {
			p := newPeer(t, x.o)
			defer p.recv.Close()
			x.do(p)
			f, err := wire.Read(p.control, wire.MaxControl)
			if g, ok := f.(*wire.Goodbye); !ok || g.Code != x.code {
				t.Errorf("%s: got %+v, %v", name, f, err)
			}
			_, err = io.Copy(io.Discard, p.control)
			if c, ok := errors.AsType[*wire.CloseError](err); !ok || c.Code != x.code {
				t.Errorf("%s: closed with %v", name, err)
			}
		})
	}
}

// When the log has another owner, every session is sent there.
func TestOwnerMoves(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPeer(t, receiver.Options{})
		defer p.recv.Close()
		p.hello()
		lane := p.open(wire.Preface{Kind: wire.StreamLane, Lane: weir.Live})
		p.send(lane, live(t, 0, 1, 1))
		synctest.Wait()
		p.log.answer(0, &uplink.NotOwnerError{Addr: "node-2:7400"})
		if f, ok := p.read(p.control).(*wire.Redirect); !ok || f.Addr != "node-2:7400" {
			t.Fatalf("got %+v", f)
		}
		p.link.Gateway.Close(wire.CodeNone, "")
		<-p.ended
	})
}

// Drop ends one gateway's session, and nobody else's.
func TestDrop(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPeer(t, receiver.Options{})
		defer p.recv.Close()
		p.hello()
		synctest.Wait()
		p.recv.Drop("somebody else")
		synctest.Wait()
		if len(p.recv.Gateways()) != 1 {
			t.Fatal("the session of another gateway ended")
		}
		p.recv.Drop(p.recv.Gateways()[0].ID)
		if f, ok := p.read(p.control).(*wire.Goodbye); !ok || f.Code != wire.CodeBusy {
			t.Fatalf("got %+v", f)
		}
		p.link.Gateway.Close(wire.CodeNone, "")
		<-p.ended
	})
}

// A newer session waits until the log has answered what the older one handed
// over: only then are the marks the last word.
func TestNewSessionWaitsForTheOldOnesAppends(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPeer(t, receiver.Options{})
		defer p.recv.Close()
		p.hello()
		lane := p.open(wire.Preface{Kind: wire.StreamLane, Lane: weir.Live})
		p.send(lane, live(t, 0, 1, 1))
		synctest.Wait()
		old := p.ended
		p.dial()
		p.send(p.control, &wire.Hello{Gateway: "gw-1"})
		synctest.Wait()
		<-old
		if p.log.offers != 1 {
			t.Fatalf("%d offers while an append is flying", p.log.offers)
		}
		p.log.answer(0, nil)
		synctest.Wait()
		if p.log.offers != 2 {
			t.Fatalf("%d offers after it has landed", p.log.offers)
		}
		if f := p.read(p.control); f.Type() != wire.TypeWelcome {
			t.Fatalf("got %T", f)
		}
	})
}

// A gateway that sends without end is held back by its own stream.
func TestBackpressure(t *testing.T) {
	bubble(t, func(t *testing.T) {
		memory, err := budget.NewPool(budget.PoolOptions{Bytes: 64 << 10, Peer: 64 << 10})
		if err != nil {
			t.Fatal(err)
		}
		p := newPeer(t, receiver.Options{Memory: memory})
		defer p.recv.Close()
		p.hello()
		lane := p.open(wire.Preface{Kind: wire.StreamLane, Lane: weir.Live})
		go func() {
			for i := uint64(0); wire.Write(lane, live(t, i, i+1, i+1)) == nil; i++ {
			}
		}()
		synctest.Wait()
		if n := p.log.count(); n != 64 {
			t.Fatalf("%d appends are with the log", n)
		}
		for i := range 10 {
			p.log.answer(i, nil)
		}
		synctest.Wait()
		if n := p.log.count(); n != 74 {
			t.Fatalf("%d appends after ten were answered", n)
		}
	})
}

func TestControlFrames(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPeer(t, receiver.Options{})
		defer p.recv.Close()
		p.hello()
		p.send(p.control, &wire.Ping{Records: 5})
		if f := p.read(p.control); f.Type() != wire.TypePong {
			t.Errorf("got %T", f)
		}
		if g := p.recv.Gateways(); len(g) != 1 || g[0].Depth.Records != 5 || g[0].Addr != "10.0.0.9:1234" {
			t.Errorf("gateways %+v", g)
		}
		p.send(p.control, &wire.Resolve{Name: "sensors"})
		if f, ok := p.read(p.control).(*wire.Topic); !ok || f.Partitions != 3 || f.Reason != wire.ReasonNone {
			t.Errorf("got %+v", f)
		}
		for _, name := range []string{"weir.secrets", "__consumer_offsets"} {
			p.send(p.control, &wire.Resolve{Name: name})
			if f, ok := p.read(p.control).(*wire.Topic); !ok || f.Reason != wire.ReasonNotAllowed {
				t.Errorf("%s: got %+v", name, f)
			}
		}
		p.send(p.control, &wire.Retire{Buffer: weir.BufferID{7}})
		if f, ok := p.read(p.control).(*wire.Retired); !ok || f.Buffer != (weir.BufferID{7}) || len(p.log.retired) != 1 {
			t.Errorf("got %+v", f)
		}
		p.log.states = make([]wire.OfferedBuffer, wire.MaxMarks+1)
		p.log.marks = make([]weir.Mark, 2*wire.MaxMarks+1)
		p.send(p.control, &wire.Offer{})
		var states, marks int
		for {
			f := p.read(p.control).(*wire.Marks)
			states, marks = states+len(f.Buffers), marks+len(f.Marks)
			if f.Final {
				break
			}
		}
		if states != wire.MaxMarks+1 || marks != 2*wire.MaxMarks+1 {
			t.Errorf("%d states, %d marks", states, marks)
		}
	})
}

func TestMaxGateways(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPeer(t, receiver.Options{MaxGateways: 1})
		defer p.recv.Close()
		p.hello()
		second := wiretest.New(wiretest.Options{Peer: wire.Peer{Gateway: "gw-2"}})
		if err := p.recv.Handle(sessionOf(second.Node)); !errors.Is(err, uplink.ErrBusy) {
			t.Errorf("second gateway: %v", err)
		}
		<-second.Gateway.Done()
		if got, want := p.recv.Counts()[0].GateCounts, (budget.GateCounts{Open: 1, Accepted: 1, Refused: 1}); got != want {
			t.Errorf("counted %+v, want %+v", got, want)
		}
	})
}

func TestJoinLimits(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPeer(t, receiver.Options{})
		defer p.recv.Close()
		for name, do := range map[string]func(st wire.Channel){
			"wrong frame": func(st wire.Channel) { wire.Write(st, &wire.Ping{}) },
			"too large":   func(st wire.Channel) { wire.Write(st, &wire.JoinRequest{CSR: make([]byte, wire.MaxJoin)}) },
			"silent":      func(wire.Channel) {},
		} {
			link := wiretest.New(wiretest.Options{Peer: wire.Peer{Addr: "10.0.0.7:1"}})
			ended := make(chan error, 1)
			go func() { ended <- p.recv.HandleJoin(sessionOf(link.Node)) }()
			st, err := link.Gateway.OpenStream(t.Context(), 0)
			if err != nil {
				t.Fatal(err)
			}
			do(st)
			if err := <-ended; err == nil {
				t.Errorf("%s: joined", name)
			}
			<-link.Gateway.Done()
			if !strings.Contains(p.logged.String(), "10.0.0.7:1") {
				t.Errorf("%s: logged %s", name, p.logged)
			}
		}
		if c := p.recv.Counts()[1]; c.Listener != "join" || c.Accepted != 3 || c.Open != 0 || c.Requests != 3 || c.Errors != 3 {
			t.Errorf("counted %+v", c)
		}
	})
}
