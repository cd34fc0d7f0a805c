package hostile

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/weirmq/weir/e2e/harness"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/join"
	"github.com/weirmq/weir/sync/sender"
	"github.com/weirmq/weir/sync/wire"
)

// syncMemory is how many bytes of memory a node may ever take.
const syncMemory = 400_000_000

var syncAttacks = map[string]func(*tally, []string){
	"sync-announce": announceFrames, "sync-halves": leaveFrames,
	"sync-silent": stayStrangers, "sync-tokens": guessTokensOfGateways,
}

// dialNode connects to a node from another loopback address than the victims'.
func dialNode(t *quic.Transport, addr string, conf *tls.Config) (*quic.Conn, error) {
	to, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return t.Dial(ctx, to, conf, &quic.Config{KeepAlivePeriod: 4 * time.Second, MaxIdleTimeout: time.Minute, InitialPacketSize: 1200})
}

func strangersSocket() *quic.Transport {
	socket, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 2)})
	if err != nil {
		panic(err)
	}
	return &quic.Transport{Conn: socket}
}

// insiders join as many gateways with one token and run each one again and again.
func insiders(args []string, t *tally, run func(*quic.Conn, string) error) {
	addr, n := args[0], 0
	token, err := join.ParseToken(args[1])
	if err == nil {
		n, err = strconv.Atoi(args[2])
	}
	if err != nil {
		panic(err)
	}
	sockets := strangersSocket()
	for i := range n {
		id := joinAs(addr, token, fmt.Sprintf("insider-%d", i))
		t.add("joined", 1)
		go func() {
			for {
				if c, err := dialNode(sockets, addr, id.TLS(nil)); err == nil {
					if err := run(c, id.Gateway()); err != nil {
						t.add("ended", 1)
					}
					c.CloseWithError(0, "")
				}
				time.Sleep(100 * time.Millisecond)
			}
		}()
	}
}

func joinAs(addr string, token join.Token, gateway string) *join.Identity {
	key, err := join.NewKey()
	if err != nil {
		panic(err)
	}
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		id, err := sender.Join(ctx, addr, token, gateway, key, nil)
		cancel()
		if err == nil {
			return id
		}
	}
}

// sayHello is how a session begins: it returns a lane's stream.
func sayHello(c *quic.Conn, gateway string) (*quic.Stream, error) {
	control, err := c.OpenStream()
	if err != nil {
		return nil, err
	}
	if err := wire.WritePreface(control, wire.Preface{Kind: wire.StreamControl}); err != nil {
		return nil, err
	}
	if err := wire.Write(control, &wire.Hello{Gateway: gateway}); err != nil {
		return nil, err
	}
	for {
		f, err := wire.Read(control, wire.MaxControl)
		if err != nil {
			return nil, err
		}
		if m, ok := f.(*wire.Marks); ok && m.Final {
			break
		}
	}
	lane, err := c.OpenStream()
	if err != nil {
		return nil, err
	}
	return lane, wire.WritePreface(lane, wire.Preface{Kind: wire.StreamLane, Lane: weir.Bulk})
}

// announceFrames say that the largest frame comes, and send none of it.
func announceFrames(t *tally, args []string) {
	insiders(args, t, func(c *quic.Conn, gateway string) error {
		lane, err := sayHello(c, gateway)
		if err != nil {
			return err
		}
		if _, err := lane.Write([]byte{byte(wire.TypeAppend), 0, 0x80, 0, 0}); err != nil {
			return err
		}
		t.add("announced", 1)
		_, err = lane.Read(make([]byte, 1))
		return err
	})
}

// leaveFrames send frames that every topic takes, but for the last byte.
func leaveFrames(t *tally, args []string) {
	const size = 900_000
	frame := append([]byte{byte(wire.TypeAppend), 0, byte(size >> 16), byte(size >> 8 & 0xff), byte(size & 0xff)}, make([]byte, size-1)...)
	insiders(args, t, func(c *quic.Conn, gateway string) error {
		lane, err := sayHello(c, gateway)
		if err != nil {
			return err
		}
		t.add("begun", 1)
		if _, err := lane.Write(frame); err != nil {
			return err
		}
		t.add("left", 1)
		_, err = lane.Read(make([]byte, 1))
		return err
	})
}

// stayStrangers hold connections of those who join, and say nothing. One that is
// closed dials again half a second later.
func stayStrangers(t *tally, args []string) {
	sockets := strangersSocket()
	token, err := join.ParseToken(args[1])
	if err != nil {
		panic(err)
	}
	for range 200 {
		go func() {
			for {
				if c, err := dialNode(sockets, args[0], join.JoinTLS(token, nil)); err == nil {
					t.add("silent", 1)
					<-c.Context().Done()
				}
				time.Sleep(500 * time.Millisecond)
			}
		}()
	}
}

