package console

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/admin"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/measure"
)

func up(name string, shards ...OwnedShard) ClusterNode {
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	return ClusterNode{NodeStatus: NodeStatus{Name: name, Clock: now, Certificate: now.AddDate(0, 0, 20), Shards: shards, Peer: name + ":7401"}, State: NodeUp}
}

// TestAssemble: a shard is the node's with the newest claim, whoever else still says that
// it has it.
func TestAssemble(t *testing.T) {
	owns := func(shard uint32, epoch uint64, state cluster.State) OwnedShard {
		return OwnedShard{Shard: shard, Epoch: epoch, State: string(state)}
	}
	known := []ShardStatus{{OwnedShard: OwnedShard{Shard: 0, Epoch: 3}, Owner: "a", Slices: 7}, {OwnedShard: OwnedShard{Shard: 1, Epoch: 5}, Owner: "gone", Partitions: 2},
		{OwnedShard: OwnedShard{Shard: 2}}, {OwnedShard: OwnedShard{Shard: 3, Epoch: 2}, Owner: "b"}}
	got := Assemble(known, []ClusterNode{
		up("a", owns(0, 3, cluster.Owning), owns(1, 4, cluster.Owning), owns(3, 3, cluster.Recovering), owns(9, 1, cluster.Owning)),
		up("b", owns(0, 4, cluster.Owning), owns(2, 1, cluster.Failing), owns(3, 2, cluster.Owning)),
	})
	for i, want := range []struct{ owner, state string }{{"b", "owner"}, {"gone", ShardNone}, {"", ShardNone}, {"a", "recovering"}} {
		if got[i].Owner != want.owner || got[i].State != want.state {
			t.Errorf("shard %d: %+v, want %+v", i, got[i], want)
		}
	}
	if got[0].Slices != 7 || got[1].Partitions != 2 || got[1].Epoch != 5 {
		t.Errorf("what was known is lost: %+v", got)
	}
}

// TestCame: the last move of a shard in words.
func TestCame(t *testing.T) {
	for reason, want := range map[cluster.Reason]string{"": "", cluster.First: "new", cluster.HandedOver: "handed over by b", cluster.Silent: "b was silent", cluster.Ended: "b had ended",
		cluster.Restarted: "had it before its restart", cluster.Kept: "no other node took it"} {
		if got := (OwnedShard{Reason: string(reason), From: "b"}).Came(); got != want {
			t.Errorf("%q: %q, want %q", reason, got, want)
		}
	}
	if got := (OwnedShard{Reason: string(cluster.HandedOver)}).Came(); got != "handed over by another node" {
		t.Errorf("by a node that is not known: %q", got)
	}
}

