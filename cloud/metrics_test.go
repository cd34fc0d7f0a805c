package cloud

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/txn"
	"github.com/weirmq/weir/storage/mem"
)

// TestMetrics: each node shows what its door does, and the owner what it coordinates.
func TestMetrics(t *testing.T) {
	bucket := mem.New()
	first, second := startPair(t, bucket)

	topic, err := first.broker.CreateTopic(t.Context(), "t", 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	txns, err := first.broker.Transactions("tx")
	if err != nil {
		t.Fatal(err)
	}
	p, err := txns.InitProducerID(t.Context(), txn.InitRequest{ID: "x", Timeout: time.Minute})
	if err == nil {
		err = txns.AddPartitions(t.Context(), "x", p, []broker.Place{{Topic: topic.ID}})
	}
	if err == nil {
		_, err = txns.End(t.Context(), txn.EndRequest{ID: "x", Producer: p, Commit: true})
	}
	if err != nil {
		t.Fatal(err)
	}
	for line, owner := range map[string]bool{
		`weir_door_connections{door="kafka",listener="default"} 0`:       false,
		`weir_door_requests_total{door="sync",listener=""} 0`:            false,
		`weir_door_requests_total{door="sync",listener="join"} 0`:        false,
		`weir_door_connections_refused_total{door="http",listener=""} 0`: false,
		`weir_door_connections_refused_total{door="peer",listener=""} 0`: false,
		"weir_kafka_connections 0\n":                                     false,
		`weir_transactions_total{end="timeout"} 0`:                       false,
		`weir_transactions_total{end="commit"} 1`:                        true,
		`weir_groups{state="Stable"} 0`:                                  true,
		"weir_shard_epoch 1\n":                                           true,
		"weir_shard_damaged_pieces 0\n":                                  true,
		"weir_segment_read_bytes_total 0\n":                              true,
		"weir_transactions_open 0\n":                                     true,
	} {
		for _, n := range []running{first, second} {
			var out bytes.Buffer
			n.metrics.WritePrometheus(&out)
			if shows := strings.Contains(out.String(), line); shows != (!owner || n.o.Node == "first") {
				t.Errorf("%s shows %q: %v", n.o.Node, line, shows)
			}
		}
	}
}
