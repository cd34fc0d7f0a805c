package cluster

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkMemory: resident memory of a node, and how much each gateway that is connected
// and idle, each shard without work and each topic with one partition adds.
func BenchmarkMemory(b *testing.B) {
	const gateways, topics, shards = 2000, 2000, 64
	for b.Loop() {
		b.ReportMetric(0, "ns/op")
		n := startNodes(b, "", 1, 1)
		pause(2 * time.Second)
		empty := n.rss()
		b.ReportMetric(mib(empty), "empty-MiB")
		f := newFleet(b, n, gateways, 100)
		f.run()
		pause(10 * time.Second) // two Pings
		b.ReportMetric(float64(n.rss()-empty)/gateways/1024, "gateway-KiB")
		f.stop()
		n.stopAll()

		n = startNodes(b, "", 1, 1)
		pause(2 * time.Second)
		before := n.rss()
		names := make([]string, topics)
		for i := range names {
			names[i] = fmt.Sprintf("topic-%04d", i)
		}
		n.createTopics(1, names...)
		pause(2 * time.Second)
		b.ReportMetric(float64(n.rss()-before)/topics/1024, "topic-KiB")
		n.stopAll()

		n = startNodes(b, "", shards, 1)
		pause(2 * time.Second)
		b.ReportMetric(float64(n.rss()-empty)/shards/1024, "shard-KiB")
		n.stopAll()
	}
}
