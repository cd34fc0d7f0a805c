package sender_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/join"
	"github.com/weirmq/weir/sync/receiver"
	"github.com/weirmq/weir/sync/sender"
)

// cloud is a node over real QUIC on loopback.
type cloud struct {
	t     testing.TB
	ca    *join.CA
	log   *fakeLog
	token join.Token

	mu      sync.Mutex
	uses    int
	revoked map[string]bool
	renewed int
	valid   time.Duration                                             // of renewed certificates
	admits  func(gateway string, certificate *x509.Certificate) error // nil: by revoked

	addr   string
	conn   net.PacketConn
	recv   *receiver.Receiver
	served chan error
}

func newCloud(t testing.TB) *cloud {
	ca, err := join.NewCA(time.Now().Add(-3 * 365 * 24 * time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	c := &cloud{t: t, ca: ca, log: newFakeLog(), token: join.NewToken(ca), uses: 2, revoked: map[string]bool{}}
	c.start("127.0.0.1:0")
	t.Cleanup(func() { c.stop() })
	return c
}

func (c *cloud) start(addr string) {
	c.t.Helper()
	conn, err := net.ListenPacket("udp", addr)
	if err != nil {
		c.t.Fatal(err)
	}
	c.conn, c.addr = conn, conn.LocalAddr().String()
	node, err := c.ca.SignServer(time.Now())
	if err != nil {
		c.t.Fatal(err)
	}
	key, err := c.ca.Derive("stateless reset", 32)
	if err != nil {
		c.t.Fatal(err)
	}
	c.recv, err = receiver.New(receiver.Options{
		Conn: conn, TLS: join.ServerTLS(c.ca.Certificate(), node, nil, nil), ResetKey: (*[32]byte)(key),
		Attach: c.log.attach(), Resolve: c.log.Resolve, Cluster: func() string { return "c1" }, Node: "n1", Logger: logger(c.t),
		Join: c.join,
		Renew: func(_ context.Context, gateway string, csr []byte) ([]byte, error) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.renewed++
			return c.ca.SignGateway(csr, gateway, time.Now(), c.valid)
		},
		Admit: func(gateway string, cert *x509.Certificate) error {
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.admits != nil {
				return c.admits(gateway, cert)
			}
			if c.revoked[gateway] {
				return join.ErrRevoked
			}
			return nil
		},
	})
	if err != nil {
		c.t.Fatal(err)
	}
	c.served = make(chan error, 1)
	recv, served := c.recv, c.served
	go func() { served <- recv.Serve() }()
}

func (c *cloud) stop() {
	c.recv.Close()
	if err := <-c.served; err != nil {
		c.t.Errorf("serve: %v", err)
	}
	c.served <- nil
}

func (c *cloud) join(_ context.Context, r receiver.JoinRequest) (receiver.JoinResult, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.Secret != c.token.Secret {
		return receiver.JoinResult{}, join.ErrTokenUnknown
	}
	if c.uses == 0 {
		return receiver.JoinResult{}, join.ErrTokenSpent
	}
	c.uses--
	der, err := c.ca.SignGateway(r.CSR, r.Gateway, time.Now(), 0)
	return receiver.JoinResult{Certificate: der, CA: c.ca.Certificate().Raw}, err
}

func (c *cloud) admit(gateway string) *join.Identity {
	c.t.Helper()
	id, err := sender.Join(c.t.Context(), c.addr, c.token, gateway, newKey(c.t), nil)
	if err != nil {
		c.t.Fatal(err)
	}
	return id
}

// identity makes one without a join, as of a time.
func identity(t *testing.T, ca *join.CA, gateway string, from time.Time, valid time.Duration) *join.Identity {
	t.Helper()
	key, err := join.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := join.NewCSR(key, gateway)
	if err != nil {
		t.Fatal(err)
	}
	der, err := ca.SignGateway(csr, gateway, from, valid)
	if err != nil {
		t.Fatal(err)
	}
	id, err := join.NewIdentity(key, der, ca.Certificate().Raw)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// run starts a sender and returns it with the channel on which it ends.
func (c *cloud) run(id *join.Identity, disk *fakeBuffers) (*sender.Sender, <-chan struct{}) {
	c.t.Helper()
	s, err := sender.New(sender.Options{Buffers: disk, Addrs: []string{c.addr}, Identity: id, Software: "test", Logger: logger(c.t)})
	if err != nil {
		c.t.Fatal(err)
	}
	ended, stop := start(s)
	c.t.Cleanup(stop)
	return s, ended
}

// await polls on the real clock, since QUIC needs the real network.
func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(20 * time.Second); !ok(); {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("no %s", what)
		}
	}
}