// TestProblems: what is wrong is said in words, once for each thing, and nothing else.
func TestProblems(t *testing.T) {
	served := []ShardStatus{{OwnedShard: OwnedShard{Shard: 0, State: string(cluster.Owning)}, Owner: "a"}}
	if got := problems([]ClusterNode{up("a"), up("b")}, served); len(got) != 0 {
		t.Errorf("of a cluster that is well: %q", got)
	}
	silent, earlier, old, fast, slow, expiring, failing, other, twin := up("silent"), up("earlier"), up("old"), up("fast"), up("slow"), up("expiring"), up("failing"), up("other"), up("twin")
	silent.State, silent.Error = NodeSilent, "connection refused"
	earlier.Error = "it is of an earlier version"
	old.Catalogue = 61
	fast.Ahead, slow.Ahead = time.Hour, -time.Hour
	expiring.Certificate = expiring.Clock.Add(time.Hour)
	failing.Shards = []OwnedShard{{Shard: 4, State: string(cluster.Failing)}}
	other.Problems = []string{"another process has its name"}
	twin.Peer = "other:7401"
	got := problems([]ClusterNode{silent, earlier, old, fast, slow, expiring, failing, other, twin}, []ShardStatus{
		{OwnedShard: OwnedShard{Shard: 1, State: ShardNone}, Owner: "silent"}, {OwnedShard: OwnedShard{Shard: 2, State: ShardNone}},
		{OwnedShard: OwnedShard{Shard: 3, State: string(cluster.Doubting), Damaged: 2}, Owner: "a"}})
	want := []string{"node silent does not answer (connection refused)", "node earlier says nothing of itself (it is of an earlier version)",
		"node old has heard nothing of users, permissions and topics for 1m1s: check the network between the nodes' --peer",
		"the clock of node fast is 1h fast: set it", "the clock of node slow is 1h slow: set it", "the certificate of node expiring for --peer ends in 1h",
		"node failing could not lead shard 4 and tries again later: its log says why", "node other: another process has its name",
		"shard 1 is not served: node silent had it last", "shard 2 has no owner", "shard 3 is not served: the bucket does not answer its owner, node a",
		"2 pieces of shard 3 cannot be read: weirctl check says which", "nodes other and twin say that they have one address, other:7401: set --advertise"}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestClusterStatus: the status of a cluster of several shards adds up what its nodes say,
// and says whose figures are missing. It needs no owner of the catalogue.
func TestClusterStatus(t *testing.T) {
	a := up("a", OwnedShard{Shard: 1, State: string(cluster.Owning), Rate: 2, ByteRate: 20, Epoch: 2})
	a.Records, a.Bytes, a.Groups, a.Lagging, a.Connections, a.Catalogue, a.Moves = 5, 50, 2, []Group{{ID: "z", Lag: 1}}, 3, 0.5, map[string]uint64{"first": 1}
	a.Gateways = &GatewayCount{Connected: 4}
	b := up("b", OwnedShard{Shard: 2, State: string(cluster.Owning), Rate: 1, Epoch: 1})
	b.Records, b.Groups, b.Lagging, b.Catalogue, b.Moves, b.Waiting = 7, 1, []Group{{ID: "g", Lag: 2}}, 1.5, map[string]uint64{"first": 1, "takeover": 1}, 9
	gone := ClusterNode{NodeStatus: NodeStatus{Name: "gone"}, State: NodeSilent, Heard: time.Now()}
	brokers := broker.New(broker.Options{Self: broker.Node{Name: "b"}, Shards: 3})
	metrics := measure.New()
	handler := New(Options{Guard: guard(), Broker: brokers, Missing: func() cluster.Roles { return cluster.RoleMeta }, Metrics: metrics, Role: func() string { return RoleStandby },
		Nodes: func(context.Context) []ClusterNode { return []ClusterNode{a, b, gone} },
		Shards: func(nodes []ClusterNode) []ShardStatus {
			return Assemble([]ShardStatus{{OwnedShard: OwnedShard{Shard: 1}}, {OwnedShard: OwnedShard{Shard: 2}}}, nodes)
		}})
	n := &node{Handler: handler}
	s := ask[Status](t, n, 200, "GET", "/v1/status", "")
	if s.Node != "b" || s.Records != 12 || s.Bytes != 50 || s.Rate != 3 || s.ByteRate != 20 || s.Groups != 3 || len(s.Lagging) != 2 || s.Lagging[0].ID != "g" || s.Gateways.Connected != 4 ||
		s.Connections != 3 || s.Oldest != 1.5 || s.Moves["first"] != 2 || s.Moves["takeover"] != 1 || s.Waiting != 9 || len(s.Shards) != 2 || s.Shards[1].Owner != "b" {
		t.Errorf("%+v", s)
	}
	if len(s.Nodes) != 3 || s.Nodes[0].Shards != 1 || s.Nodes[2].Role != NodeSilent {
		t.Errorf("nodes: %+v", s.Nodes)
	}
	said := strings.Join(s.Problems, "\n")
	for _, want := range []string{"node gone does not answer", "figures are without those of gone", "node b does not know the topics of the cluster now", "no live node has the role meta"} {
		if !strings.Contains(said, want) {
			t.Errorf("it does not say %q:\n%s", want, said)
		}
	}
	if all := ask[Nodes](t, n, 200, "GET", "/v1/nodes", ""); all.Node != "b" || len(all.Nodes) != 3 || all.Nodes[0].Records != 5 {
		t.Errorf("%+v", all)
	}
	if all := ask[Shards](t, n, 200, "GET", "/v1/shards", ""); all.Node != "b" || len(all.Shards) != 2 || all.Shards[0].Rate != 2 {
		t.Errorf("%+v", all)
	}
	ask[Error](t, n, 421, "GET", admin.WhoPath, "") // which needs the owner
}
