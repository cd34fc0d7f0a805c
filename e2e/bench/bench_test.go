// Package bench measures the real binaries against a peer or a limit of the
// same run; `make bench` runs it. Its figures are in the README files.
package bench

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/weirmq/weir/e2e/harness"
	"github.com/weirmq/weir/firmware-sim/audit"
	"github.com/weirmq/weir/firmware-sim/device"
	"github.com/weirmq/weir/storage/file"
)

// BenchmarkIngest: QoS 1 messages acknowledged per second by weir-edge, which
// syncs before it acknowledges, by mochi without any log, and by mochi with a
// sync per message.
func BenchmarkIngest(b *testing.B) {
	for _, load := range []struct {
		name              string
		devices, inFlight int
		weir, plain, slow int // messages in all
	}{
		{"1x100", 1, 100, 400_000, 400_000, 10_000},
		{"200x1", 200, 1, 400_000, 400_000, 10_000},
	} {
		b.Run(load.name, func(b *testing.B) {
			for b.Loop() {
				plain := ingest(b, startPeer(b), load.devices, load.inFlight, load.plain)
				weir := ingest(b, startEdge(b), load.devices, load.inFlight, load.weir)
				slow := ingest(b, startPeer(b, filepath.Join(b.TempDir(), "log")), load.devices, load.inFlight, load.slow)
				b.ReportMetric(weir, "weir-msg/s")
				b.ReportMetric(plain, "mochi-msg/s")
				b.ReportMetric(slow, "sync-each-msg/s")
				b.ReportMetric(weir/plain, "of-mochi")
				b.ReportMetric(weir/slow, "x-sync-each")
			}
		})
	}
}

func ingest(b *testing.B, broker string, devices, inFlight, messages int) float64 {
	b.Helper()
	f := device.Fleet{Devices: devices, Prefix: "dev", Seed: 1, Brokers: []string{broker},
		Topic: "sensors/{device}/telemetry", QoS: []byte{1}, Versions: []byte{4}}
	f.InFlight, f.Count = inFlight, messages/devices
	ctx, cancel := context.WithTimeout(b.Context(), 2*time.Minute)
	defer cancel()
	var stats device.Stats
	began := time.Now()
	f.Run(ctx, &stats)
	if got := stats.Acked.Load(); got != int64(messages) {
		b.Fatalf("%d of %d messages acked by %s", got, messages, broker)
	}
	return float64(messages) / time.Since(began).Seconds()
}

// startPeer runs e2e/bench/peer until the benchmark ends.
func startPeer(b *testing.B, args ...string) string {
	b.Helper()
	binary := filepath.Join(b.TempDir(), "peer")
	if out, err := exec.Command("go", "build", "-o", binary, "./peer").CombinedOutput(); err != nil {
		b.Fatalf("build the peer: %v\n%s", err, out)
	}
	cmd := exec.Command(binary, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	var addr string
	if _, err := fmt.Fscan(bufio.NewReader(out), &addr); err != nil {
		b.Fatal(err)
	}
	return addr
}

// startEdge runs weir-edge without a cloud until the benchmark ends.
func startEdge(b *testing.B) string {
	b.Helper()
	dir := b.TempDir()
	p, err := harness.Start(dir, "edge", "weir-edge", "--data", filepath.Join(dir, "edge"), "--mqtt", "127.0.0.1:0", "--http", "off")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(p.Kill)
	return p.Addr["mqtt"]
}

// openCluster starts a cloud and an edge until the benchmark ends.
func openCluster(b *testing.B) *harness.Cluster {
	b.Helper()
	c := &harness.Cluster{Dir: b.TempDir()}
	if err := c.Open(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := c.Close(); err != nil {
			b.Error(err)
		}
	})
	return c
}

