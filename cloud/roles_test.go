package cloud

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/storage/mem"
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
