package edge

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"log/slog"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/join"
	"github.com/weirmq/weir/sync/receiver"
	shards "github.com/weirmq/weir/sync/uplink"
	"github.com/weirmq/weir/sync/uplink/uplinktest"
	"github.com/weirmq/weir/sync/wire"
)

// node is a cloud that takes everything, over real QUIC on loopback.
type node struct {
	t     *testing.T
	ca    *join.CA
	token join.Token
	addr  string

	mu     sync.Mutex
	keys   map[string][]byte // public keys by gateway: what has joined
	barred bool              // the gateway is revoked
	joins  int
	taken  int // records
}

func newNode(t *testing.T) *node {
	ca, err := join.NewCA(time.Now().Add(-48 * time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	n := &node{t: t, ca: ca, token: join.NewToken(ca), keys: make(map[string][]byte)}
	certificate, err := ca.SignServer(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n.addr = conn.LocalAddr().String()
	r, err := receiver.New(receiver.Options{Conn: conn, TLS: join.ServerTLS(ca.Certificate(), certificate, nil, nil),
		Attach: uplinktest.Alone(shards.Calls{Offer: n.Offer, Append: n.Append, Mark: n.Mark, Retire: n.Retire}).Attach, Resolve: n.Resolve, Cluster: func() string { return "c" }, Node: "n", Join: n.join, Admit: n.admit})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- r.Serve() }()
	t.Cleanup(func() {
		r.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return n
}

func (n *node) join(_ context.Context, r receiver.JoinRequest) (receiver.JoinResult, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.joins++
	if r.Secret != n.token.Secret {
		return receiver.JoinResult{}, join.ErrTokenUnknown
	}
	if n.barred {
		return receiver.JoinResult{}, join.ErrRevoked
	}
	der, err := n.ca.SignGateway(r.CSR, r.Gateway, time.Now(), 0)
	if err != nil {
		return receiver.JoinResult{}, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return receiver.JoinResult{}, err
	}
	if key := n.keys[r.Gateway]; key != nil && !bytes.Equal(key, cert.RawSubjectPublicKeyInfo) {
		return receiver.JoinResult{}, join.ErrGatewayTaken
	}
	n.keys[r.Gateway] = cert.RawSubjectPublicKeyInfo
	return receiver.JoinResult{Certificate: der, CA: n.ca.Certificate().Raw}, nil
}

func (n *node) admit(gateway string, cert *x509.Certificate) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.barred || !bytes.Equal(n.keys[gateway], cert.RawSubjectPublicKeyInfo) {
		return join.ErrRevoked
	}
	return nil
}

// change changes the state of the cloud.
func (n *node) change(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f()
}

// count is how often a gateway asked to join.
func (n *node) count() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.joins
}

func (n *node) Offer(_ context.Context, _ string, all []weir.Buffer) (shards.Offered, error) {
	var o shards.Offered
	for _, b := range all {
		o.Buffers = append(o.Buffers, wire.OfferedBuffer{ID: b.ID, State: weir.BufferNew})
	}
	return o, nil
}

func (n *node) Resolve(context.Context, string, string) (weir.TopicID, int32, error) {
	return weir.TopicID{1}, 1, nil
}

func (n *node) Append(a shards.Append, done func(error)) {
	n.change(func() { n.taken += int(a.Batch.Count()) })
	done(nil)
}

func (n *node) Mark(context.Context, weir.Stream, weir.TopicID, int32) (uint64, error) {
	return 0, nil
}

func (n *node) Retire(context.Context, string, weir.BufferID) error { return nil }

// gatewayUnder is a gateway that runs until the test ends.
type gatewayUnder struct {
	*Edge
	t    *testing.T
	dir  string
	logs *logBuffer
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) count(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), what)
}

