package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirmq/weir/e2e/harness"
)

// readTopic reads all records of a topic that are there.
func readTopic(t *testing.T, c *harness.Cluster, topic string) (all []*kgo.Record) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(c.Kafka()), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	for ctx.Err() == nil {
		client.PollFetches(ctx).EachRecord(func(r *kgo.Record) { all = append(all, r) })
	}
	return all
}

// TestOrderOfANode: Sparkplug numbers the messages of a node and its devices in one
// row. With the sample routes a consumer of the topic sees each row in order; with the
// default, under which each MQTT topic is a key, it does not.
func TestOrderOfANode(t *testing.T) {
	pub := need(t, "mosquitto_pub", "mosquitto-clients")
	routes, err := filepath.Abs("../configs/routes/sparkplug.yaml")
	if err != nil {
		t.Fatal(err)
	}
	const nodes, each = 4, 32
	for _, args := range [][]string{{"--routes", routes}, nil} {
		c := open(t, &harness.Cluster{EdgeArgs: args})
		host, port, _ := strings.Cut(c.MQTT(), ":")
		for node := range nodes {
			for seq := range each {
				topic := fmt.Sprintf("spBv1.0/plant/DDATA/node-%d/device-%d", node, seq%4)
				if seq%5 == 0 {
					topic = fmt.Sprintf("spBv1.0/plant/NDATA/node-%d", node)
				}
				command(t, pub, "-h", host, "-p", port, "-q", "1", "-t", topic, "-m", strconv.Itoa(seq))
			}
		}
		name := "sparkplug"
		if args == nil {
			name = "spBv1.0"
		}
		var all []*kgo.Record
		within(t, 30*time.Second, "all records", func() bool {
			all = readTopic(t, c, name)
			return len(all) == nodes*each
		})
		spread, breaks := make(map[string]map[int32]bool), 0
		last := make(map[string]int)
		for _, r := range all {
			topic := string(r.Key)
			for _, h := range r.Headers {
				if h.Key == "weir.mqtt-topic" {
					topic = string(h.Value)
				}
			}
			node := strings.Split(topic, "/")[3]
			seq, err := strconv.Atoi(string(r.Value))
			if err != nil {
				t.Fatal(err)
			}
			if spread[node] == nil {
				spread[node] = make(map[int32]bool)
				last[node] = -1
			}
			if spread[node][r.Partition] = true; seq != last[node]+1 {
				breaks++
			}
			last[node] = seq
		}
		parts := 0
		for _, p := range spread {
			parts = max(parts, len(p))
		}
		t.Logf("%s: %d breaks, at most %d partitions for a node", name, breaks, parts)
		if sample := args != nil; sample != (parts == 1) || sample && breaks > 0 {
			t.Errorf("%s: %d breaks, at most %d partitions for a node", name, breaks, parts)
		}
	}
}

// TestTooManyTopics: beyond a limit messages go to topic unrouted; what a gateway had
// accepted before it heard of the cloud's limit is a dead letter that names it.
func TestTooManyTopics(t *testing.T) {
	pub := need(t, "mosquitto_pub", "mosquitto-clients")
	c := open(t, &harness.Cluster{EdgeArgs: []string{"--max-topics", "3"}, CloudArgs: []string{"--gateway-topics", "2"}})
	host, port, _ := strings.Cut(c.MQTT(), ":")
	send := func(topic, payload string) {
		t.Helper()
		if out, err := exec.Command(pub, "-h", host, "-p", port, "-i", "c-7", "-q", "1", "-t", topic, "-m", payload).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	for i := range 5 {
		send(fmt.Sprintf("t%d/x", i), "first")
	}
	dead := func() []byte {
		token, err := os.ReadFile(filepath.Join(c.Dir, "edge", "admin-token"))
		if err != nil {
			t.Fatal(err)
		}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+c.Edge.Addr["http"]+"/dead-letters", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return body
	}
	var body []byte
	within(t, 30*time.Second, "a dead letter", func() bool { body = dead(); return len(body) > 0 })
	var letter struct{ Topic, Reason, Client string }
	if err := json.Unmarshal(body, &letter); err != nil {
		t.Fatal(err)
	}
	if letter.Client != "c-7" || !strings.Contains(letter.Reason, "--gateway-topics 2") {
		t.Errorf("the dead letter says %+v", letter)
	}
	send(letter.Topic+"/x", "second")
	within(t, 30*time.Second, "all records", func() bool {
		var got []string
		for _, r := range readTopic(t, c, "unrouted") {
			got = append(got, string(r.Key)+"="+string(r.Value))
		}
		all := strings.Join(got, " ")
		return len(got) == 3 && strings.Contains(all, "t3/x=first") && strings.Contains(all, "t4/x=first") && strings.Contains(all, letter.Topic+"/x=second")
	})
}
