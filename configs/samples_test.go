package configs

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// TestSamplesParse: every YAML file here is YAML; the tests of the binaries
// read those that are theirs with all checks.
func TestSamplesParse(t *testing.T) {
	files, err := filepath.Glob("*.yaml")
	if err != nil || len(files) < 5 {
		t.Fatalf("%v: %v", files, err)
	}
	for _, path := range files {
		body, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var v map[string]any
		if err := yaml.Unmarshal(body, &v); err != nil || len(v) == 0 {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// TestAlerts: the five metrics that have fixed names have an alert each.
func TestAlerts(t *testing.T) {
	body, err := os.ReadFile("alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, metric := range []string{"weir_edge_oldest_unacked_seconds", "weir_edge_buffer_bytes", "weir_shard_ack_seconds",
		"weir_shard_epoch", "weir_gap_records_total"} {
		if !strings.Contains(string(body), metric) {
			t.Errorf("no alert on %s", metric)
		}
	}
}

// TestAlertsAreOnMetrics: every metric that an alert is on is one that a program
// has; one that is not would never fire.
func TestAlertsAreOnMetrics(t *testing.T) {
	body, err := os.ReadFile("alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var rules struct {
		Groups []struct {
			Rules []struct{ Alert, Expr string }
		}
	}
	if err := yaml.Unmarshal(body, &rules); err != nil || len(rules.Groups) != 1 || len(rules.Groups[0].Rules) < 6 {
		t.Fatalf("%+v: %v", rules, err)
	}
	had := metricsOf(t, "../cloud", "../edge", "../storage", "../sync")
	for _, r := range rules.Groups[0].Rules {
		named := regexp.MustCompile(`weir_[a-z_]+`).FindAllString(r.Expr, -1)
		if len(named) == 0 {
			t.Errorf("%s is on no metric", r.Alert)
		}
		for _, name := range named {
			if !had[name] {
				t.Errorf("%s is on %s, which there is not", r.Alert, name)
			}
		}
	}
}

// metricsOf finds the names of metrics in what is not a test.
func metricsOf(t *testing.T, folders ...string) map[string]bool {
	t.Helper()
	had := make(map[string]bool)
	literal := regexp.MustCompile("[\"`](weir_[a-z_]+)[\"`{]")
	for _, folder := range folders {
		err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			source, err := os.ReadFile(path)
			for _, m := range literal.FindAllSubmatch(source, -1) {
				had[string(m[1])] = true
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return had
}

// TestUnits: every unit starts a binary that exists, with a sample that does.
func TestUnits(t *testing.T) {
	units, err := filepath.Glob("systemd/*.service")
	if err != nil || len(units) != 2 {
		t.Fatalf("%v: %v", units, err)
	}
	for _, path := range units {
		body, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(path), ".service")
		want := "ExecStart=/usr/bin/" + name + " --config /etc/weir/" + name + ".yaml"
		if !strings.Contains(string(body), want) {
			t.Errorf("%s does not say %s", path, want)
		}
		if _, err := os.Stat(name + ".yaml"); err != nil {
			t.Error(err)
		}
	}
}
