package configs

import (
	"os"
	"path/filepath"
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
