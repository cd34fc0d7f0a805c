package e2e

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestTopLevel: what lies at the top of the repository is fixed.
func TestTopLevel(t *testing.T) {
	fixed := []string{"edge", "cloud", "sync", "storage", "firmware-sim", "configs", "e2e",
		"go.mod", "go.sum", "Makefile", "README.md", "LICENSE"}
	cmd := exec.Command("git", "ls-files")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Skipf("not a git checkout: %v", err)
	}
	for file := range strings.Lines(string(out)) {
		top, _, _ := strings.Cut(strings.TrimSpace(file), "/")
		if !strings.HasPrefix(top, ".") && !slices.Contains(fixed, top) {
			t.Errorf("%s does not belong at the top level", top)
		}
	}
}