func TestQUICJoinAndDeliver(t *testing.T) {
	c := newCloud(t)
	id := c.admit("gw-1")
	path := filepath.Join(t.TempDir(), "identity.pem")
	if err := id.Save(path); err != nil {
		t.Fatal(err)
	}
	id, err := join.LoadIdentity(path)
	if err != nil {
		t.Fatal(err)
	}
	disk := newFakeBuffers()
	for i := range 5000 {
		disk.put(weir.Lane(i%3), "sensors", record.Record{Key: fmt.Append(nil, i%9), Value: fmt.Append(nil, "reading number ", i)})
	}
	c.log.create("sensors", 4)
	c.run(id, disk)
	await(t, "delivery", func() bool { n, _ := disk.left(); return n == 0 })
	if got := len(c.log.records()); got != 5000 {
		t.Fatalf("%d records", got)
	}
	if g := c.recv.Gateways(); len(g) != 1 || g[0].ID != "gw-1" || g[0].Software != "test" {
		t.Fatalf("gateways %+v", g)
	}
	counts := c.recv.Counts()
	if g, joins := counts[0], counts[1]; g.Open != 1 || g.Accepted != 1 || g.Requests == 0 || g.Received < 5000 || g.Sent == 0 || g.Errors != 0 ||
		joins.Accepted != 1 || joins.Requests != 1 || joins.Received == 0 || joins.Sent == 0 || joins.Errors != 0 {
		t.Errorf("counted %+v", counts)
	}
}