// guessTokensOfGateways try one secret after the other.
func guessTokensOfGateways(t *tally, args []string) {
	sockets := strangersSocket()
	token, err := join.ParseToken(args[1])
	if err != nil {
		panic(err)
	}
	key, err := join.NewKey()
	if err != nil {
		panic(err)
	}
	csr, err := join.NewCSR(key, "guesser")
	if err != nil {
		panic(err)
	}
	guess := func() error {
		c, err := dialNode(sockets, args[0], join.JoinTLS(token, nil))
		if err != nil {
			return err
		}
		defer c.CloseWithError(0, "")
		st, err := c.OpenStream()
		if err != nil {
			return err
		}
		if err := wire.Write(st, &wire.JoinRequest{Secret: [16]byte{1}, Gateway: "guesser", CSR: csr}); err != nil {
			return err
		}
		f, err := wire.Read(st, wire.MaxJoin)
		if r, ok := f.(*wire.JoinResponse); ok {
			t.add(fmt.Sprintf("verdict%d", r.Verdict), 1)
			t.add("guessed", 1)
		}
		return err
	}
	for range 16 {
		go func() {
			for {
				if guess() != nil {
					t.add("failed", 1)
				}
			}
		}()
	}
}

// syncNode is a weir-cloud that is attacked.
type syncNode struct {
	*harness.Cluster
	addr  string // of the sync port
	token join.Token
}

func startSyncNode(t *testing.T, uses int) *syncNode {
	t.Helper()
	n := &syncNode{Cluster: &harness.Cluster{Dir: t.TempDir()}}
	n.Bucket = "file:" + filepath.Join(n.Dir, "bucket")
	if err := n.StartCloud(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("log of the node:\n%s", n.Cloud.Tail(40))
		}
	})
	n.addr = n.Cloud.Addr["sync"]
	text, _, err := n.Weirctl("join-token", "--uses", strconv.Itoa(uses))
	if err == nil {
		n.token, err = join.ParseToken(text)
	}
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// lines is how many lines of the node's log have the text.
func (n *syncNode) lines(t *testing.T, text string) int {
	t.Helper()
	body, err := os.ReadFile(n.Cloud.Log)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(body), text)
}

// syncGateway is a gateway that appends a reading at a time.
type syncGateway struct {
	session sender.Session
	lane    wire.Channel
	topic   *wire.Topic
	buffer  weir.BufferID
	seq     uint64
}

func newSyncGateway(t *testing.T, n *syncNode, gateway string) *syncGateway {
	t.Helper()
	id := joinAs(n.addr, n.token, gateway)
	s, err := sender.DialTLS(id.TLS(nil))(t.Context(), n.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close(wire.CodeNone, "") })
	v := &syncGateway{session: s, buffer: weir.BufferID{3: 1, 11: 1}}
	if err := v.begin(t.Context(), gateway); err != nil {
		t.Fatal(err)
	}
	return v
}

// begin says Hello, finds its topic and opens its lane.
func (v *syncGateway) begin(ctx context.Context, gateway string) error {
	control, err := v.session.OpenStream(ctx, 0)
	if err != nil {
		return err
	}
	b := weir.Buffer{ID: v.buffer, Current: true}
	for i := range b.Lanes {
		b.Lanes[i] = weir.Bounds{First: 1}
	}
	err = errors.Join(wire.WritePreface(control, wire.Preface{Kind: wire.StreamControl}),
		wire.Write(control, &wire.Hello{Gateway: gateway, Buffers: []weir.Buffer{b}}),
		wire.Write(control, &wire.Resolve{Name: "readings"}))
	for err == nil && v.topic == nil {
		var f wire.Frame
		f, err = wire.Read(control, wire.MaxControl)
		v.topic, _ = f.(*wire.Topic)
	}
	if err == nil && v.topic.Reason != wire.ReasonNone {
		err = errors.New(v.topic.Text)
	}
	if err != nil {
		return err
	}
	go func() { // what the node says later ends with the session
		for {
			if _, err := wire.Read(control, wire.MaxControl); err != nil {
				return
			}
		}
	}()
	go func() {
		for range time.Tick(5 * time.Second) {
			if wire.Write(control, &wire.Ping{}) != nil {
				return
			}
		}
	}()
	if v.lane, err = v.session.OpenStream(ctx, 1); err != nil {
		return err
	}
	return wire.WritePreface(v.lane, wire.Preface{Kind: wire.StreamLane, Lane: weir.Live})
}

// patience is how long an Append may take: no bound of ours, but a test that
// hangs says nothing.
const patience = 2 * time.Minute