// start opens and runs a gateway with a record in its log, and returns it with
// a function that stops it.
func start(t *testing.T, dir string, o Options) (*gatewayUnder, func()) {
	t.Helper()
	logs := &logBuffer{}
	o.Data, o.Gateway, o.MQTT, o.HTTP, o.Reserve = dir, "gw", "127.0.0.1:0", "127.0.0.1:0", -1
	o.Log = slog.New(slog.NewTextHandler(logs, nil))
	e, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	appendLive(t, e.log, "v")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	var once sync.Once
	stop := func() {
		once.Do(func() {
			select {
			case err := <-ended:
				t.Errorf("the gateway ended by itself: %v\n%s", err, logs.b.String())
			default:
				cancel()
				if err := <-ended; err != nil {
					t.Errorf("stopped with %v", err)
				}
			}
		})
	}
	t.Cleanup(stop)
	return &gatewayUnder{e, t, dir, logs}, stop
}

// await waits until /readyz shows a state, for a reason.
func (g *gatewayUnder) await(state, reason string) Health {
	g.t.Helper()
	var h Health
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(30 * time.Second); ; {
		w := httptest.NewRecorder()
		g.readyz(w, httptest.NewRequest("GET", "/readyz", nil))
		h = Health{}
		if err := json.Unmarshal(w.Body.Bytes(), &h); err != nil || w.Code != 200 || !h.Accepting {
			g.t.Fatalf("readyz %d %v: %s", w.Code, err, w.Body)
		}
		if h.Sync == state && h.SyncReason == reason {
			return h
		}
		select {
		case <-tick.C:
		case <-late:
			g.t.Fatalf("state %q (%q), want %q (%q): %+v\n%s", h.Sync, h.SyncReason, state, reason, h, g.logs.b.String())
		}
	}
}

func (g *gatewayUnder) metric(line string) {
	g.t.Helper()
	w := httptest.NewRecorder()
	g.writeMetrics(w, httptest.NewRequest("GET", "/metrics", nil))
	if !strings.Contains(w.Body.String(), line+"\n") {
		g.t.Errorf("no %s in the metrics", line)
	}
}

func put(t *testing.T, path, body string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestUnjoinedGoesOn: a gateway without a usable token takes messages, says what
// it lacks, once, and joins when a token is put into its file.
func TestUnjoinedGoesOn(t *testing.T) {
	t.Parallel()
	n, foreign, began := newNode(t), newNode(t), time.Now()
	wrong := n.token
	wrong.Secret[0]++
	file := filepath.Join(t.TempDir(), "token")
	g, _ := start(t, t.TempDir(), Options{Cloud: []string{n.addr}, JoinFile: file})
	h := g.await(SyncUnjoined, "no-token")
	if !strings.Contains(h.ToDo, "--join-file") || !strings.Contains(h.LinkError, file) {
		t.Errorf("%+v", h)
	}
	put(t, file, "weir1.nonsense")
	g.await(SyncUnjoined, "token")
	g.metric(`weir_edge_sync_state{state="unjoined"} 1`)
	g.metric(`weir_edge_sync_refused{reason="token"} 1`)
	put(t, file, wrong.Reveal())
	for h := g.await(SyncUnjoined, "token"); !strings.Contains(h.LinkError, "not known"); h = g.await(SyncUnjoined, "token") {
		time.Sleep(time.Millisecond)
	}
	put(t, file, foreign.token.Reveal())
	g.await(SyncRefused, "foreign")
	put(t, file, n.token.Reveal())
	g.await(SyncConnected, "")
	g.metric(`weir_edge_sync_state{state="unjoined"} 0`)
	g.metric(`weir_edge_sync_refused{reason="token"} 0`)
	if got := g.logs.count("does not send to the cloud yet"); got != 4 {
		t.Errorf("%d lines for four episodes:\n%s", got, g.logs.b.String())
	}
	if joins, again := n.count(), int(time.Since(began)/(firstTokenTry/2)); joins < 2 || joins > 2+again {
		t.Errorf("%d attempts with two tokens in %v", joins, time.Since(began))
	}
}

// TestLostIdentity: without its identity, or with a damaged one, a gateway that
// has messages continues and joins again.
func TestLostIdentity(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	dir := t.TempDir()
	path := identityFile(dir)
	token := n.token.Reveal()
	g, stop := start(t, dir, Options{Cloud: []string{n.addr}, Join: token})
	g.await(SyncConnected, "")
	stop()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name          string
		body          []byte // nil: the file is gone
		join          string
		state, reason string
	}{
		{"gone, no token", nil, "", SyncUnjoined, "no-token"},
		{"damaged, no token", []byte("junk"), "", SyncUnjoined, "identity-damaged"},
		{"emptied, no token", []byte{}, "", SyncUnjoined, "identity-damaged"},
		{"the key is whole", whole[:len(whole)-100], token, SyncConnected, ""},
		{"the key is damaged", whole[100:], token, SyncRefused, "taken"},
		{"gone", nil, token, SyncRefused, "taken"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.body == nil {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			} else {
				put(t, path, string(c.body))
			}
			g, stop := start(t, dir, Options{Cloud: []string{n.addr}, Join: c.join})
			h := g.await(c.state, c.reason)
			if c.state != SyncConnected && !strings.Contains(h.ToDo, "weirctl gateways reset gw") {
				t.Errorf("it does not say what to do: %+v", h)
			}
			stop()
			put(t, path, string(whole))
		})
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	g, stop = start(t, dir, Options{Cloud: []string{n.addr}, Join: token})
	g.await(SyncRefused, "taken")
	g.metric(`weir_edge_sync_refused{reason="taken"} 1`)
	n.change(func() { n.keys = map[string][]byte{} }) // weirctl gateways reset
	g.await(SyncConnected, "")
	stop()

	// After the file was put back, the gateway need not be restarted.
	if err := os.Rename(path, path+".saved"); err != nil {
		t.Fatal(err)
	}
	g, _ = start(t, dir, Options{Cloud: []string{n.addr}})
	g.await(SyncUnjoined, "no-token")
	if err := os.Rename(path+".saved", path); err != nil {
		t.Fatal(err)
	}
	g.await(SyncConnected, "")
}

