package bench

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirmq/weir/e2e/harness"
	"github.com/weirmq/weir/firmware-sim/device"
)

// acks are the times from PUBLISH to PUBACK.
type acks struct {
	mu   sync.Mutex
	sent map[string]time.Time // guarded by mu
	took []time.Duration      // guarded by mu
}

func (a *acks) event(r device.Reading, o device.Outcome) {
	a.mu.Lock()
	defer a.mu.Unlock()
	key := fmt.Sprint(r.Device, " ", r.N)
	switch began, known := a.sent[key]; {
	case !known:
		a.sent[key] = time.Now()
	case o == device.Acked:
		a.took = append(a.took, time.Since(began))
		delete(a.sent, key)
	}
}

func (a *acks) p99() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.took) == 0 {
		return 0
	}
	slices.Sort(a.took)
	return a.took[len(a.took)*99/100]
}

// BenchmarkDrain: a gateway has a million readings buffered when the link comes back, and
// 500 more come each second. How fast the backlog goes, what it costs both ends in
// processor time, and how long a device waits for its PUBACK meanwhile.
func BenchmarkDrain(b *testing.B) {
	const backlog = 1_000_000
	for b.Loop() {
		c := openCluster(b)
		var stats device.Stats
		f := c.Fleet(50, 50*time.Millisecond, 1) // the topic exists
		f.Count = 20
		f.Run(b.Context(), &stats)
		c.Link.Cut()
		f = c.Fleet(50, 0, 1)
		f.Prefix, f.Count = "backlog", backlog/50
		f.Run(b.Context(), &stats)

		live := &acks{sent: make(map[string]time.Time)}
		ctx, cancel := context.WithCancel(b.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			f := c.Fleet(50, 100*time.Millisecond, 1)
			f.Prefix, f.Count, f.Event = "live", 100_000, live.event
			f.Run(ctx, &stats)
		}()
		edge, cloud := cpuOf(b, c.Edge), cpuOf(b, c.Cloud)
		began := time.Now()
		c.Link.Heal()
		for waiting(b, c) > 2 {
			<-time.After(50 * time.Millisecond)
		}
		took := time.Since(began)
		edge, cloud = cpuOf(b, c.Edge)-edge, cpuOf(b, c.Cloud)-cloud
		cancel()
		<-ended
		b.ReportMetric(backlog/took.Seconds(), "drained/s")
		b.ReportMetric(edge.Seconds(), "edge-cpu-s/M")
		b.ReportMetric(cloud.Seconds(), "cloud-cpu-s/M")
		b.ReportMetric(ms(live.p99()), "puback-p99-ms")
	}
}

func cpuOf(b *testing.B, p *harness.Process) time.Duration {
	b.Helper()
	cpu, err := harness.CPU(p.Pid())
	if err != nil {
		b.Fatal(err)
	}
	return cpu
}

// waiting is the age in seconds of the oldest reading that the cloud does not have.
func waiting(b *testing.B, c *harness.Cluster) float64 {
	b.Helper()
	resp, err := http.Get(c.EdgeHTTP() + "/metrics")
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(body)) {
		if rest, found := strings.CutPrefix(line, "weir_edge_oldest_unacked_seconds "); found {
			age, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
			if err != nil {
				b.Fatal(err)
			}
			return age
		}
	}
	b.Fatal("the gateway does not say how old its oldest reading is")
	return 0
}
