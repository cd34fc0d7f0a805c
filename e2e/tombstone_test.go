package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/e2e/harness"
)

// TestTombstone: a device that clears its retained value deletes its key in a
// compacted topic: the value is null in Kafka, and compaction takes the key away.
func TestTombstone(t *testing.T) {
	pub := need(t, "mosquitto_pub", "mosquitto-clients")
	routes := filepath.Join(t.TempDir(), "routes.yaml")
	writeFile(t, routes, []byte("routes:\n  - {filter: state/#, topic: states, tombstone: true}\n"))
	c := open(t, &harness.Cluster{EdgeArgs: []string{"--routes", routes}, CloudArgs: []string{"--checkpoint-interval", "1s"}})
	if out, stderr, err := c.Weirctl("topics", "create", "states", "--partitions", "1", "--topic-config", "cleanup.policy=compact",
		"--topic-config", "delete.retention.ms=0", "--topic-config", "min.cleanable.dirty.ratio=0"); err != nil {
		t.Fatalf("%v\n%s%s", err, out, stderr)
	}
	host, port, _ := strings.Cut(c.MQTT(), ":")
	send := func(args ...string) {
		command(t, pub, append([]string{"-h", host, "-p", port, "-q", "1", "-r"}, args...)...)
	}
	send("-t", "state/1", "-m", "on")
	send("-t", "state/2", "-m", "on")
	send("-t", "state/1", "-n") // an empty payload
	read := func() (all []string) {
		for _, r := range readTopic(t, c, "states") {
			all = append(all, fmt.Sprintf("%s=%s,%v", r.Key, r.Value, r.Value == nil))
		}
		return all
	}
	within(t, 30*time.Second, "the null value", func() bool {
		return strings.Contains(strings.Join(read(), " "), "state/1=,true")
	})
	n := 0
	within(t, time.Minute, "compaction", func() bool {
		n++
		send("-t", "state/3", "-m", fmt.Sprint(n)) // what comes later makes what is before it old enough
		all := strings.Join(read(), " ")
		return !strings.Contains(all, "state/1=") && strings.Contains(all, "state/2=on,false")
	})
}
