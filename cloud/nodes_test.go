package cloud

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/console"
	"github.com/weirmq/weir/cloud/group"
	"github.com/weirmq/weir/cloud/share"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/weir"
)

// answerOf asks a node's admin port with the node's own credential.
func answerOf[T any](t *testing.T, n running, path string) (v T) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+n.self.Address(cluster.HTTP)+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+tokenOf(t, n))
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(&v); err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s of %s: %s, %v", path, n.o.Node, res.Status, err)
	}
	return v
}

// startSeveral starts nodes of a cluster of three shards, and waits until each has one.
func startSeveral(t *testing.T, names ...string) (nodes []running) {
	t.Helper()
	bucket := bucketOf(t, 3)
	for _, name := range names {
		n := openNode(t, bucket, name, t.TempDir(), func(o *Options) { o.Takeover = 2 * time.Second })
		n.run(t)
		n.says(t, "ready")
		nodes = append(nodes, n)
	}
	eventually(t, "each node has a shard", func() bool {
		count := 0
		for _, n := range nodes {
			count += len(n.shards.all())
			if len(n.shards.all()) == 0 || n.broker.Copy() == nil && !n.broker.IsController() {
				return false
			}
		}
		return count == 3
	})
	return nodes
}

// TestAnyNodeAnswersForAll: nodes, shards and counts of a cluster are the same wherever
// one asks, and of all nodes.
func TestAnyNodeAnswersForAll(t *testing.T) {
	nodes := startSeveral(t, "first", "second")
	topic, err := nodes[0].broker.CreateTopic(t.Context(), "a", 8, nil)
	if err != nil {
		t.Fatal(err)
	}
	b := record.NewBuilder(record.None)
	if err := b.Append(&record.Record{Value: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	batch, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	for p := range topic.Partitions {
		var owner running
		eventually(t, "the partition has a leader", func() bool {
			for _, n := range nodes {
				if l, known := n.broker.Leader(topic.ID, p); known && l.Name == n.o.Node {
					owner = n
					return true
				}
			}
			return false
		})
		ended := make(chan error, 1)
		owner.broker.Append(broker.Append{Topic: topic.ID, Partition: p, Batch: slices.Clone(batch)}, func(_ int64, err error) { ended <- err })
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
	}
	for i, name := range []string{"g1", "g2", "g3"} {
		for _, n := range nodes {
			groups, err := n.broker.Groups(name)
			if err != nil {
				continue
			}
			at := group.Offset{Partition: group.Partition{Topic: topic.ID, Index: int32(i)}}
			if _, err := groups.Commit(t.Context(), group.CommitRequest{Group: name, Generation: -1, Offsets: []group.Offset{at}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, n := range nodes {
		s := answerOf[console.Status](t, n, "/v1/status")
		if s.Node != n.o.Node || s.Topics != 1 || s.Partitions != 8 || s.Records != 8 || s.Bytes == 0 || s.Groups != 3 || len(s.Shards) != 3 || len(s.Nodes) != 2 || s.Cluster == "" {
			t.Errorf("the status of %s: %+v", n.o.Node, s)
		}
		if len(s.Problems) > 0 {
			t.Errorf("%s says that something is wrong: %q", n.o.Node, s.Problems)
		}
		all := answerOf[console.Shards](t, n, "/v1/shards")
		owners, has, partitions := make(map[string]int), 0, 0
		for i, one := range all.Shards {
			if one.Shard != uint32(i) || one.State != string(cluster.Owning) || one.Epoch == 0 || one.Since.IsZero() || one.Reason == "" {
				t.Errorf("%s lists shard %d as %+v", n.o.Node, i, one)
			}
			owners[one.Owner]++
			has += one.Slices
			partitions += one.Partitions
		}
		if len(owners) != 2 || owners["first"] != len(nodes[0].shards.all()) || has != weir.Slices || partitions != 8 {
			t.Errorf("%s: owners %v, %d slices, %d partitions", n.o.Node, owners, has, partitions)
		}
		listed := answerOf[console.Nodes](t, n, "/v1/nodes")
		for i, one := range listed.Nodes {
			about := nodes[i]
			one.Shards = slices.DeleteFunc(one.Shards, func(s console.OwnedShard) bool { return s.State != string(cluster.Owning) }) // it is about to forget what it has handed over
			if one.Name != about.o.Node || one.State != console.NodeUp || one.Error != "" || one.Boot != about.self.Boot || one.Version == "" || len(one.Shards) != len(about.shards.all()) || one.Started.IsZero() ||
				one.Peer != about.self.Address(cluster.Peer) || one.Certificate.Before(time.Now().Add(29*24*time.Hour)) || one.Ahead.Abs() > time.Second || one.Catalogue > 5 {
				t.Errorf("%s lists node %d as %+v", n.o.Node, i, one)
			}
		}
		eventually(t, "the lag of each group counts the partition that it has read, whoever leads it", func() bool {
			behind := answerOf[console.Status](t, n, "/v1/status").Lagging
			return len(behind) == 3 && !slices.ContainsFunc(behind, func(g console.Group) bool { return g.Lag != 1 || g.Unknown != 0 })
		})
	}
	deadLettersOverNodes(t, nodes, topic)
}

// deadLettersOverNodes checks that what members of a share group reject in any partition is
// in a dead-letter topic that has one partition.
func deadLettersOverNodes(t *testing.T, nodes []running, topic broker.Topic) {
	t.Helper()
	dead, err := nodes[0].broker.CreateTopic(t.Context(), "dlq.a", 1, map[string]string{share.DeadLetterEnable: "true"})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		if n.broker.IsController() {
			if err := n.broker.AlterGroup(t.Context(), "s", func(values map[string]string) error {
				values["errors.deadletterqueue.topic.name"] = dead.Name
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for p := range topic.Partitions {
		at := share.Place{Group: "s", Topic: topic.ID, Partition: p}
		if err := nodes[0].records.BeginShare(t.Context(), at, 0); err != nil {
			t.Fatal(err)
		}
		for _, n := range nodes {
			got, err := n.broker.Acquire(t.Context(), share.Request{Place: at, Member: "m", Bytes: 1 << 20})
			if err != nil {
				continue // another node leads the partition
			}
			got.Lease.Release()
			done := make(chan error, 1)
			n.broker.Acknowledge(at, "m", []share.Acknowledgement{{First: 0, Last: 0, Verdicts: []share.Verdict{share.Reject}}}, func(err error) { done <- err })
			if err := <-done; err != nil {
				t.Errorf("partition %d: %v", p, err)
			}
		}
	}
	if x, err := nodes[0].records.Range(t.Context(), dead.ID, 0); err != nil || x.End < int64(topic.Partitions) {
		t.Errorf("%d dead letters, %v", x.End, err)
	}
	for _, n := range nodes {
		all, err := n.records.ShareOffsets(t.Context(), "s")
		if err != nil || len(all) != int(topic.Partitions) || slices.ContainsFunc(all, func(o share.Offsets) bool { return o.Start != 1 || o.Lag != 0 }) {
			t.Errorf("the share group is at %+v, %v", all, err)
		}
	}
}

// TestNodeThatIsGone: a node that does not answer is shown as such, in time, and the status
// says what is missing.
func TestNodeThatIsGone(t *testing.T) {
	nodes := startSeveral(t, "first", "second")
	second := nodes[1]
	nodes[0].shows(t, `weir_peer_up{node="second"} 1`, fmt.Sprintf(`weir_shards{state="owner"} %d`, len(nodes[0].shards.all())), `weir_shards{state="doubt"} 0`, `weir_shard_moves_total{reason="first"} 3`,
		"weir_shard_recovery_seconds_count 3", "weir_node_certificate_expires_seconds 2", `weir_shard_records_total{shard="0"} 0`)
	second.shows(t, `weir_peer_up{node="first"} 1`, `weir_shard_moves_total{reason="handover"} 1`)
	second.stop()
	<-second.ended
	eventually(t, "the first node has all shards", func() bool { return nodes[0].owns(0, 1, 2) })
	eventually(t, "the node that is gone is silent", func() bool {
		all := answerOf[console.Nodes](t, nodes[0], "/v1/nodes").Nodes
		return len(all) == 2 && all[1].Name == "second" && all[1].State == console.NodeSilent && all[1].Error != "" && !all[1].Heard.IsZero()
	})
	nodes[0].shows(t, `weir_peer_up{node="second"} 0`, `weir_shards{state="owner"} 3`)
	s := answerOf[console.Status](t, nodes[0], "/v1/status")
	if said := strings.Join(s.Problems, "\n"); !strings.Contains(said, "node second does not answer (") || !strings.Contains(said, "figures are without those of second") {
		t.Errorf("what is wrong: %s", said)
	}
	moved := 0
	for _, one := range s.Shards {
		if one.From == "second" && one.Owner == "first" && one.Reason == string(cluster.Ended) {
			moved++
		}
	}
	if moved == 0 || s.Moves[string(cluster.Ended)] == 0 || s.Moves[string(cluster.First)] != 3 {
		t.Errorf("moves %v, shards %+v", s.Moves, s.Shards)
	}

	// One that takes connections and says nothing.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	hung := cluster.Known{Alive: true, Node: cluster.Node{Name: "hung", Addresses: make(cluster.Addresses)}}
	hung.Addresses.Add(cluster.Peer, "", l.Addr().String())
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if got := nodes[0].statusOf(ctx, hung); got.State != console.NodeSilent || got.Error == "" || got.Name != "hung" {
		t.Errorf("a node that says nothing: %+v", got)
	}
}

// TestNodesOfOneShard: in a cluster of one shard the standby lists both nodes, too.
func TestNodesOfOneShard(t *testing.T) {
	first, second := startPair(t, bucketOf(t, 1))
	eventually(t, "they know each other", func() bool { return len(first.manager.Members()) == 1 && len(second.manager.Members()) == 1 })
	if _, err := first.broker.CreateTopic(t.Context(), "t", 6, nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the standby knows the topic", func() bool { _, err := second.broker.KnownTopic("t"); return err == nil })
	for _, n := range []running{first, second} {
		all := answerOf[console.Nodes](t, n, "/v1/nodes").Nodes
		if len(all) != 2 || all[0].Role != console.RoleOwner || all[1].Role != console.RoleStandby || all[0].State != console.NodeUp || all[1].State != console.NodeUp {
			t.Errorf("%s lists %+v", n.o.Node, all)
		}
		shards := answerOf[console.Shards](t, n, "/v1/shards").Shards
		if len(shards) != 1 || shards[0].Owner != "first" || shards[0].Slices != weir.Slices || shards[0].Partitions != 6 || shards[0].State != string(cluster.Owning) {
			t.Errorf("%s lists %+v", n.o.Node, shards)
		}
	}
}
