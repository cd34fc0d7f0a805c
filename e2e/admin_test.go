package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/admin"
	"github.com/weirmq/weir/e2e/harness"
	"github.com/weirmq/weir/edge"
)

// TestBoundGateway: what a gateway may not write is refused batch by batch, kept as
// dead letters and reported; the rest of its lane goes on. The dead letters are read
// with the gateway's own admin token, and with nothing less.
func TestBoundGateway(t *testing.T) {
	pub := need(t, "mosquitto_pub", "mosquitto-clients")
	c := open(t, &harness.Cluster{})
	host, port, _ := strings.Cut(c.MQTT(), ":")
	publish := func(topic string) {
		t.Helper()
		command(t, pub, "-h", host, "-p", port, "-q", "1", "-t", topic+"/x", "-m", "reading")
	}
	records := func(topic string) int { return recordsOf(c, topic) }
	letters := func(token string) (int, []edge.DeadLetter) { return deadLetters(t, c, token) }
	bind := func(args ...string) {
		t.Helper()
		if _, stderr, err := c.Weirctl(append([]string{"gateways"}, args...)...); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, stderr)
		}
	}

	publish("plant")
	within(t, 30*time.Second, "the first reading", func() bool { return records("plant") == 1 })
	bind("deny", "gw-1", "plant", "secret*")
	publish("plant") // a topic that the gateway has written to
	publish("secrets")
	publish("other")
	within(t, 30*time.Second, "a reading behind those that are refused", func() bool { return records("other") == 1 })
	token, err := admin.ReadToken(filepath.Join(c.Dir, "edge", admin.File))
	if err != nil {
		t.Fatal(err)
	}
	within(t, 30*time.Second, "two dead letters", func() bool { _, all := letters(token); return len(all) == 2 })
	for _, one := range func() []edge.DeadLetter { _, all := letters(token); return all }() {
		if one.Topic != "plant" && one.Topic != "secrets" || !strings.Contains(one.Reason, "allowed") || string(one.Value) != "reading" {
			t.Errorf("dead letter %+v", one)
		}
	}
	for what, wrong := range map[string]string{"nothing": "", "another token": admin.NewToken(), "that of the node": nodeToken(t, c)} {
		if status, _ := letters(wrong); status == http.StatusOK {
			t.Errorf("dead letters for %s", what)
		}
	}
	within(t, 30*time.Second, "both are reported", func() bool { return records("weir.gaps") == 2 })
	if n := records("plant"); n != 1 || records("secrets") != 0 {
		t.Errorf("%d records in plant", n)
	}
	if lines := strings.Count(c.Cloud.Tail(1000), "gateway may not write to this topic"); lines != 2 {
		t.Errorf("%d lines about it:\n%s", lines, c.Cloud.Tail(20))
	}
	bind("allow", "gw-1", "*")
	publish("plant")
	within(t, 30*time.Second, "a reading after the bounds are lifted", func() bool { return records("plant") == 2 })
}

// recordsOf is how many records a topic has, 0 if there is none of that name.
func recordsOf(c *harness.Cluster, topic string) int {
	out, _, err := c.Weirctl("topics", "-o", "json")
	var all []struct {
		Name    string
		Records int
	}
	if err != nil || json.Unmarshal([]byte(out), &all) != nil {
		return -1
	}
	for _, one := range all {
		if one.Name == topic {
			return one.Records
		}
	}
	return 0
}

// deadLetters asks the gateway for them.
func deadLetters(t *testing.T, c *harness.Cluster, token string) (status int, all []edge.DeadLetter) {
	t.Helper()
	req, err := http.NewRequest("GET", "http://"+c.Edge.Addr["http"]+"/dead-letters", nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	for dec := json.NewDecoder(res.Body); res.StatusCode == http.StatusOK; {
		var one edge.DeadLetter
		if err := dec.Decode(&one); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, one)
	}
	return res.StatusCode, all
}

func nodeToken(t *testing.T, c *harness.Cluster) string {
	t.Helper()
	token, err := admin.ReadToken(filepath.Join(c.CloudData(), admin.File))
	if err != nil {
		t.Fatal(err)
	}
	return token
}
