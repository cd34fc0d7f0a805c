package cloud

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/console"
	"github.com/weirmq/weir/storage/mem"
)

// TestShardsAuto: a cluster of one shard that is left alone gets as many shards with data as
// nodes that can own one, and one more when another node comes. What is in it stays.
func TestShardsAuto(t *testing.T) {
	bucket := mem.New()
	start := func(name string) running {
		n := openNode(t, bucket, name, t.TempDir(), func(o *Options) { o.AutoShards, o.Takeover = time.Second/2, 2*time.Second })
		n.run(t)
		n.says(t, "ready")
		return n
	}
	first := start("first")
	topic, err := first.broker.CreateTopic(t.Context(), "t", 4, nil)
	if err != nil {
		t.Fatal(err)
	}
	for p := range int32(4) {
		everywhere(t, func(r running) (int64, error) { return r.produce(topic.ID, p, "before") }, first)
	}
	nodes := []running{first, start("second")}
	for data := 2; data <= 3; data++ {
		eventually(t, fmt.Sprintf("%d shards have data", data), func() bool {
			for _, n := range nodes {
				if n.shards.number() != data+1 {
					return false
				}
			}
			return true
		})
		if data == 2 {
			nodes = append(nodes, start("third"))
		}
	}
	for p := range int32(4) {
		if at := everywhere(t, func(r running) (int64, error) { return r.produce(topic.ID, p, "after") }, nodes...); at != 1 {
			t.Errorf("a record of partition %d has offset %d: what was there is lost, or twice there", p, at)
		}
	}
	for _, n := range nodes {
		eventually(t, n.o.Node+" says what is done", func() bool {
			return strings.Contains(answerOf[console.Shards](t, n, "/v1/shards").Auto, "3 with data for 3 nodes with the role log")
		})
	}
}
