package e2e

import (
	"bytes"
	"encoding/json"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/weirmq/weir/cloud/console"
	"github.com/weirmq/weir/cloud/exposition"
	"github.com/weirmq/weir/cloud/measure"
	"github.com/weirmq/weir/e2e/harness"
)

// families reads the metrics of a program, and checks what promtool checks.
func families(t *testing.T, p *harness.Process) map[string]bool {
	t.Helper()
	resp, err := http.Get("http://" + p.Addr["http"] + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.Header.Get("Content-Type") != exposition.ContentType {
		t.Fatalf("%v, %s", err, resp.Header.Get("Content-Type"))
	}
	problems, err := promlint.New(bytes.NewReader(body)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		t.Errorf("%s: %s: %s", p.Name, problem.Metric, problem.Text)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	all, err := parser.TextToMetricFamilies(bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	known, names := exposition.Catalogue(), make(map[string]bool)
	for name, f := range all {
		names[name] = true
		if known[name].Help == "" || f.GetHelp() != known[name].Help {
			t.Errorf("%s: %s has the help %q", p.Name, name, f.GetHelp())
		}
	}
	return names
}

// TestMetricsOfThePrograms: all metrics of both say what they are, and the boards and
// alerts ask for what is there.
func TestMetricsOfThePrograms(t *testing.T) {
	c := open(t, &harness.Cluster{})
	sendReadings(t, c, 20)
	within(t, 30*time.Second, "the gateway has sent everything", func() bool { return backlog(t, c) == 0 })
	cloud, edge := families(t, c.Cloud), families(t, c.Edge)
	// These are shown only while there are groups, or other nodes.
	sometimes := []string{"weir_peer_up", "weir_group_lag_records", "weir_share_group_lag_records", "weir_share_group_acquired_records", "weir_share_group_records_total"}
	either := make(map[string]bool)
	for _, names := range []map[string]bool{cloud, edge} {
		for name := range names {
			either[name] = true
		}
	}
	for file, has := range map[string]map[string]bool{"grafana/weir-cloud.json": cloud, "grafana/weir-edge.json": edge, "alerts.yaml": either} {
		body := readFile(t, filepath.Join("../configs", file))
		for _, name := range regexp.MustCompile(`\b(weir|process|go)_[a-z0-9_]+`).FindAllString(string(body), -1) {
			base := name
			if !has[base] {
				base, _ = strings.CutSuffix(base, "_bucket")
			}
			if !has[base] && !slices.Contains(sometimes, base) {
				t.Errorf("%s asks for %s, which there is not", file, name)
			}
		}
	}
}

// TestGatewayThatIsAway: what was known of a gateway is known after the cloud was
// killed, and a gateway is described.
func TestGatewayThatIsAway(t *testing.T) {
	c := open(t, &harness.Cluster{})
	sendReadings(t, c, 5)
	within(t, 30*time.Second, "the gateway has sent everything", func() bool { return backlog(t, c) == 0 })
	describe := func() (g console.GatewayDetail) {
		t.Helper()
		out, stderr, err := c.Weirctl("gateways", "gw-1", "-o", "json")
		if err == nil {
			err = json.Unmarshal([]byte(out), &g)
		}
		if err != nil {
			t.Logf("weirctl gateways gw-1: %v\n%s", err, stderr)
		}
		return g
	}
	within(t, 20*time.Second, "the cloud knows the gateway", func() bool {
		g := describe()
		return g.State == measure.StateConnected && g.DeadLetters != nil && len(g.Lanes) == 3 && len(g.Streams) == 1 && g.Software != "" && g.Address != ""
	})
	within(t, 40*time.Second, "the log has the contact", func() bool {
		found := false
		err := filepath.WalkDir(filepath.Join(c.Dir, "bucket"), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return nil // it is being deleted
			}
			body, err := os.ReadFile(path)
			found = found || err == nil && bytes.Contains(body, []byte(`"software":"weir-edge`))
			return nil
		})
		return err == nil && found
	})
	c.Edge.Kill()
	c.Cloud.Kill()
	if err := c.StartCloud(); err != nil {
		t.Fatal(err)
	}
	var g console.GatewayDetail
	within(t, 20*time.Second, "the cloud answers", func() bool { g = describe(); return g.ID != "" })
	if g.State != measure.StateAway || !g.Known || !strings.HasPrefix(g.Software, "weir-edge") || g.Address == "" || time.Since(g.LastContact) > 2*time.Minute || len(g.Streams) != 1 {
		t.Errorf("%+v", g)
	}
	if out, stderr, err := c.Weirctl("gateways"); err != nil || !strings.Contains(out, "away") {
		t.Errorf("%v\n%s%s", err, out, stderr)
	}
	if err := c.StartEdge(); err != nil {
		t.Fatal(err)
	}
	within(t, 30*time.Second, "the gateway is back", func() bool { return describe().State == measure.StateConnected })
}
