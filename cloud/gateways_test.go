package cloud

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/console"
	"github.com/weirmq/weir/cloud/fleet"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/join"
	"github.com/weirmq/weir/sync/receiver"
	"github.com/weirmq/weir/sync/sender"
	"github.com/weirmq/weir/sync/uplink"
	"github.com/weirmq/weir/sync/wire"
)

// nothing is the local log of a gateway that has nothing to send.
type nothing struct{ sender.Notes }

func (nothing) List() ([]weir.Buffer, error) {
	return []weir.Buffer{{ID: weir.BufferID{3: 1}, Current: true, Lanes: [weir.Lanes]weir.Bounds{{First: 1}, {First: 1}, {First: 1}}}}, nil
}
func (nothing) Read(weir.BufferID, weir.Lane, uint64) ([]sender.Item, error) { return nil, io.EOF }
func (nothing) Trim(weir.BufferID, weir.Lane, uint64) error                  { return nil }
func (nothing) Retire(weir.BufferID) error                                   { return nil }
func (nothing) Notify() <-chan struct{}                                      { return nil }
func (nothing) Rows(weir.BufferID) ([]weir.MapRow, error)                    { return nil, nil }

// joinGateway lets a gateway in at a node that leads.
func joinGateway(t *testing.T, n running, id string) *join.Identity {
	t.Helper()
	var text []byte
	eventually(t, "a join token", func() bool {
		var err error
		text, err = os.ReadFile(filepath.Join(n.o.Data, "join-token"))
		return err == nil
	})
	token, err := join.ParseToken(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	key, err := join.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	identity, err := sender.Join(t.Context(), n.self.Address(cluster.Sync), token, id, key, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return identity
}

// connect runs a gateway until what it returns is called.
func connect(t *testing.T, n running, identity *join.Identity) (s *sender.Sender, disconnect func()) {
	t.Helper()
	s, err := sender.New(sender.Options{Buffers: nothing{}, Addrs: []string{n.self.Address(cluster.Sync)}, Identity: identity, Software: "weir-edge test",
		Depth: func() wire.Ping { return wire.Ping{Records: 12, Bytes: 3456, Age: 60_000} },
		Status: func() []wire.Figure {
			return []wire.Figure{{Key: wire.FigureDead, Value: 3}, {Key: wire.FigureRecords(weir.Live), Value: 12}}
		}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { s.Run(ctx) })
	return s, func() {
		cancel()
		running.Wait()
	}
}

// TestGatewaysAreKept: a node shows the gateways that it has, with metrics of their own;
// the next owner knows how each was when it was there last.
func TestGatewaysAreKept(t *testing.T) {
	bucket := mem.New()
	first := startNode(t, bucket, "first")
	first.says(t, "ready")
	identity := joinGateway(t, first, "gw-1")
	gateway, disconnect := connect(t, first, identity)
	eventually(t, "the gateway tells of itself", func() bool {
		all := first.sessions()
		return len(all) == 1 && all[0].DeadLetters != nil && all[0].Contact.Records == 12
	})
	if told := gateway.State().Cluster; told == "" || told != first.broker.ClusterID() {
		t.Errorf("the first gateway of a new cluster is told that it is %q, and not %q", told, first.broker.ClusterID())
	}
	s := first.sessions()[0]
	if *s.DeadLetters != 3 || s.FreeBytes != nil || len(s.Lanes) != 1 || s.Lanes[0].Lane != "live" || s.Lanes[0].Buffered != 12 || s.Contact.Software != "weir-edge test" {
		t.Errorf("%+v", s)
	}
	first.shows(t, `weir_gateways{state="connected"} 1`, `weir_gateway_connected{gateway="gw-1"} 1`, `weir_gateway_buffered_records{gateway="gw-1"} 12`,
		`weir_gateway_lost_records_total{gateway="gw-1"} 0`, `weir_gateway_oldest_seconds{gateway="gw-1"} 6`, `weir_gateway_certificate_expires_seconds{gateway="gw-1"} `)
	members := first.fleet()
	first.lostRecords("gw-1", 5)
	first.refused("gw-1", receiver.Refusal{Name: "secret", Reason: wire.ReasonNotAllowed, Text: "no"})
	if all := members.Refusals("gw-1"); len(all) != 1 || all[0].Topic != "secret" || all[0].Reason != "not-allowed" {
		t.Errorf("%+v", all)
	}
	disconnect()
	eventually(t, "the gateway is away", func() bool { return len(first.sessions()) == 0 })
	eventually(t, "what it left is noted", func() bool {
		g, err := members.Gateway("gw-1")
		c, _ := members.Contact(g)
		return err == nil && c.Records == 12
	})
	if err := members.SaveContacts(t.Context()); err != nil {
		t.Fatal(err)
	}
	first.stop()
	<-first.ended

	second := startNode(t, bucket, "second")
	second.says(t, "leading")
	g, err := second.fleet().Gateway("gw-1")
	if err != nil {
		t.Fatal(err)
	}
	c, settled := second.fleet().Contact(g)
	if c.Records != 12 || c.Bytes != 3456 || c.Software != "weir-edge test" || c.Lost != 5 || settled != 5 || c.Address == "" || time.Since(time.UnixMilli(c.At)) > time.Minute {
		t.Errorf("%+v", c)
	}
	second.shows(t, `weir_gateways{state="away"} 1`, `weir_gateway_connected{gateway="gw-1"} 0`, `weir_gateway_buffered_records{gateway="gw-1"} 12`,
		`weir_gateway_lost_records_total{gateway="gw-1"} 5`)
	second.o.Limits.GatewaySeries = 1
	second.metrics.SetSources(second.sources())
	joinGateway(t, second, "gw-0")
	second.shows(t, `weir_gateways{state="away"} 2`, `weir_gateways_omitted 1`, `weir_gateway_connected{gateway="gw-0"} 0`)
	if out := second.shown(); strings.Contains(out, `gateway="gw-1"`) {
		t.Errorf("a gateway beyond the limit has metrics:\n%s", out)
	}
	if err := second.fleet().Revoke(t.Context(), "gw-0"); err != nil {
		t.Fatal(err)
	}
	if err := second.fleet().Revoke(t.Context(), "gw-1"); err != nil {
		t.Fatal(err)
	}
	if err := second.admit("gw-1", identity.Leaf()); !errors.Is(err, join.ErrRevoked) {
		t.Errorf("a gateway that is revoked is let in: %v", err)
	}
	if all := second.fleet().Refusals("gw-1"); len(all) != 1 || all[0].Reason != "not-admitted" {
		t.Errorf("%+v", all)
	}
	if out := second.shown(); strings.Contains(out, `gateway="gw-0"`) || !strings.Contains(out, `weir_gateways{state="revoked"} 2`) {
		t.Errorf("a gateway that is revoked is missed:\n%s", out)
	}
}

func (r running) shown() string {
	var out bytes.Buffer
	r.metrics.WritePrometheus(&out)
	return out.String()
}

func (r running) shows(t *testing.T, lines ...string) {
	t.Helper()
	out := r.shown()
	for _, line := range lines {
		if !strings.Contains(out, line) {
			t.Errorf("%s does not show %s:\n%s", r.o.Node, line, out)
		}
	}
}

// TestContactOf: whatever a gateway says of its backlog, it has a time.
func TestContactOf(t *testing.T) {
	heard := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for age, want := range map[uint64]int64{0: 0, 1000: heard.UnixMilli() - 1000, 1 << 63: heard.Add(-100 * 365 * 24 * time.Hour).UnixMilli()} {
		got := contactOf(receiver.Gateway{Heard: heard, Depth: &wire.Ping{Records: 1, Age: age}})
		if got != (fleet.Contact{At: heard.UnixMilli(), Records: 1, Oldest: want}) {
			t.Errorf("age %d: %+v", age, got)
		}
	}
	if got := contactOf(receiver.Gateway{Heard: heard}); got != (fleet.Contact{At: heard.UnixMilli()}) {
		t.Errorf("%+v", got)
	}
}

// TestRevokedUnheard: a gateway that was revoked when the node that it is connected to
// could not hear of it loses its session when that node gets the catalogue, as a copy or as
// its owner. Until then it may not write.
func TestRevokedUnheard(t *testing.T) {
	bucket := bucketOf(t, 3)
	first := startNode(t, bucket, "first")
	first.says(t, "ready")
	visit := func(id string) {
		_, disconnect := connect(t, first, joinGateway(t, first, id))
		t.Cleanup(disconnect)
		eventually(t, "gateway "+id+" is connected", func() bool { return len(first.sessions()) == 1 })
		if err := first.mayWrite(id, "sensors"); err != nil {
			t.Error(err)
		}
		if err := first.fleet().Revoke(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if err := first.mayWrite(id, "sensors"); !errors.Is(err, uplink.ErrBusy) {
			t.Errorf("a revoked gateway writes: %v", err)
		}
	}

	visit("gw-1")
	view := first.newView()
	m, err := commitlog.NewMirror(first.shards.get(catalogueShard).Log.CatalogueSnapshot(), view.Machines()...)
	if err != nil {
		t.Fatal(err)
	}
	first.publish(&mirror{Mirror: m, view: view}, &broker.Copy{Asked: time.Now()}, false)
	eventually(t, "with a first copy the session ends", func() bool { return len(first.sessions()) == 0 })
	first.broker.SetCopy(nil)

	visit("gw-2")
	second := openNode(t, bucket, "second", t.TempDir())
	info, err := second.self.Info(2)
	if err != nil {
		t.Fatal(err)
	}
	thief := second.newOwned(catalogueShard, second.self)
	epoch := uint64(first.shards.get(catalogueShard).Log.Epoch())
	err = thief.Open(t.Context(), second.logOptions(thief, info, epoch+1))
	if err := errors.Join(err, thief.Close(), second.Close()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the session ends when the node owns the catalogue again", func() bool {
		return len(first.sessions()) == 0 && first.shards.roleOf(catalogueShard) == console.RoleOwner
	})
}
