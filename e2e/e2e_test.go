// Package e2e holds the tests that run the real binaries: built by `make
// build`, spoken to by real clients, and killed at random moments.
package e2e

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/e2e/harness"
)

// soak reports whether the long rounds are to be run (make soak).
func soak() bool { return os.Getenv("WEIR_SOAK") != "" }

// newRand returns a source of randomness whose seed is in the log; WEIR_SEED
// repeats a run.
func newRand(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("WEIR_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("WEIR_SEED: %v", err)
		}
		seed = n
	}
	t.Logf("WEIR_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// open starts a cluster and stops it at the end of the test, when the bucket
// must pass the check and the processes must stop in order.
func open(t *testing.T, c *harness.Cluster) *harness.Cluster {
	t.Helper()
	c.Dir = t.TempDir()
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		checkBucket(t, c.Bucket)
		if t.Failed() {
			keepLogs(t, c.Dir)
		}
	})
	if err := c.Open(); err != nil {
		t.Fatal(err)
	}
	return c
}

// checkBucket runs weirctl check.
func checkBucket(t *testing.T, url string) {
	t.Helper()
	out, stderr, err := harness.Run("weirctl", "check", url)
	if err != nil {
		t.Errorf("weirctl check %s: %v\n%s%s", url, err, out, stderr)
		return
	}
	t.Logf("check: %s", strings.TrimSpace(out))
}

// keepLogs prints the end of every log of a test that failed.
func keepLogs(t *testing.T, dir string) {
	logs, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil {
		t.Log(err)
	}
	for _, path := range logs {
		body, err := os.ReadFile(path)
		if err != nil {
			t.Log(err)
			continue
		}
		t.Logf("---- %s\n%s", filepath.Base(path), body[max(0, len(body)-8<<10):])
	}
}

// need skips a test whose program is not installed, loudly; with
// WEIR_REQUIRE_SERVICES=1, as in CI, it fails.
func need(t *testing.T, program, pkg string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err == nil {
		return path
	}
	if os.Getenv("WEIR_REQUIRE_SERVICES") != "" {
		t.Fatalf("%s is not installed: apt-get install %s", program, pkg)
	}
	t.Skipf("SKIPPED: %s is not installed: apt-get install %s", program, pkg)
	return ""
}

// within repeats try until it succeeds; it is for conditions of other
// processes, which cannot be waited for otherwise.
func within(t *testing.T, limit time.Duration, what string, try func() bool) {
	t.Helper()
	deadline := time.Now().Add(limit)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !try() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", limit, what)
		}
		<-tick.C
	}
}
