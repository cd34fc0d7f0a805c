package zero

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirmq/weir/e2e/harness"
)

// produce writes records with the values prefix-0, prefix-1, …, each of which is
// acknowledged. acked, if set, is called behind each.
func (a *activator) produce(prefix string, n int, acked func(i int)) {
	a.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(a.kafka), kgo.DefaultProduceTopic("readings"), kgo.AllowAutoTopicCreation(), kgo.MetadataMinAge(100*time.Millisecond))
	if err != nil {
		a.t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for i := range n {
		if err := client.ProduceSync(ctx, kgo.StringRecord(fmt.Sprint(prefix, "-", i))).FirstErr(); err != nil {
			a.t.Fatal(err)
		}
		if acked != nil {
			acked(i)
		}
	}
}

// read returns how often each value is in a topic, up to the first one for which last
// returns true.
func (a *activator) read(topic string, last func(value string, read int) bool) map[string]int {
	a.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(a.kafka), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		a.t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	values := make(map[string]int)
	for read := 0; ; {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			a.t.Fatalf("%d records of %s were read, and the last one did not come", read, topic)
		}
		for r := range fetches.RecordsAll() {
			values[string(r.Value)]++
			if read++; last(string(r.Value), read) {
				return values
			}
		}
	}
}

// TestClients: producers wake a node that ended because nobody used it. It is killed while
// one of them writes. Nothing that was acknowledged is lost, or there twice.
func TestClients(t *testing.T) {
	a := newActivator(t, "--bucket", "file:"+filepath.Join(t.TempDir(), "bucket"))
	const each = 40
	a.produce("first", each, nil)
	a.wakes()
	a.sleeps()
	a.produce("killed", each, func(i int) {
		if i == each/2 {
			a.signal(syscall.SIGKILL)
		}
	})
	a.wakes()
	if code := a.exited(); code != -1 {
		t.Fatalf("the node was to be killed, and ended with %d", code)
	}
	a.wakes()
	a.sleeps()
	a.produce("last", each, nil)
	a.wakes()
	a.sleeps()
	got := a.read("readings", func(value string, _ int) bool { return value == fmt.Sprint("last-", each-1) })
	a.wakes()
	for _, prefix := range []string{"first", "killed", "last"} {
		for i := range each {
			if n := got[fmt.Sprint(prefix, "-", i)]; n != 1 {
				t.Errorf("%s-%d was acknowledged and is there %d times", prefix, i, n)
			}
		}
	}
}

// TestGateway: a gateway that has kept readings while it was off wakes the node with its
// first packet, and loses nothing.
func TestGateway(t *testing.T) {
	a := newActivator(t, "--bucket", "file:"+filepath.Join(t.TempDir(), "bucket"))
	a.produce("hello", 1, nil) // the node makes a join token
	a.wakes()
	gateway := func() *harness.Process {
		p, err := harness.Start(a.dir, "edge", "weir-edge", "--data", filepath.Join(a.dir, "edge"), "--cloud", a.sync, "--gateway-id", "gw",
			"--join-file", filepath.Join(a.data(), "join-token"), "--mqtt", "127.0.0.1:0", "--http", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Kill)
		return p
	}
	publish := func(p *harness.Process, device string) {
		out, stderr, err := harness.Run("firmware-sim", "--broker", "mqtt://"+p.Addr["mqtt"], "--devices", "1", "--prefix", device, "--count", "20", "--interval", "1ms", "--qos", "1", "--topic", "sensors/{device}/telemetry")
		if err != nil {
			t.Fatal(out, stderr, err)
		}
	}
	p := gateway()
	publish(p, "early")
	a.read("sensors", func(_ string, read int) bool { return read == 20 })
	publish(p, "kept")
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	a.sleeps()

	p = gateway() // nobody else comes
	a.wakes()
	publish(p, "late")
	got := a.read("sensors", func(_ string, read int) bool { return read == 60 })
	for value, n := range got {
		if n != 1 {
			t.Errorf("%s is there %d times", strings.TrimSpace(value), n)
		}
	}
	if err := p.Stop(); err != nil {
		t.Error(err)
	}
	a.sleeps()
}

// TestSocketsThatDoNotFit: the node names the socket, and ends with the exit code that no
// service manager answers with a restart.
func TestSocketsThatDoNotFit(t *testing.T) {
	a := newActivator(t, "--bucket", "file:"+filepath.Join(t.TempDir(), "bucket"), "--sync", "off")
	wake(t, a.kafka)
	a.wakes()
	if code := a.exited(); code != 78 {
		t.Errorf("exit code %d", code)
	}
	a.says(`no listener is set for sync (UDP)`)
}