// append hands over records of so many bytes and waits for the Ack.
func (v *syncGateway) append(size int) error {
	b := record.NewBuilder(record.None)
	if err := b.Append(&record.Record{Timestamp: time.Now().UnixMilli(), Value: bytes.Repeat([]byte{'x'}, size)}); err != nil {
		return err
	}
	batch, err := b.Build()
	if err != nil {
		return err
	}
	late := time.AfterFunc(patience, func() { v.session.Close(wire.CodeTimeout, "") })
	defer late.Stop()
	v.seq++
	err = wire.Write(v.lane, &wire.Append{Buffer: v.buffer, Lane: weir.Live, Topic: v.topic.ID, Row: weir.Row{Partitions: v.topic.Partitions, From: 1},
		Prev: v.seq - 1, First: v.seq, Last: v.seq, Kind: wire.KindBatch, Batch: batch})
	if err != nil {
		return err
	}
	f, err := wire.Read(v.lane, wire.MaxControl)
	if err != nil {
		return err
	}
	if ack, ok := f.(*wire.Ack); !ok || ack.Last != v.seq {
		return fmt.Errorf("got %+v", f)
	}
	return nil
}

// TestAnnouncedFrames: gateways that announce the largest frame and send none of
// it take nothing from the others.
func TestAnnouncedFrames(t *testing.T) {
	insidersAttack(t, "sync-announce", "announced", 33)
}

// TestHalfFrames: gateways that send all of a frame but its end hold memory, and
// still leave the others what they need.
func TestHalfFrames(t *testing.T) {
	insidersAttack(t, "sync-halves", "begun", 305)
}

func insidersAttack(t *testing.T, name, done string, count int) {
	n := startSyncNode(t, count+1)
	v := newSyncGateway(t, n, "victim")
	calm := measure(t, func(int) error { return v.append(100) })
	a := attack(t, name, n.addr, n.token.Reveal(), strconv.Itoa(count))
	a.reached(t, done, count)
	compare(t, "an Append of 100 B", calm, measure(t, func(int) error { return v.append(100) }))
	t.Logf("the attacker: %d sessions begun, %d ended", a.count(done), a.count("ended"))
	began := time.Now()
	if err := v.append(900_000); err != nil {
		t.Errorf("a large Append: %v", err)
	}
	t.Logf("an Append of 900 kB under attack: %v", time.Since(began).Round(time.Millisecond))
	bounded(t, n.Cloud.Pid(), syncMemory)
}

// TestSilentStrangers: those who connect to join and say nothing keep nobody
// from joining.
func TestSilentStrangers(t *testing.T) {
	n := startSyncNode(t, 100)
	v := newSyncGateway(t, n, "victim")
	calm := measure(t, func(int) error { return v.append(100) })
	a := attack(t, "sync-silent", n.addr, n.token.Reveal())
	a.reached(t, "silent", 200)
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range 20 {
			key, err := join.NewKey()
			if err != nil {
				t.Error(err)
				return
			}
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			if _, err := sender.Join(ctx, n.addr, n.token, fmt.Sprintf("new-%d", i), key, nil); err != nil {
				t.Errorf("gateway %d does not join: %v", i, err)
			}
			cancel()
		}
	})
	compare(t, "an Append of 100 B", calm, measure(t, func(int) error { return v.append(100) }))
	wg.Wait()
	t.Logf("the attacker: %d connections", a.count("silent"))
	bounded(t, n.Cloud.Pid(), syncMemory)
	if lines := n.lines(t, "did not join"); lines > 200 {
		t.Errorf("%d log lines", lines)
	}
}

// TestWrongTokens: who guesses at tokens waits, and fills no log.
func TestWrongTokens(t *testing.T) {
	n := startSyncNode(t, 100)
	v := newSyncGateway(t, n, "victim")
	calm := measure(t, func(int) error { return v.append(100) })
	a := attack(t, "sync-tokens", n.addr, n.token.Reveal())
	a.reached(t, "guessed", 20)
	compare(t, "an Append of 100 B", calm, measure(t, func(int) error { return v.append(100) }))
	joinAs(n.addr, n.token, "another") // from another address
	looked, turned := a.count("verdict1"), a.count("verdict8")
	t.Logf("the attacker: %d wrong tokens were looked at, %d were not, %d connections failed", looked, turned, a.count("failed"))
	// Those that are on their way when the first is judged are looked at too.
	if looked > 40 || turned < looked {
		t.Errorf("guessing costs no pause: %d of %d were looked at", looked, looked+turned)
	}
	if lines := n.lines(t, "did not join"); lines > 60 {
		t.Errorf("%d log lines", lines)
	}
	bounded(t, n.Cloud.Pid(), syncMemory)
}