// BenchmarkLatency: from PUBLISH to a Kafka consumer at 1,000 readings a
// second, as a multiple of one sync and one Create of the bucket on the same
// disk.
func BenchmarkLatency(b *testing.B) {
	for b.Loop() {
		c := openCluster(b)
		limit50, limit99 := diskLimit(b, c.Dir)
		auditor := audit.New()
		ctx, cancel := context.WithCancel(b.Context())
		consumed := make(chan error, 1)
		go func() { consumed <- c.Reader("").Run(ctx, auditor, nil) }()
		f := c.Fleet(50, 50*time.Millisecond, 1)
		f.Count, f.Event = 400, auditor.Event
		var stats device.Stats
		f.Run(b.Context(), &stats)
		for auditor.Missing() > 0 {
			<-time.After(10 * time.Millisecond)
		}
		cancel()
		if err := <-consumed; err != nil {
			b.Fatal(err)
		}
		p50, p99 := auditor.Latency(15_000) // the first readings create the topic
		b.ReportMetric(ms(p50), "p50-ms")
		b.ReportMetric(ms(p99), "p99-ms")
		b.ReportMetric(ms(limit50), "limit-p50-ms")
		b.ReportMetric(ms(limit99), "limit-p99-ms")
		b.ReportMetric(float64(p50)/float64(limit50), "x-limit-p50")
		b.ReportMetric(float64(p99)/float64(limit99), "x-limit-p99")
	}
}

// diskLimit is the time of one sync of a small append and one Create of the
// file bucket.
func diskLimit(b *testing.B, dir string) (p50, p99 time.Duration) {
	b.Helper()
	log, err := os.Create(filepath.Join(dir, "limit"))
	if err != nil {
		b.Fatal(err)
	}
	defer log.Close()
	bucket, err := file.Open(filepath.Join(dir, "limit-bucket"))
	if err != nil {
		b.Fatal(err)
	}
	var took []time.Duration
	for i := range 300 {
		began := time.Now()
		if _, err := log.Write(make([]byte, 1<<10)); err != nil {
			b.Fatal(err)
		}
		if err := log.Sync(); err != nil {
			b.Fatal(err)
		}
		if err := bucket.Create(b.Context(), fmt.Sprintf("a/%d", i), make([]byte, 4<<10)); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	return took[len(took)/2], took[len(took)*99/100]
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// BenchmarkMemory: resident memory of weir-edge when idle, at 1,000 readings a
// second, and with a million readings buffered behind a link that is down.
func BenchmarkMemory(b *testing.B) {
	for b.Loop() {
		c := openCluster(b)
		rss := func(name string) {
			bytes, err := c.Edge.RSS()
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(bytes)/(1<<20), name)
		}
		rss("idle-MiB")
		var stats device.Stats
		f := c.Fleet(50, 50*time.Millisecond, 1)
		f.Count = 200
		f.Run(b.Context(), &stats)
		rss("loaded-MiB")
		c.Link.Cut()
		f = c.Fleet(50, 0, 1)
		f.Prefix, f.Count = "backlog", 20_000
		f.Run(b.Context(), &stats)
		rss("million-buffered-MiB")
		c.Link.Heal()
	}
}

// BenchmarkBinaries: bytes of the stripped binaries by architecture.
func BenchmarkBinaries(b *testing.B) {
	for b.Loop() {
		for _, arch := range []struct{ name, goarch, goarm string }{{"amd64", "amd64", ""}, {"arm64", "arm64", ""}, {"armv6", "arm", "6"}} {
			for _, pkg := range []string{"edge/weir-edge", "cloud/weir-cloud"} {
				out := filepath.Join(b.TempDir(), arch.name)
				cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", out, "./"+pkg)
				cmd.Dir = "../.."
				cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch.goarch, "GOARM="+arch.goarm)
				if log, err := cmd.CombinedOutput(); err != nil {
					b.Fatalf("build %s for %s: %v\n%s", pkg, arch.name, err, log)
				}
				info, err := os.Stat(out)
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(info.Size())/(1<<20), filepath.Base(pkg)+"-"+arch.name+"-MiB")
			}
		}
	}
}
