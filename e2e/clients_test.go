package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirmq/weir/e2e/harness"
	"github.com/weirmq/weir/firmware-sim/device"
)

// command runs a client program to its end, at most for a minute.
func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, stderr.String())
	}
	return string(out)
}

// sendReadings sends count readings of 10 devices and waits for the acks.
func sendReadings(t *testing.T, c *harness.Cluster, count int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	fleet := c.Fleet(10, 0, 1, 2)
	fleet.Count = count
	var stats device.Stats
	fleet.Run(ctx, &stats)
	if got := stats.Acked.Load(); got != int64(10*count) {
		t.Fatalf("%d of %d readings acked", got, 10*count)
	}
}

// TestKcat: kcat reads what sensors sent, alone and in a group; keys are MQTT
// topics, headers carry what MQTT 5 knows of a message.
func TestKcat(t *testing.T) {
	kcat := need(t, "kcat", "kcat")
	c := open(t, &harness.Cluster{})
	sendReadings(t, c, 20)
	within(t, 30*time.Second, "the topic", func() bool {
		out, _, err := c.Weirctl("topics")
		return err == nil && strings.Contains(out, "sensors")
	})
	read := func() []string {
		return strings.Fields(command(t, kcat, "-q", "-b", c.Kafka(), "-C", "-t", "sensors", "-o", "beginning", "-e", "-f", "%k\\n"))
	}
	within(t, 30*time.Second, "200 readings at kcat", func() bool { return len(read()) == 200 })
	for _, key := range read() {
		if !strings.HasPrefix(key, "sensors/dev-") || !strings.HasSuffix(key, "/telemetry") {
			t.Errorf("key %q is not the MQTT topic", key)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	group := exec.CommandContext(ctx, kcat, "-q", "-b", c.Kafka(), "-X", "auto.offset.reset=earliest", "-c", "200", "-f", "%k\\n", "-G", "kcats", "sensors")
	out, err := group.Output()
	if got := len(strings.Fields(string(out))); err != nil || got != 200 {
		t.Errorf("the group read %d records: %v", got, err)
	}
	listed, stderr, err := c.Weirctl("groups", "kcats", "-o", "json")
	if err != nil || !strings.Contains(listed, `"lag": 0`) {
		t.Errorf("weirctl groups: %v\n%s%s", err, listed, stderr)
	}
}

// TestProperties: MQTT 5 properties arrive as Kafka headers, and local
// subscribers get the message as well.
func TestProperties(t *testing.T) {
	pub, kcat := need(t, "mosquitto_pub", "mosquitto-clients"), need(t, "kcat", "kcat")
	c := open(t, &harness.Cluster{})
	host, port, _ := strings.Cut(c.MQTT(), ":")
	command(t, pub, "-h", host, "-p", port, "-V", "5", "-i", "prop-client", "-q", "1", "-t", "plant/a/state", "-m", "on",
		"-D", "publish", "content-type", "text/plain", "-D", "publish", "response-topic", "replies/1",
		"-D", "publish", "correlation-data", "42", "-D", "publish", "user-property", "site", "north",
		"-D", "publish", "user-property", "weir.source", "forged")
	var out string
	within(t, 30*time.Second, "the message in Kafka", func() bool {
		out, _, _ = c.Weirctl("consume", "plant", "--count", "1", "-o", "json")
		return out != ""
	})
	for _, want := range []string{`"key":"plant/a/state"`, `"value":"on"`,
		`{"name":"content-type","value":"text/plain"}`, `{"name":"weir.reply-to","value":"replies/1"}`,
		`{"name":"weir.correlation-id","value":"42"}`, `{"name":"site","value":"north"}`,
		`{"name":"weir.gateway","value":"gw-1"}`, `{"name":"weir.client","value":"prop-client"}`} {
		if !strings.Contains(out, want) {
			t.Errorf("no %s in %s", want, out)
		}
	}
	if strings.Contains(out, "forged") {
		t.Errorf("a device's weir.source is in %s", out)
	}
	if got := command(t, kcat, "-q", "-b", c.Kafka(), "-C", "-t", "plant", "-o", "beginning", "-e", "-f", "%h"); !strings.Contains(got, "site=north") {
		t.Errorf("kcat sees headers %q", got)
	}
}

// TestRebalances: franz-go consumers join and leave a group while readings
// come; together they read all of them.
func TestRebalances(t *testing.T) {
	c := open(t, &harness.Cluster{})
	sendReadings(t, c, 10)
	var mu sync.Mutex
	seen := make(map[string]bool)
	consume := func(ctx context.Context) error {
		client, err := kgo.NewClient(kgo.SeedBrokers(c.Kafka()), kgo.ConsumerGroup("rebalanced"), kgo.ConsumeTopics("sensors"),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.MetadataMinAge(100*time.Millisecond), kgo.MetadataMaxAge(time.Second))
		if err != nil {
			return err
		}
		defer client.Close()
		for ctx.Err() == nil {
			client.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
				mu.Lock()
				defer mu.Unlock()
				seen[fmt.Sprintf("%d/%d", r.Partition, r.Offset)] = true
			})
		}
		return nil
	}
	count := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(seen)
	}
	first, stopFirst := context.WithCancel(t.Context())
	second, stopSecond := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	start := func(ctx context.Context) {
		wg.Go(func() {
			if err := consume(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	defer wg.Wait()
	defer stopSecond()
	defer stopFirst()
	start(first)
	within(t, 30*time.Second, "the first 100", func() bool { return count() == 100 })
	start(second)
	sendReadings(t, c, 20)
	within(t, 30*time.Second, "200 more for two members", func() bool { return count() == 300 })
	stopFirst()
	sendReadings(t, c, 10)
	within(t, 60*time.Second, "100 more for the one that is left", func() bool { return count() == 400 })
}

// TestAuditorTurnsRed: an auditor that cannot fail proves nothing. One reading
// is appended twice, another is swallowed; verify must say so and end with 1.
func TestAuditorTurnsRed(t *testing.T) {
	for _, c := range []struct {
		name    string
		numbers []int
		want    string
		code    bool
	}{
		{"clean", []int{1, 2, 3}, `"lost":0,"reported":0,"duplicated":0`, true},
		{"doubled", []int{1, 2, 2, 3}, `"duplicated":1`, false},
		{"swallowed", []int{1, 3}, `"lost":1`, false},
		{"swapped", []int{1, 3, 2}, `"disordered":1`, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, err := auditOf(t, c.numbers)
			if (err == nil) != c.code || !strings.Contains(out, c.want) {
				t.Errorf("verify: %v\n%s\nwant %s", err, out, c.want)
			}
		})
	}
}

// auditOf appends the readings with these numbers, of a device that sent 1 to
// 3, and audits them.
func auditOf(t *testing.T, numbers []int) (string, error) {
	dir := t.TempDir()
	p, err := harness.Start(dir, "cloud", "weir-cloud", "--data", filepath.Join(dir, "cloud"), "--sync", "off", "--kafka", "127.0.0.1:0", "--http", "off")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	client, err := kgo.NewClient(kgo.SeedBrokers(p.Addr["kafka"]), kgo.DefaultProduceTopic("sensors"), kgo.AllowAutoTopicCreation())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for _, n := range numbers {
		value, err := json.Marshal(map[string]any{"device": "d", "n": n, "t": time.Now().UnixMicro()})
		if err != nil {
			t.Fatal(err)
		}
		r := &kgo.Record{Key: []byte("d"), Value: value,
			Headers: []kgo.RecordHeader{{Key: "weir.source", Value: fmt.Appendf(nil, "00/live/%d", n)}}}
		if err := client.ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	sent := filepath.Join(dir, "sent")
	ledger, err := createLedger(sent)
	if err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= 3; n++ {
		ledger.Event(device.Reading{Device: "d", N: n, QoS: 1, Sends: 1, Acked: true}, device.Acked)
	}
	if err := ledger.Close(); err != nil {
		t.Fatal(err)
	}
	out, stderr, err := harness.Run("firmware-sim", "verify", "--kafka", p.Addr["kafka"], "--sent", sent, "--wait", "3s")
	return out + stderr, err
}
