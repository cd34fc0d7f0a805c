package cloud

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/console"
	"github.com/weirmq/weir/storage"
)

// TestTwoNodesOfOneName: a process whose name another one has, which lives, ends and says
// so. The other one keeps its shards, and its status says what is wrong.
func TestTwoNodesOfOneName(t *testing.T) {
	for _, count := range []int{1, 3} {
		bucket := bucketOf(t, count)
		first := startNode(t, bucket, "first")
		first.says(t, "ready")
		eventually(t, "it has all shards", func() bool { return len(first.shards.all()) == count })
		second := openNode(t, bucket, "first", t.TempDir())
		second.run(t)
		select {
		case <-second.ended:
		case <-time.After(20 * time.Second):
			t.Fatal("it goes on")
		}
		if err := *second.err; !errors.Is(err, cluster.ErrNamesake) || !strings.Contains(err.Error(), first.self.Address(cluster.Peer)) || !strings.Contains(err.Error(), "--node-id") {
			t.Errorf("of %d shards: it ended with %v", count, err)
		}
		for _, own := range first.shards.all() {
			if own.Log.Epoch() != 1 || own.Log.Err() != nil {
				t.Errorf("of %d shards: shard %d was taken from the first one: epoch %d, %v", count, own.ID, own.Log.Epoch(), own.Log.Err())
			}
		}
		if said := answerOf[console.Nodes](t, first, "/v1/nodes").Problems; len(said) != 1 || !strings.Contains(said[0], "has its name") {
			t.Errorf("the first one says %q", said)
		}
		first.stop()
		<-first.ended
		again := startNode(t, bucket, "first") // the name is free
		again.says(t, "ready")
	}
}

// TestGarbageAmongMembers: an object that is no member object is passed over, with a line,
// and harms nobody; one in the place of a former life, too.
func TestGarbageAmongMembers(t *testing.T) {
	bucket := bucketOf(t, 3)
	key := func(name string, number int) string {
		return fmt.Sprintf("member/%08x/%020d", uint32(cluster.NodeID(name)), number)
	}
	for name, body := range map[string]string{
		key("other", 1):     "\x00garbage",
		key("another", 2):   `{"id":1,"name":"somebody else","member":7}`,
		key("large", 3):     strings.Repeat("x", 1<<20),
		key("first", 4):     `{"name":`,
		"member/nonsense":   "",
		"member/0/0/0":      "x",
		key("empty", 5):     "",
		key("addressed", 6): `{"id":` + fmt.Sprint(cluster.NodeID("addressed")) + `,"name":"addressed","member":6,"addresses":{"peer":{"":"not an address"}}}`,
	} {
		if err := bucket.Create(t.Context(), name, []byte(body)); err != nil && !errors.Is(err, storage.ErrExists) {
			t.Fatal(err)
		}
	}
	first := startNode(t, bucket, "first")
	first.says(t, "what is left of this node's former life cannot be read")
	first.says(t, "a member object is passed over")
	first.says(t, "ready")
	second := startNode(t, bucket, "second")
	second.says(t, "a member object is passed over")
	second.says(t, "ready")
	eventually(t, "both have shards", func() bool { return len(first.shards.all()) > 0 && len(second.shards.all()) > 0 })
	for _, n := range []running{first, second} {
		var names []string
		for _, one := range answerOf[console.Nodes](t, n, "/v1/nodes").Nodes {
			names = append(names, one.Name+" "+one.State)
		}
		if got := strings.Join(names, ", "); got != "addressed silent, first up, second up" {
			t.Errorf("%s lists %s", n.o.Node, got)
		}
	}
}
