package e2e

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestAdminOfLibrdkafka: the newest librdkafka administers a node and produces in
// batches, and hears what Kafka says (clients/python/admin.py).
func TestAdminOfLibrdkafka(t *testing.T) {
	python := filepath.Join(built(t, "python"), "bin", "python")
	c := cloud(t, "--kafka-authorize", "--kafka-super-users", "ANONYMOUS")
	out := run(t, exec.CommandContext(t.Context(), python, "clients/python/admin.py", c.Kafka()))
	if !strings.HasSuffix(strings.TrimSpace(out), "ok") {
		t.Errorf("the client said %q", out)
	}
}
