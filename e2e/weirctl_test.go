package e2e

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/e2e/harness"
)

// TestCompletion: bash completes verbs, flags, and the names that a node has.
func TestCompletion(t *testing.T) {
	bash := need(t, "bash", "bash")
	c := open(t, &harness.Cluster{})
	binary, err := harness.Binary("weirctl")
	if err != nil {
		t.Fatal(err)
	}
	if _, stderr, err := c.Weirctl("topics", "create", "pump-readings"); err != nil {
		t.Fatalf("%v\n%s", err, stderr)
	}
	for words, want := range map[string]string{"weirctl sta": "status", "weirctl topics pu": "pump-readings", "weirctl topics delete ": "pump-readings",
		"weirctl consume pump-readings --foll": "--follow", "weirctl consume pump-readings --value h": "hex"} {
		script := `source <(weirctl completion bash)
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _weirctl; printf '%s\n' "${COMPREPLY[@]}"`
		cmd := exec.CommandContext(t.Context(), bash, append([]string{"-c", script, "bash"}, strings.Split(words, " ")...)...)
		cmd.Env = append(cmd.Environ(), "PATH="+filepath.Dir(binary)+":/usr/bin:/bin", "WEIRCTL_CLOUD="+c.HTTP(), "WEIRCTL_DATA="+c.CloudData())
		out, err := cmd.CombinedOutput()
		if got := strings.TrimSpace(string(out)); err != nil || got != want {
			t.Errorf("%q: %q, want %q (%v)", words, got, want, err)
		}
	}
}

// TestReadAndWrite: records go in and come out through the admin port alone, and
// through the other node when the first one named is gone.
func TestReadAndWrite(t *testing.T) {
	c := open(t, &harness.Cluster{})
	gone := "http://127.0.0.1:1"
	weirctl := func(args ...string) string {
		t.Helper()
		out, stderr, err := harness.Run("weirctl", append(args, "--cloud", gone+","+c.HTTP(), "--data", c.CloudData())...)
		if err != nil {
			t.Fatalf("%v: %v\n%s", args, err, stderr)
		}
		return out
	}
	began := time.Now()
	for _, value := range []string{"one", "two", `{ "n": 3 }`} {
		weirctl("produce", "plant", value, "--key", "k")
	}
	if out := weirctl("consume", "plant", "--since", "1h", "--value", "json"); out != "k\tone\nk\ttwo\nk\t{\"n\":3}\n" {
		t.Errorf("read %q", out)
	}
	if out := weirctl("consume", "plant", "--offset", "-1"); out != "k\t{ \"n\": 3 }\n" {
		t.Errorf("the last one: %q", out)
	}
	if out := weirctl("status"); !strings.Contains(out, "1 with 4 partitions: 3 records") || !strings.Contains(out, "damage     none") || !strings.Contains(out, "1 connected, 0 away") {
		t.Errorf("status after %v:\n%s", time.Since(began), out)
	}
	if out, stderr, err := harness.Run("weirctl", "sessions", "--edge", "http://"+c.Edge.Addr["http"], "--data", filepath.Join(c.Dir, "edge")); err != nil || !strings.HasPrefix(out, "CLIENT") {
		t.Errorf("sessions: %v\n%s%s", err, out, stderr)
	}
}

// TestPermissionsLast: vhosts and the permissions in them are there after the node was
// killed; those that were cleared or deleted are not.
func TestPermissionsLast(t *testing.T) {
	c := cloud(t)
	weirctl := func(args ...string) string {
		t.Helper()
		out, stderr, err := c.Weirctl(args...)
		if err != nil {
			t.Fatalf("%v: %v\n%s", args, err, stderr)
		}
		return out
	}
	for _, vhost := range []string{"/", "plant", "gone"} {
		if vhost != "/" { // which is there from the start
			weirctl("vhosts", "create", vhost)
		}
		weirctl("permissions", "set", "ann", "--vhost", vhost, "--configure", "", "--write", `^amq\.`, "--read", ".*")
	}
	weirctl("permissions", "set", "ann", "--exchange", "amq.topic", "--write", `^{username}\.`, "--read", "")
	weirctl("permissions", "clear", "ann", "--vhost", "plant")
	weirctl("vhosts", "delete", "gone")
	if _, stderr, err := c.Weirctl("permissions", "set", "bob", "--configure", "(", "--write", "", "--read", ""); err == nil || !strings.Contains(stderr, `expression "(" for configure`) {
		t.Errorf("a wrong expression: %v\n%s", err, stderr)
	}
	before := weirctl("permissions", "list", "ann", "-o", "json")
	for has, times := range map[string]int{`"vhost": "/"`: 2, `"write": "^amq\\."`: 1, `"exchange": "amq.topic"`: 1, "plant": 0, "gone": 0} {
		if strings.Count(before, has) != times {
			t.Errorf("%s is not there %d times:\n%s", has, times, before)
		}
	}
	c.Cloud.Kill()
	if err := c.StartCloud(); err != nil {
		t.Fatal(err)
	}
	if after := weirctl("permissions", "-o", "json"); after != before {
		t.Errorf("before: %s\nafter: %s", before, after)
	}
	if vhosts := weirctl("vhosts"); !strings.Contains(vhosts, "/") || !strings.Contains(vhosts, "plant") || strings.Contains(vhosts, "gone") {
		t.Errorf("vhosts:\n%s", vhosts)
	}
}
