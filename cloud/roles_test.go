package cloud

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/weir"
)

// readiness returns the answer of a node's /readyz.
func (r running) readiness(t *testing.T) (status int, body string) {
	t.Helper()
	res, err := http.Get("http://" + r.self.Address(cluster.HTTP) + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(answer)
}

// startWith starts a node with some roles, without listeners for clients if it has no door.
func startWith(t *testing.T, of running, name string, roles cluster.Roles) running {
	t.Helper()
	r := openNode(t, of.o.Bucket, name, t.TempDir(), func(o *Options) {
		o.AutoCreate, o.Takeover = true, 2*time.Second
		if o.Roles = roles; !roles.Has(cluster.RoleDoor) {
			o.Kafka, o.Sync = nil, Off
		}
	})
	r.run(t)
	return r
}

// TestRoles: a door alone is not ready, and says what the cluster misses. Each shard is
// owned by a node with the role for it, and the door has topics created by the owner of the
// catalogue, which has no Kafka listener.
func TestRoles(t *testing.T) {
	door := openNode(t, bucketOf(t, 3), "door", t.TempDir(), func(o *Options) { o.Roles, o.Takeover = cluster.RoleDoor, 2*time.Second })
	door.run(t)
	const alone = "no live node has the roles that the cluster needs: clients are told to try again until one starts"
	door.says(t, alone)
	if status, body := door.readiness(t); status != http.StatusServiceUnavailable || !strings.Contains(body, "meta,log") {
		t.Errorf("a door alone: %d %s", status, body)
	}
	if _, _, err := (owner{door.Node}).CreateTopic(t.Context(), auth.Who{}, "early"); err == nil {
		t.Error("a topic was created without an owner of the catalogue")
	}

	meta := startWith(t, door, "meta", cluster.RoleMeta)
	log := startWith(t, door, "log", cluster.RoleLog)
	eventually(t, "the nodes have the shards for which they have the roles", func() bool { return meta.owns(0) && log.owns(1, 2) && door.owns() })
	door.says(t, "there are nodes with all the roles that the cluster needs")
	eventually(t, "the door is ready", func() bool { status, _ := door.readiness(t); return status == http.StatusOK })
	if topic, code, err := (owner{door.Node}).CreateTopic(t.Context(), auth.Who{Principal: "User:ANONYMOUS"}, "readings"); err != nil || code != 0 || topic.Name != "readings" {
		t.Errorf("create a topic: %+v, code %d, %v", topic, code, err)
	}

	log.stop()
	<-log.ended
	door.says(t, alone)
	if status, body := door.readiness(t); status != http.StatusServiceUnavailable || !strings.Contains(body, ": log") {
		t.Errorf("without a log node: %d %s", status, body)
	}
	if !door.owns() || !meta.owns(0) {
		t.Error("a node without the role has taken data shards")
	}
	again := startWith(t, door, "log", cluster.RoleLog)
	eventually(t, "the data shards are owned again", func() bool { return again.owns(1, 2) })
	eventually(t, "the door is ready again", func() bool { status, _ := door.readiness(t); return status == http.StatusOK })
}

// TestRolesOfGrown: the shards of a cluster that was created with one, and has got more, are
// owned by nodes that have some roles each, after all nodes were stopped.
func TestRolesOfGrown(t *testing.T) {
	bucket := mem.New()
	first := startNode(t, bucket, "first")
	first.says(t, "ready")
	if s := first.splits(t, 2); s.Error != "" {
		t.Fatalf("%+v", s)
	}
	first.stop()
	<-first.ended
	meta := startWith(t, first, "meta", cluster.RoleMeta|cluster.RoleDoor)
	log := startWith(t, first, "log", cluster.RoleLog|cluster.RoleDoor)
	eventually(t, "the nodes have the shards for which they have the roles", func() bool { return meta.owns(0) && log.owns(1, 2) })
}

// TestMoveFoundByMeta: the owner of a catalogue that has slices, too, ends when their move to a
// new shard is decided. The next owner has the role meta only: it makes the new shard part of
// the cluster, and a node with the role log leads that. What was written is there, and goes on.
func TestMoveFoundByMeta(t *testing.T) {
	bucket := mem.New()
	first := startNode(t, bucket, "first")
	first.says(t, "ready")
	topic, err := first.broker.CreateTopic(t.Context(), "t", 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	everywhere(t, func(r running) (int64, error) { return r.produce(topic.ID, 0, "a") }, first)
	group := "g"
	for weir.SliceOfGroup(group) == weir.SliceOf(topic.ID, 0) {
		group += "g"
	}
	before := weir.Move{ID: weir.MoveID{1}, To: 1}
	before.Slices.Add(weir.SliceOfGroup(group))
	if err := first.moveSlices(t.Context(), before); err != nil {
		t.Fatal(err)
	}
	m := weir.Move{ID: weir.MoveID{2}, To: 2}
	m.Slices.Add(weir.SliceOf(topic.ID, 0))
	first.begins(t, m, true)
	first.stop()
	<-first.ended
	meta := startWith(t, first, "meta", cluster.RoleMeta|cluster.RoleDoor)
	log := startWith(t, first, "log", cluster.RoleLog|cluster.RoleDoor)
	eventually(t, "each node has its shards", func() bool { return meta.owns(0) && log.owns(1, 2) })
	eventually(t, "the move is over in both logs", func() bool {
		out, _ := meta.shards.get(0).Log.Moves()
		_, in := log.shards.get(2).Log.Moves()
		return len(out)+len(in) == 0
	})
	everywhere(t, func(r running) (int64, error) { return r.produce(topic.ID, 0, "b") }, log)
	if got := everywhere(t, func(r running) ([]string, error) { return r.read(topic.ID, 0) }, log); fmt.Sprint(got) != "[a b]" {
		t.Errorf("the partition has %v", got)
	}
	if at := meta.broker.RouteOf(weir.SliceOf(topic.ID, 0)); at != 2 {
		t.Errorf("the owner of the catalogue finds the slice in shard %d", at)
	}
}