func TestQUICJoinErrors(t *testing.T) {
	c := newCloud(t)
	stranger, err := join.NewCA(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	wrong := c.token
	wrong.Secret[0]++
	c.admit("gw-1")
	c.admit("gw-2")
	for _, x := range []struct {
		name    string
		token   join.Token
		gateway string
		want    error
	}{
		{"spent", c.token, "gw-3", join.ErrTokenSpent},
		{"foreign", join.NewToken(stranger), "gw-3", join.ErrForeign},
		{"id", c.token, "gw 3", join.ErrGatewayID},
		{"unknown", wrong, "gw-3", join.ErrTokenUnknown}, // last: the next attempt has to wait
	} {
		if _, err := sender.Join(t.Context(), c.addr, x.token, x.gateway, newKey(t), nil); !errors.Is(err, x.want) {
			t.Errorf("%s: %v", x.name, err)
		}
	}
}

func TestQUICRefusesStrangers(t *testing.T) {
	c := newCloud(t)
	foreign, err := join.NewCA(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	year := 365 * 24 * time.Hour
	c.revoked["gw-9"] = true
	// A certificate of another CA, in the hands of a gateway that trusts ours.
	mixed := identity(t, foreign, "gw-1", time.Now(), year)
	for _, x := range []struct {
		name string
		id   *join.Identity
		want error
	}{
		{"of another CA", mixed, sender.ErrForeign},
		{"revoked", identity(t, c.ca, "gw-9", time.Now(), year), sender.ErrRevoked},
		{"too old", identity(t, c.ca, "gw-2", time.Now().Add(-3*year), year/2), sender.ErrExpired},
	} {
		s, ended := c.run(x.id, newFakeBuffers())
		await(t, x.name+": refusal", func() bool { return s.State().Refused != nil })
		if err := s.State().Refused; !errors.Is(err, x.want) {
			t.Errorf("%s: %v", x.name, err)
		}
		select {
		case <-ended:
			t.Errorf("%s: the sender has ended", x.name)
		default:
		}
	}
}

// The node checks a gateway's certificate even when the gateway does not check
// the node's.
func TestQUICNodeChecksTheGateway(t *testing.T) {
	c := newCloud(t)
	foreign, err := join.NewCA(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	id := identity(t, foreign, "gw-1", time.Now(), time.Hour)
	conf := id.TLS(nil)
	conf.VerifyConnection = nil
	dial := sender.DialTLS(conf)
	s, err := sender.New(sender.Options{Buffers: newFakeBuffers(), Addrs: []string{c.addr}, Gateway: "gw-1", Dial: dial})
	if err != nil {
		t.Fatal(err)
	}
	defer run(s)()
	await(t, "refusal", func() bool { return s.State().Refused != nil })
	if err := s.State().Refused; !errors.Is(err, sender.ErrRejected) {
		t.Fatalf("refused: %v", err)
	}
}

// An expired certificate can renew and nothing else; then the backlog goes.
func TestQUICExpiredCertificateRenews(t *testing.T) {
	c := newCloud(t)
	year := 365 * 24 * time.Hour
	id := identity(t, c.ca, "gw-1", time.Now().Add(-year), year/2)
	disk := newFakeBuffers()
	disk.put(weir.Live, "sensors", record.Record{Key: []byte("k"), Value: []byte("v")})
	c.run(id, disk)
	await(t, "delivery", func() bool { n, _ := disk.left(); return n == 0 })
	if c.renewed != 1 || id.Leaf().NotAfter.Before(time.Now()) {
		t.Fatalf("renewed %d times, valid until %v", c.renewed, id.Leaf().NotAfter)
	}
}

// A restarted node resets the connections of its former life, so a gateway
// comes back at once and loses nothing.
func TestQUICNodeRestarts(t *testing.T) {
	c := newCloud(t)
	disk := newFakeBuffers()
	s, _ := c.run(c.admit("gw-1"), disk)
	for round := range 3 {
		for i := range 500 {
			disk.put(weir.Live, "sensors", record.Record{Key: []byte("k"), Value: fmt.Append(nil, round*500+i)})
		}
		await(t, "session", func() bool { return s.State().Connected })
		c.stop()
		<-c.served
		c.log.crash(0)
		c.start(c.addr)
	}
	await(t, "delivery", func() bool { n, _ := disk.left(); return n == 0 })
	all := c.log.records()
	if len(all) != 1500 {
		t.Fatalf("%d records", len(all))
	}
	for i, r := range all {
		if string(r.record.Value) != fmt.Sprint(i) {
			t.Fatalf("record %d is %s", i, r.record.Value)
		}
	}
}

// A node that is killed says nothing. The next one, on the same address, answers
// the packets of connections that it never had with a stateless reset.
func TestQUICNodeIsKilled(t *testing.T) {
	c := newCloud(t)
	disk := newFakeBuffers()
	s, _ := c.run(c.admit("gw-1"), disk)
	await(t, "session", func() bool { return s.State().Connected })
	c.conn.Close()
	<-c.served
	dead := c.recv
	c.start(c.addr)
	disk.put(weir.Live, "sensors", record.Record{Key: []byte("k"), Value: []byte("v")})
	start := time.Now()
	await(t, "delivery", func() bool { n, _ := disk.left(); return n == 0 })
	if d := time.Since(start); d > 10*time.Second {
		t.Errorf("came back after %v: it waited for the idle timeout", d)
	}
	dead.Close()
}

// At two thirds of its life a certificate is renewed beside the traffic.
func TestQUICRenewsInTime(t *testing.T) {
	c := newCloud(t)
	id := identity(t, c.ca, "gw-1", time.Now().Add(-80*time.Hour), 100*time.Hour)
	path := filepath.Join(t.TempDir(), "identity.pem")
	if err := id.Save(path); err != nil {
		t.Fatal(err)
	}
	before := id.Leaf().NotAfter
	s, _ := c.run(id, newFakeBuffers())
	await(t, "renewal", func() bool { return id.Leaf().NotAfter.After(before) })
	if st := s.State(); !st.Connected {
		t.Errorf("state %+v", st)
	}
	stored, err := join.LoadIdentity(path)
	if err != nil || !stored.Leaf().Equal(id.Leaf()) {
		t.Errorf("stored: %v", err)
	}
}

// A gateway whose clock is behind thinks its certificate valid; the cloud knows
// better, and it renews.
func TestQUICExpiredByTheCloudsClock(t *testing.T) {
	c := newCloud(t)
	year := 365 * 24 * time.Hour
	id := identity(t, c.ca, "gw-1", time.Now().Add(-year), year/2)
	disk := newFakeBuffers()
	disk.put(weir.Live, "sensors", record.Record{Key: []byte("k"), Value: []byte("v")})
	s, err := sender.New(sender.Options{
		Buffers: disk, Addrs: []string{c.addr}, Identity: id, Logger: logger(t),
		Now: func() time.Time { return time.Unix(0, 0) },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer run(s)()
	await(t, "delivery", func() bool { n, _ := disk.left(); return n == 0 })
}

// BenchmarkQUIC drains a backlog of sensor readings over loopback into a log
// that takes a millisecond per slot.
func BenchmarkQUIC(b *testing.B) {
	c := newCloud(b)
	disk := newFakeBuffers()
	disk.frame = 512
	value := []byte(`{"device":"sensor-0042","seq":123456,"temperature":21.53,"humidity":48.2,"pressure":1013.2,"battery":3.71,"status":"ok","ts":1767225600123}`)
	for i := range b.N {
		disk.put(weir.Live, "sensors", record.Record{Timestamp: 1767225600000 + int64(i), Key: fmt.Appendf(nil, "sensors/sensor-%04d/telemetry", i%50), Value: value})
	}
	c.log.create("sensors", 4)
	c.log.discard = true
	c.log.latency = func() time.Duration { return time.Millisecond }
	id := c.admit("gw-1")
	b.SetBytes(int64(len(value)))
	b.ReportAllocs()
	b.ResetTimer()
	c.run(id, disk)
	await(b, "delivery", func() bool { n, _ := disk.left(); return n == 0 })
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := join.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}
