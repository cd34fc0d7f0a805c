package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/admin"
	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/console"
)

// severalNodes is a cluster of three nodes, of which one is gone, one drains and one is of
// an earlier version.
func severalNodes(now time.Time) console.Nodes {
	owned := console.OwnedShard{Shard: 1, Epoch: 4, State: string(cluster.Owning), Since: now.Add(-time.Minute), Rate: 12, ByteRate: 3000, Reason: string(cluster.HandedOver), From: "two"}
	one := console.NodeStatus{Name: "one", Boot: "b00t", Version: "v1", Roles: []string{"meta", "log"}, Role: console.RoleOwner, Started: now.Add(-time.Hour), Peer: "one:7401", Certificate: time.Date(2026, 2, 28, 0, 0, 0, 0, time.UTC),
		Catalogue: 0.52, Shards: []console.OwnedShard{owned}, Draining: true}
	return console.Nodes{Node: "one", Nodes: []console.ClusterNode{
		{NodeStatus: one, State: console.NodeUp, Ahead: -90 * time.Second},
		{NodeStatus: console.NodeStatus{Name: "three", Peer: "three:7401"}, State: console.NodeUp, Error: "it is of an earlier version"},
		{NodeStatus: console.NodeStatus{Name: "two", Peer: "two:7401", Boot: "gone"}, State: console.NodeSilent, Heard: now.Add(-5 * time.Minute), Error: "connection refused"}}}
}

// single is text with single blanks.
func single(text string) string {
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = strings.Join(strings.Fields(lines[i]), " ")
	}
	return strings.Join(lines, "\n")
}

// TestNodesAndShards: what is printed about nodes and shards.
func TestNodesAndShards(t *testing.T) {
	now := time.Now()
	nodes := severalNodes(now)
	shards := console.Shards{Node: "one", Shards: []console.ShardStatus{
		{OwnedShard: console.OwnedShard{Shard: 0, Epoch: 2, State: console.ShardNone}, Owner: "two", Slices: 0},
		{OwnedShard: nodes.Nodes[0].Shards[0], Owner: "one", Slices: 1024, Partitions: 8}}}
	for _, c := range []struct {
		args   string
		answer any
		want   []string
	}{
		{"nodes", nodes, []string{"NODE STATE SINCE SHARDS RECORDS/S CATALOGUE CLOCK VERSION ROLES CERTIFICATE UNTIL PEER BOOT", "one owner, draining 1h 1 12 500ms 1m30s slow v1 meta,log 2026-02-28 one:7401 b00t",
			"three up - - - - - - - - three:7401 -", "two silent heard 5m ago - - - - - - - two:7401 gone", "two: connection refused", "three: it is of an earlier version"}},
		{"nodes list -o json", nodes, []string{`"catalogue_age_seconds": 0.52`, `"state": "silent"`}},
		{"shards", shards, []string{"SHARD OWNER STATE EPOCH SINCE SLICES PARTITIONS RECORDS/S BYTES/S CAME", "0 two none 2 - 0 0 0 0 B/s -", "1 one owner 4 1m 1024 8 12 3 kB/s handed over by two"}},
		{"shards -o json", shards, []string{`"reason": "handover"`, `"owner": "two"`}},
	} {
		node := serve(t, 200, c.answer)
		code, out, wrong := weirctl(c.args + " --cloud " + node.URL)
		for _, want := range c.want {
			if code != 0 || !strings.Contains(single(out), want) {
				t.Errorf("%s: %d, without %q:\n%s%s", c.args, code, want, out, wrong)
			}
		}
	}
	for _, args := range []string{"nodes x", "shards x"} {
		if code, _, wrong := weirctl(args); code != 2 || !strings.Contains(wrong, "takes no argument") {
			t.Errorf("%s: %d %s", args, code, wrong)
		}
	}
}

// TestLateNodes: a change says which nodes have not applied it.
func TestLateNodes(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(console.LateHeader, "two, three")
		admin.Reply(w, 200, struct{}{})
	}))
	defer s.Close()
	code, out, wrong := weirctl("gateways revoke gw --cloud " + s.URL)
	if code != 0 || !strings.Contains(out, "revoked") || !strings.Contains(wrong, "not applied yet by two, three: ") {
		t.Errorf("%d\n%s%s", code, out, wrong)
	}
}

