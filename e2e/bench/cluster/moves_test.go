package cluster

import (
	"testing"
	"time"

	"github.com/weirmq/weir/storage/redis/redistest"
	"github.com/weirmq/weir/storage/s3/s3test"
)

// BenchmarkMoves: for how long a partition acknowledges nothing when its shard moves. One
// of three nodes is stopped and started again, five times: its shards go to the others
// and back.
func BenchmarkMoves(b *testing.B) {
	for name, bucket := range map[string]func(*testing.B) string{
		"file":  func(*testing.B) string { return "" },
		"redis": func(b *testing.B) string { return redistest.Start(b).NewBucket(b) },
		"minio": func(b *testing.B) string { return s3test.Start(b).NewBucket(b) },
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				n := startNodes(b, bucket(b), 12, 3)
				p := newProbe(b, n)
				for range 5 {
					n.stop(2)
					n.start(2)
					n.settle()
				}
				p.stop()
				report(b, "moves", p.take())
				n.stopAll()
			}
		})
	}
}

// BenchmarkTakeover: one of three nodes is killed, three times: how long its shards are
// without an owner.
func BenchmarkTakeover(b *testing.B) {
	for b.Loop() {
		n := startNodes(b, "", 12, 3)
		p := newProbe(b, n)
		var all []gap
		for range 3 {
			killed := n.all[2].Addr["kafka"]
			p.take()
			n.kill(2)
			pause(8 * time.Second)
			for _, g := range p.take() {
				if g.from == killed {
					all = append(all, g)
				}
			}
			n.start(2)
			n.settle()
		}
		p.stop()
		report(b, "shards", all)
		n.stopAll()
	}
}
