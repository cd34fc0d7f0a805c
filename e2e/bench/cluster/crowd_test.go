package cluster

import (
	"os"
	"strconv"
	"testing"
	"time"
)

// BenchmarkCrowd: 10,000 gateways at three nodes, each of which sends a reading every five
// seconds, and the storm when one of the nodes is killed: how long until all gateways are
// connected to the others, and the most memory of a node meanwhile. No reading may be
// missing or doubled. WEIR_GATEWAYS sets another number.
func BenchmarkCrowd(b *testing.B) {
	gateways := 10_000
	if s := os.Getenv("WEIR_GATEWAYS"); s != "" {
		var err error
		if gateways, err = strconv.Atoi(s); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		n := startNodes(b, "", dataShards, 3)
		n.createTopics(dataShards, readings)
		began := time.Now()
		f := newFleet(b, n, gateways, 100)
		b.ReportMetric(time.Since(began).Seconds(), "join-s")
		b.ReportMetric(f.run().Seconds(), "connect-s")
		stop := f.trickle(5 * time.Second)
		pause(10 * time.Second)
		b.ReportMetric(mib(n.rss())/3, "node-MiB")
		b.ReportMetric(float64(n.rss())/float64(gateways)/1024, "gateway-KiB")

		n.resetPeaks()
		began = time.Now()
		n.kill(2)
		f.awaitConnected(map[string]bool{"n3": true})
		b.ReportMetric(time.Since(began).Seconds(), "storm-s")
		b.ReportMetric(mib(n.peak()), "storm-peak-MiB")
		pause(5 * time.Second)
		stop()
		f.awaitSettled()
		b.ReportMetric(time.Since(began).Seconds(), "settled-s")
		f.stop()
		if got := n.records(readings); got != f.accepted.Load() {
			b.Errorf("%d records of %d readings", got, f.accepted.Load())
		}
		b.ReportMetric(float64(f.accepted.Load()), "readings")
		b.ReportMetric(0, "ns/op")
		n.stopAll()
	}
}
