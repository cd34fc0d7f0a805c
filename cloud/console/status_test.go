package console

import (
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/admin"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/budget"
	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/group"
	"github.com/weirmq/weir/cloud/listener"
	"github.com/weirmq/weir/cloud/measure"
	"github.com/weirmq/weir/cloud/recent"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/record"
)

// TestStatus: what a node tells of the cluster, and what a standby does not.
func TestStatus(t *testing.T) {
	n := newNode(t)
	n.state = State{Nodes: []Member{{Name: "a", Role: RoleOwner, Since: time.Now()}, {Name: "b", Role: RoleStandby}}, Disk: Disk{"data", 3, 9}}
	n.shard = measure.Shard{Epoch: 7, Stats: commitlog.Stats{Damaged: 2, Waiting: 5, Checkpoint: time.Now().Add(-time.Hour)}}
	ask[Topic](t, n, 200, "POST", "/v1/topics", `{"name":"t","partitions":3}`)
	n.write(t, "t", record.Record{Value: []byte("a")}, record.Record{Value: []byte("b")})
	known, err := n.broker.Topic("t")
	if err != nil {
		t.Fatal(err)
	}
	_, err = n.groups.Commit(t.Context(), group.CommitRequest{Group: "g", Generation: -1, Offsets: []group.Offset{{Partition: group.Partition{Topic: known.ID}, Offset: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	n.metrics.Door(measure.Door{Name: "new", Counts: func() []listener.Counts {
		return []listener.Counts{{Listener: "l", GateCounts: budget.GateCounts{Open: 1}, Sent: 2}}
	}})
	s := ask[Status](t, n, 200, "GET", "/v1/status", "")
	if len(s.Doors) != 1 || s.Doors[0].Door != "new" || s.Doors[0].Listener != "l" || s.Doors[0].Open != 1 || s.Doors[0].Sent != 2 {
		t.Errorf("a door that has registered is shown as %+v", s.Doors)
	}
	if s.Node != "a" || len(s.Nodes) != 2 || s.Topics != 1 || s.Partitions != 3 || s.Records != 2 || s.Bytes == 0 || s.Damaged != 2 || s.Epoch != 7 || s.Waiting != 5 || s.Upkeep < time.Hour || s.Upkeep > 2*time.Hour || s.Disk.Free != 3 {
		t.Errorf("%+v", s)
	}
	if s.Groups != 1 || len(s.Lagging) != 1 || s.Lagging[0].ID != "g" || s.Lagging[0].Lag != 1 {
		t.Errorf("groups: %+v", s)
	}
	if who := ask[admin.Caller](t, n, 200, "GET", admin.WhoPath, ""); who.Role != admin.Administer || who.Name == "" {
		t.Errorf("who asks: %+v", who)
	}
	n.broker.Follow(0, broker.Node{}, "")
	ask[Error](t, n, 421, "GET", "/v1/status", "")
	ask[Error](t, n, 421, "GET", admin.WhoPath, "")
}

// TestErrors: a node returns its own warnings and errors, whether or not it owns the
// shard.
func TestErrors(t *testing.T) {
	n := newNode(t)
	if none := ask[Lines](t, n, 200, "GET", "/v1/errors", ""); none.Node != "a" || none.Lines == nil || len(none.Lines) != 0 {
		t.Errorf("at first: %+v", none)
	}
	log := slog.New(n.recent.Handler(slog.DiscardHandler))
	log.Warn("slow", "bucket", "s3")
	n.broker.Follow(0, broker.Node{}, "")
	if some := ask[Lines](t, n, 200, "GET", "/v1/errors", ""); len(some.Lines) != 1 || some.Lines[0].Text != "slow" || some.Lines[0].About[0] != (recent.About{Key: "bucket", Value: "s3"}) {
		t.Errorf("%+v", some)
	}
}

// TestAddresses: every listener of every door is listed once.
func TestAddresses(t *testing.T) {
	all := make(cluster.Addresses)
	all.Add(cluster.Kafka, "tls", "a:9093")
	all.Add(cluster.Kafka, "plain", "a:9092")
	all.Add("amqp", "", "a:5672")
	want := []Address{{"amqp", "", "a:5672"}, {cluster.Kafka, "plain", "a:9092"}, {cluster.Kafka, "tls", "a:9093"}}
	if got := AddressesOf(all); !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}
