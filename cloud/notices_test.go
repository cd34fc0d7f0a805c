package cloud

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/console"
	"github.com/weirmq/weir/cloud/fleet"
	"github.com/weirmq/weir/sync/join"
	"github.com/weirmq/weir/sync/receiver"
	"github.com/weirmq/weir/sync/wire"
)

// TestNoticesReachTheFleet: what a node without the catalogue notices of gateways is known
// to its owner, once, although an answer was lost.
func TestNoticesReachTheFleet(t *testing.T) {
	nodes := startSeveral(t, "first", "second")
	owner, other := nodes[0], nodes[1]
	if other.broker.IsController() {
		owner, other = other, owner
	}
	joinGateway(t, owner, "gw-1")
	members := owner.fleet()
	other.lostRecords("gw-1", 5)
	other.lostRecords("gw-1", 2)
	for range 3 {
		other.refused("gw-1", receiver.Refusal{Name: "secret", Reason: wire.ReasonNotAllowed, Text: strings.Repeat("x", 5000), Records: 4})
	}
	other.left(receiver.Gateway{ID: "gw-1", Software: "weir-edge test"})
	other.lostRecords("nobody", 9)
	lost := func() uint64 {
		g, err := members.Gateway("gw-1")
		if err != nil {
			t.Fatal(err)
		}
		c, _ := members.Contact(g)
		return c.Lost
	}
	eventually(t, "the owner knows what was lost and refused", func() bool {
		all := members.Refusals("gw-1")
		return lost() == 7 && len(all) == 1 && all[0].Topic == "secret" && all[0].Reason == "not-allowed" && all[0].Times == 3 && all[0].Records == 12
	})

	again := told{Boot: "b", Number: 1, Gateways: []notice{{Gateway: "gw-1", Lost: 10}}}
	for _, c := range []struct {
		t    told
		want uint64
	}{{again, 17}, {again, 17}, {told{Boot: "b", Number: 2, Gateways: again.Gateways}, 27}, {told{Boot: "another", Number: 1, Gateways: again.Gateways}, 37}} {
		body, err := json.Marshal(c.t)
		if err != nil {
			t.Fatal(err)
		}
		if err := owner.noticesFor("third", body); err != nil || lost() != c.want {
			t.Errorf("number %d of %s: %d records lost, want %d; %v", c.t.Number, c.t.Boot, lost(), c.want, err)
		}
	}
	if err := other.noticesFor("third", []byte(`{}`)); err == nil {
		t.Error("a node without the catalogue takes notices")
	}
	for _, bad := range []string{"x", `{"gateways":[` + strings.Repeat("{},", maxTold) + "{}]}", `{"gateways":[{"refusals":[` + strings.Repeat("{},", maxKinds) + "{}]}]}"} {
		if err := owner.noticesFor("third", []byte(bad)); err == nil {
			t.Errorf("it takes %.60s", bad)
		}
	}
}

// TestNoticesAfterSplit: a node that began with one shard passes notices on.
func TestNoticesAfterSplit(t *testing.T) {
	n := startNode(t, bucketOf(t, 1), "n")
	n.says(t, "leading")
	n.notices.note("gw-1", func(o *notice) { o.Lost = 1 }) // as it does when there are several
	eventually(t, "nothing is kept", func() bool { return n.notices.next(n.self.Boot) == nil })
}

// TestLateNodes: a revocation names the nodes that have not applied it, and no others.
func TestLateNodes(t *testing.T) {
	nodes := startSeveral(t, "first", "second")
	owner, other := nodes[0], nodes[1]
	if other.broker.IsController() {
		owner, other = other, owner
	}
	joinGateway(t, owner, "gw-1")
	revoke := func(at running, gateway string) string {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+at.self.Address(cluster.HTTP)+"/v1/gateways/revoke", strings.NewReader(`{"gateway":"`+gateway+`"}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+tokenOf(t, at))
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			t.Fatalf("revoke at %s: %s", at.o.Node, res.Status)
		}
		return res.Header.Get(console.LateHeader)
	}
	for _, at := range nodes {
		if late := revoke(at, "gw-1"); late != "" {
			t.Errorf("asked at %s: %q are late", at.o.Node, late)
		}
	}
	if err := other.admit("gw-1", nil); !errors.Is(err, join.ErrRevoked) {
		t.Errorf("when it is answered, the other node admits the gateway: %v", err)
	}
	deaf := cluster.Node{Name: "deaf", Boot: "b", Member: 1, Host: owner.self.Host, Addresses: cluster.Addresses{cluster.Peer: {"": "127.0.0.1:1"}}}
	owner.manager.Heard(cluster.Report{Node: deaf}) // it is there, and does not ask for the catalogue
	if late := revoke(owner, "gw-1"); late != "deaf" {
		t.Errorf("%q are late, want the node that hears nothing", late)
	}
}

// TestNoticesKept: what was not answered is told again as it was, the rest waits, and all
// of it is bounded.
func TestNoticesKept(t *testing.T) {
	n := newNotices()
	if n.next("b") != nil {
		t.Error("there is something to tell at first")
	}
	for i := range maxNoticed + 5 {
		n.note(fmt.Sprint("g", i), func(o *notice) { o.Lost = 1 })
	}
	if len(n.kept) != maxNoticed {
		t.Errorf("%d gateways are kept", len(n.kept))
	}
	first := n.next("b")
	n.note(first.Gateways[0].Gateway, func(o *notice) { o.Lost += 6 })
	if again := n.next("b"); again != first || len(first.Gateways) != maxTold || first.Number != 1 || first.Gateways[0].Lost != 1 {
		t.Errorf("%+v, then %+v", first, again)
	}
	n.done()
	if second := n.next("b"); second.Number != 2 || len(second.Gateways) != maxTold {
		t.Errorf("then %+v", second)
	}
	var o notice
	for i := range 2 * maxKinds {
		o.refuse(fleet.Refusal{Topic: fmt.Sprint(i), Text: "x"})
	}
	if len(o.Refusals) != maxKinds {
		t.Errorf("%d refusals are kept", len(o.Refusals))
	}
}
