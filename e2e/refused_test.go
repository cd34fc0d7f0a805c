package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirmq/weir/e2e/harness"
)

// deadLetter is a line of /dead-letters.
type deadLetter struct {
	Kind   string `json:"kind"`
	Client string `json:"client"`
	Topic  string `json:"topic"`
	Reason string `json:"reason"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
	Value  []byte `json:"value"`
}

// readDeadLetters asks a gateway for its dead letters.
func readDeadLetters(t *testing.T, c *harness.Cluster) (out []deadLetter) {
	t.Helper()
	token, err := os.ReadFile(filepath.Join(c.Dir, "edge", "admin-token"))
	if err != nil {
		t.Fatal(err)
	}
	for {
		r, err := http.NewRequest("GET", fmt.Sprintf("http://%s/dead-letters?skip=%d", c.Edge.Addr["http"], len(out)), nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		before := len(out)
		for d := json.NewDecoder(answer.Body); d.More(); {
			var l deadLetter
			if err := d.Decode(&l); err != nil {
				t.Fatal(err)
			}
			out = append(out, l)
		}
		answer.Body.Close()
		if len(out) == before {
			return out
		}
	}
}

// TestRefusedForGood: mosquitto's client sends, in each version of MQTT, messages that are
// refused for good, and good ones behind them on the same connection: the good ones arrive,
// and the others are dead letters, also after a restart.
func TestRefusedForGood(t *testing.T) {
	pub := need(t, "mosquitto_pub", "mosquitto-clients")
	c := open(t, &harness.Cluster{})
	host, port, err := net.SplitHostPort(c.MQTT())
	if err != nil {
		t.Fatal(err)
	}
	send := func(version, id, topic, input string, qos int) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		cmd := exec.CommandContext(ctx, pub, "-h", host, "-p", port, "-V", version, "-i", id, "-q", fmt.Sprint(qos), "-t", topic, "-s")
		cmd.Stdin = strings.NewReader(input)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("version %s QoS %d to %.20s: %v\n%s", version, qos, topic, err, out)
		}
	}
	large := strings.Repeat("x", 951_000)
	deep := strings.Repeat("x/", 200) + "x"
	letters := 0
	for _, version := range []string{"31", "311"} {
		for qos := range 3 {
			id := fmt.Sprintf("v%s-q%d", version, qos)
			for topic, input := range map[string]string{"$SYS/x": "bad", deep: "bad", "sensors/large": large} {
				send(version, id, topic, input, qos)
				letters++
			}
			send(version, id, "sensors/"+id, "good", qos)
		}
	}
	check := func() {
		t.Helper()
		var got []deadLetter
		// QoS 0 has no answer: wait for it.
		within(t, 20*time.Second, fmt.Sprint(letters, " letters"), func() bool {
			got = readDeadLetters(t, c)
			return len(got) >= letters
		})
		if len(got) != letters {
			t.Errorf("%d dead letters, want %d", len(got), letters)
		}
		for _, l := range got {
			if l.Kind != "refused-by-gateway" || !strings.HasPrefix(l.Client, "v31") || l.Reason == "" {
				t.Errorf("letter %.200v", l)
			}
			if l.Topic == "sensors/large" && (l.Size != 951_000 || len(l.Value) != 1024 || len(l.SHA256) != 64) {
				t.Errorf("large letter: %d bytes of %d, hash %q", len(l.Value), l.Size, l.SHA256)
			}
		}
	}
	check()
	c.Edge.Kill()
	if err := c.StartEdge(); err != nil {
		t.Fatal(err)
	}
	check()
	good := readUntil(t, c, "sensors", func(all []*kgo.Record) bool { return len(all) >= 6 })
	for _, r := range good {
		if string(r.Value) != "good" {
			t.Errorf("record %.20q of key %q", r.Value, r.Key)
		}
	}
}

// TestLettersGiveWay: a device that sends more than its share of letters keeps the newest,
// and topic weir.gaps says how many went.
func TestLettersGiveWay(t *testing.T) {
	pub := need(t, "mosquitto_pub", "mosquitto-clients")
	c := open(t, &harness.Cluster{})
	host, port, err := net.SplitHostPort(c.MQTT())
	if err != nil {
		t.Fatal(err)
	}
	const sent = 30
	var lines strings.Builder
	for range sent {
		lines.WriteString(strings.Repeat("x", 100_000) + "\n")
	}
	cmd := exec.Command(pub, "-h", host, "-p", port, "-i", "loud", "-q", "1", "-t", "$SYS/x", "-l")
	cmd.Stdin = strings.NewReader(lines.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	kept := len(readDeadLetters(t, c))
	if kept == 0 || kept > 10 {
		t.Fatalf("%d letters of 100 kB are kept, of 1 MiB", kept)
	}
	told := 0
	readUntil(t, c, "weir.gaps", func(records []*kgo.Record) bool {
		told = 0
		for _, r := range records {
			var gap struct {
				Cause string `json:"cause"`
			}
			if err := json.Unmarshal(r.Value, &gap); err != nil {
				t.Fatalf("%s: %v", r.Value, err)
			}
			n := 0
			if _, err := fmt.Sscanf(gap.Cause, `%d refused letters of client "loud"`, &n); err != nil {
				t.Fatalf("%s: %v", r.Value, err)
			}
			told += n
		}
		t.Logf("%d kept, %d reported in %d records", kept, told, len(records))
		return told+kept >= sent
	})
	if told+kept != sent {
		t.Errorf("%d reported, %d kept, of %d", told, kept, sent)
	}
}

// readUntil reads a topic from its beginning until there is enough.
func readUntil(t *testing.T, c *harness.Cluster, topic string, enough func([]*kgo.Record) bool) (out []*kgo.Record) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.Kafka()), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for len(out) == 0 || !enough(out) {
		fetches := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("%d records of %s are not enough", len(out), topic)
		}
		out = append(out, fetches.Records()...)
	}
	return out
}
