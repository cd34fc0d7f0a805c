package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/e2e/harness"
	"github.com/weirmq/weir/firmware-sim/audit"
	"github.com/weirmq/weir/firmware-sim/device"
)

// gateways is devices that send numbered readings to gateways, each of which knows all
// nodes. Every reading that a device was told is safe must be in the topic once, and
// those of a device in order.
type gateways struct {
	t       *testing.T
	nodes   *nodes
	auditor *audit.Auditor
	fleet   device.Fleet
}

func newGateways(t *testing.T, n *nodes) *gateways {
	t.Helper()
	g := &gateways{t: t, nodes: n, auditor: audit.New()}
	var token string
	deadline := time.Now().Add(30 * time.Second)
	for {
		var err error
		if token, err = n.token(); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		pause(t.Context(), 20*time.Millisecond)
	}
	var brokers []string
	for i := range 2 {
		name := fmt.Sprintf("gw%d", i+1)
		args := []string{"--data", filepath.Join(n.dir, name), "--gateway-id", name, "--join", strings.TrimSpace(token),
			"--source-header", "--mqtt", "127.0.0.1:0", "--http", "127.0.0.1:0"}
		for _, address := range n.sync() {
			args = append(args, "--cloud", address)
		}
		p, err := harness.Start(n.dir, name, "weir-edge", args...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := p.Stop(); err != nil {
				t.Errorf("stop %s: %v\n%s", name, err, p.Tail(10))
			}
		})
		brokers = append(brokers, p.Addr["mqtt"])
	}
	g.fleet = device.Fleet{Devices: 20, Prefix: "dev", Seed: 1, Brokers: brokers, Topic: "sensors/{device}/telemetry", QoS: []byte{1}, Versions: []byte{4, 5}}
	g.fleet.Interval, g.fleet.InFlight, g.fleet.Event = 40*time.Millisecond, 64, g.auditor.Event
	return g
}

func (g *gateways) run(ctx context.Context) {
	var stats device.Stats
	g.fleet.Run(ctx, &stats)
}

func (g *gateways) judge(ctx context.Context) {
	reader := audit.Reader{Brokers: g.nodes.kafka(), Topic: "sensors"}
	if err := reader.Settle(ctx, g.auditor, 30*time.Second); err != nil {
		g.t.Error(err)
		return
	}
	report := g.auditor.Report()
	line, err := json.Marshal(report)
	if err != nil {
		g.t.Error(err)
	}
	g.t.Logf("gateways: %s", line)
	if !report.Clean() || report.Reported != 0 || report.Acked == 0 {
		g.t.Errorf("readings: %d acknowledged, %d lost, %d duplicated, %d in disorder, %d reported as lost", report.Acked, report.Lost, report.Duplicated, report.Disordered, report.Reported)
	}
}
