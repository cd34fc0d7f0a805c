package cluster

import (
	"context"
	"encoding/binary"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// stormTime is how long all gateways may take to be connected.
const stormTime = 5 * time.Minute

// BenchmarkCrowd: 10,000 gateways at three nodes, each of which sends a reading every ten
// seconds. They all connect at the same moment; then a node is killed, another one is
// stopped in good order, and all three are killed and started again. After each it takes how
// long until all gateways have noticed, and until all are connected again. Every reading
// must be in the topic once. WEIR_GATEWAYS sets another number.
//
// All of that shares two cores, so the handshakes of plain quic-go, with the same
// certificates and on the same cores, show what the machine can do.
func BenchmarkCrowd(b *testing.B) {
	gateways := 10_000
	if s := os.Getenv("WEIR_GATEWAYS"); s != "" {
		var err error
		if gateways, err = strconv.Atoi(s); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		b.ReportMetric(0, "ns/op")
		plain := plainHandshakes(b)
		b.ReportMetric(plain, "plain-handshakes/s")
		n := startNodes(b, "", dataShards, 3)
		n.createTopics(dataShards, readings)
		empty := n.rss()
		began := time.Now()
		f := newFleet(b, n, gateways, 100)
		b.ReportMetric(time.Since(began).Seconds(), "join-s")
		n.resetPeaks()
		joins := f.dials.Load()
		connect := f.run().Seconds()
		b.ReportMetric(connect, "connect-s")
		b.ReportMetric(float64(f.dials.Load()-joins)/float64(gateways), "connect-dials")
		b.ReportMetric(float64(gateways)/connect/plain, "connect-of-plain")
		b.ReportMetric(mib(n.peak()), "connect-peak-MiB")
		stop := f.trickle(10 * time.Second)
		pause(15 * time.Second)
		b.ReportMetric(mib(n.rss())/3, "node-MiB")
		b.ReportMetric(float64(n.rss()-empty)/float64(gateways)/1024, "gateway-KiB")

		f.storm("killed", func() { n.kill(2) }, "n3")
		n.start(2)
		n.settle()
		f.storm("stopped", func() { n.stop(1) }, "n2")
		n.start(1)
		n.settle()
		f.storm("restarted", func() {
			n.stopAll()
			for i := range n.all {
				n.start(i)
			}
		}, "n1", "n2", "n3")

		pause(5 * time.Second)
		stop()
		f.awaitSettled()
		b.ReportMetric(float64(f.accepted.Load()), "readings")
		f.stop()
		f.audit()
		n.stopAll()
	}
}

// storm does what costs gateways their nodes, and reports how long it takes until all of
// them have noticed, until half and all are connected again, and the most memory of a node
// meanwhile.
func (f *fleet) storm(name string, do func(), gone ...string) {
	f.b.Helper()
	f.n.resetPeaks()
	dials, began := f.dials.Load(), time.Now()
	lost := make(map[*gateway]bool)
	for _, g := range f.all {
		if slices.Contains(gone, g.sender.State().Node) {
			lost[g] = true
		}
	}
	do()
	noticed, half := time.Duration(0), time.Duration(0)
	for back := 0; back < len(f.all); pause(50 * time.Millisecond) {
		var asleep int
		back = 0
		for _, g := range f.all {
			st := g.sender.State()
			switch {
			case lost[g] && st.Connected && st.Since.Before(began):
				asleep++
			case st.Connected:
				back++
			}
		}
		if noticed == 0 && asleep == 0 {
			noticed = time.Since(began)
		}
		if half == 0 && len(f.all)-back <= len(lost)/2 {
			half = time.Since(began)
		}
		if time.Since(began) > stormTime {
			f.b.Fatalf("%s: %d of %d gateways are connected after %v", name, back, len(f.all), stormTime)
		}
	}
	f.b.ReportMetric(noticed.Seconds(), name+"-noticed-s")
	f.b.ReportMetric(half.Seconds(), name+"-half-back-s")
	f.b.ReportMetric(time.Since(began).Seconds(), name+"-back-s")
	f.b.ReportMetric(float64(f.dials.Load()-dials)/float64(len(lost)), name+"-dials")
	f.b.ReportMetric(mib(f.n.peak()), name+"-peak-MiB")
}

// audit compares what is in the topic with what the gateways have sent: each reading must be
// there once, and those of a key in their order.
func (f *fleet) audit() {
	f.b.Helper()
	total := f.n.records(readings)
	client := f.n.client(kgo.ConsumeTopics(readings), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	seen := make(map[string]map[uint64]bool)
	last := make(map[string]uint64) // by key
	var doubled, disordered int
	for got := int64(0); got < total; {
		ctx, cancel := context.WithTimeout(f.b.Context(), time.Minute)
		fetched := client.PollFetches(ctx)
		cancel()
		if err := fetched.Err(); err != nil {
			f.b.Fatalf("%d of %d readings read: %v", got, total, err)
		}
		fetched.EachRecord(func(r *kgo.Record) {
			got++
			name, _, _ := strings.Cut(string(r.Key), "/")
			seq := binary.BigEndian.Uint64(r.Value)
			if seen[name] == nil {
				seen[name] = make(map[uint64]bool)
			}
			if seen[name][seq] {
				doubled++
			}
			if seq <= last[string(r.Key)] {
				disordered++
			}
			seen[name][seq], last[string(r.Key)] = true, seq
		})
	}
	lost := 0
	for _, g := range f.all {
		for seq := uint64(1); seq <= g.last; seq++ {
			if !seen[g.name][seq] {
				lost++
			}
		}
	}
	f.b.ReportMetric(float64(lost), "lost")
	f.b.ReportMetric(float64(doubled), "doubled")
	if lost+doubled+disordered > 0 {
		f.b.Errorf("of %d readings %d are lost, %d doubled and %d out of order", f.accepted.Load(), lost, doubled, disordered)
	}
}