// TestClusterStatus: the status of a cluster of several shards says who has what, what
// moved, and what is wrong.
func TestClusterStatus(t *testing.T) {
	now := time.Now()
	s := console.Status{Node: "one", Version: "v1", Cluster: "c1", Topics: 2, Partitions: 8, Records: 1000, Bytes: 2_500_000, Rate: 12, ByteRate: 3000, Groups: 1, Oldest: 1.5,
		Gateways: console.GatewayCount{Connected: 4}, Moves: map[string]uint64{"handover": 2, "first": 3},
		Nodes: []console.Member{{Name: "one", Role: console.RoleOwner, Since: now.Add(-time.Hour), Shards: 2}, {Name: "two", Role: console.NodeSilent, Heard: now.Add(-time.Minute)}, {Name: "three", Role: "up"}},
		Shards: []console.ShardStatus{{OwnedShard: console.OwnedShard{Shard: 0, State: console.ShardNone}},
			{OwnedShard: console.OwnedShard{Shard: 1, State: string(cluster.Owning), Since: now.Add(-time.Minute), Reason: string(cluster.Silent), From: "two"}, Owner: "one"}},
		Problems: []string{"node two does not answer", "shard 0 has no owner"}}
	node := serve(t, 200, s)
	code, out, wrong := weirctl("status --cloud " + node.URL)
	for _, want := range []string{"cluster c1, version v1 of node one; 2 shards, 2 of 3 nodes up", "nodes one (owner, 2 shards, for 1h), two (silent, heard 1m ago), three (up, 0 shards)", "shards 1 served, 1 none",
		"moves 3 first, 2 handover; the last: shard 1 to one 1m ago (two was silent)", "catalogue at most 1.5s old", "gateways 4 connected, 0 away", "topics 2 with 8 partitions: 1000 records, 2.5 MB at rest, 12 records/s, 3 kB/s",
		"groups 1, behind: none", "damage none", "wrong node two does not answer\nshard 0 has no owner\n"} {
		if code != 0 || !strings.Contains(single(out), want) {
			t.Errorf("%d, without %q:\n%s%s", code, want, out, wrong)
		}
	}
}

// TestRevokeNode: what revoking a node does not undo is said.
func TestRevokeNode(t *testing.T) {
	var asked console.NodeChange
	path := ""
	node := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked, path = console.NodeChange{}, r.URL.Path
		if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
			t.Error(err)
		}
		admin.Reply(w, http.StatusOK, console.RevokedNode{Name: asked.Name, Secret: asked.Name == "b"})
	}))
	defer node.Close()
	for _, c := range []struct {
		args string
		path string
		want console.NodeChange
		says []string
	}{
		{"nodes revoke b", "/v1/nodes/revoke", console.NodeChange{Name: "b"}, []string{"node b is revoked", "credentials of the bucket", "the CA's key"}},
		{"nodes revoke door", "/v1/nodes/revoke", console.NodeChange{Name: "door"}, []string{"node door is revoked", "credentials of the bucket", "without the CA's key"}},
		{"nodes revoke b --unknown", "/v1/nodes/revoke", console.NodeChange{Name: "b", Unknown: true}, []string{"node b is revoked"}},
		{"nodes revoke b -o json", "/v1/nodes/revoke", console.NodeChange{Name: "b"}, []string{`"name": "b"`}},
		{"nodes reset b", "/v1/nodes/reset", console.NodeChange{Name: "b"}, []string{"node b may come back"}},
	} {
		code, out, wrong := weirctl(c.args + " --cloud " + node.URL)
		if code != 0 || asked != c.want || path != c.path {
			t.Errorf("%s: %d, %s asks %+v: %s", c.args, code, path, asked, wrong)
		}
		for _, want := range c.says {
			if !strings.Contains(out, want) {
				t.Errorf("%s does not say %q:\n%s", c.args, want, out)
			}
		}
	}
	if code, _, wrong := weirctl("nodes revoke --cloud " + node.URL); code == 0 || !strings.Contains(wrong, "revoke NAME") {
		t.Errorf("without a name: %d, %s", code, wrong)
	}
}