// TestRevokedGoesOn: a revoked gateway keeps what it accepts, and sends it after it was reset
// and given a token.
func TestRevokedGoesOn(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	file := filepath.Join(t.TempDir(), "token")
	put(t, file, n.token.Reveal())
	dir := t.TempDir()
	g, stop := start(t, dir, Options{Cloud: []string{n.addr}, JoinFile: file})
	g.await(SyncConnected, "")
	stop()
	n.change(func() { n.barred = true })
	g, _ = start(t, dir, Options{Cloud: []string{n.addr}, JoinFile: file})
	g.await(SyncRefused, "revoked")
	g.metric(`weir_edge_sync_refused{reason="revoked"} 1`)
	if got := g.logs.count("refuses this gateway"); got != 1 {
		t.Errorf("%d lines", got)
	}
	appendLive(t, g.log, "while revoked")
	n.change(func() { n.barred, n.taken = false, 0 })
	g.await(SyncConnected, "")
	for late := time.Now().Add(20 * time.Second); g.log.Stats().Records > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(late) {
			t.Fatalf("%d records are left", g.log.Stats().Records)
		}
	}
}

// TestWrongGateway: an id that is not the one that joined is a mistake in the
// settings.
func TestWrongGateway(t *testing.T) {
	n := newNode(t)
	dir := t.TempDir()
	g, stop := start(t, dir, Options{Cloud: []string{n.addr}, Join: n.token.Reveal()})
	g.await(SyncConnected, "")
	stop()
	if id := KnownGateway(dir); id != "gw" {
		t.Errorf("known as %q", id)
	}
	_, err := Open(Options{Data: dir, Gateway: "another", Log: slog.New(slog.DiscardHandler)})
	if err == nil || !strings.Contains(err.Error(), "--gateway-id gw") {
		t.Errorf("opened: %v", err)
	}
}

// TestFullDiskJoins: a gateway joins even if the disk does not take the identity at first.
func TestFullDiskJoins(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	dir := t.TempDir()
	blocked := identityFile(dir) + ".new"
	if err := os.MkdirAll(filepath.Join(blocked, "x"), 0o700); err != nil { // where it is written first
		t.Fatal(err)
	}
	g, _ := start(t, dir, Options{Cloud: []string{n.addr}, Join: n.token.Reveal()})
	g.await(SyncJoining, "disk")
	if err := os.RemoveAll(blocked); err != nil {
		t.Fatal(err)
	}
	g.await(SyncConnected, "")
	if joins := n.count(); joins != 1 {
		t.Errorf("joined %d times", joins)
	}
}
