package amqp

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirmq/weir/e2e/harness"
	"github.com/weirmq/weir/e2e/rabbit"
)

// permissionScript is played by users with permissions. RabbitMQ's answers are recorded as
// for the other scripts.
const permissionScript = "testdata/permissions/permissions.txt"

// account is a user of the script, whose password is secret but for guest.
type account struct {
	name, password         string
	permitted              bool // the next three are set for the user
	configure, write, read string
	topicWrite, topicRead  string // for amq.topic, if one of them is set
}

func accounts() []account {
	return []account{
		{name: "guest", password: "guest", permitted: true, configure: ".*", write: ".*", read: ".*"},
		{name: "nobody", password: "secret"},
		{name: "empty", password: "secret", permitted: true},
		{name: "some", password: "secret", permitted: true, configure: "^mine", write: `^(mine|ours|amq\.topic)`, read: `^(mine|theirs|amq\.topic)`,
			topicWrite: `^{username}\.`, topicRead: `^ours\.`},
	}
}

// playPermissions plays the script and compares with what RabbitMQ answered.
func playPermissions(t *testing.T, url string) (got, want string) {
	t.Helper()
	names := newCatalogue()
	text, err := os.ReadFile(permissionScript)
	if err != nil {
		t.Fatal(err)
	}
	steps, err := names.parse(string(text))
	if err != nil {
		t.Fatal(err)
	}
	lines, err := play(t.Context(), names, url, steps)
	if err != nil {
		t.Fatalf("%v\n%s", err, strings.Join(lines, "\n"))
	}
	got = strings.Join(lines, "\n") + "\n"
	if *update {
		if err := os.WriteFile(golden(permissionScript), []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	recorded, err := os.ReadFile(golden(permissionScript))
	if err != nil {
		t.Fatal(err)
	}
	return got, string(recorded)
}

// TestRabbitMQPermissions plays the script against a RabbitMQ, as TestRabbitMQ does the
// others.
func TestRabbitMQPermissions(t *testing.T) {
	if os.Getenv("WEIR_SOAK") == "" {
		t.Skip("WEIR_SOAK=1 starts RabbitMQ")
	}
	n := rabbit.Start(t)
	control := func(args ...string) {
		t.Helper()
		if err := n.Control(t.Context(), args...); err != nil {
			t.Fatal(err)
		}
	}
	for _, a := range accounts() {
		if a.name != "guest" {
			control("add_user", a.name, a.password)
		}
		if a.permitted {
			control("set_permissions", a.name, a.configure, a.write, a.read)
		}
		if a.topicWrite+a.topicRead != "" {
			control("set_topic_permissions", a.name, "amq.topic", a.topicWrite, a.topicRead)
		}
	}
	got, want := playPermissions(t, n.URL)
	if d := difference(want, got); d != "" {
		t.Error(d)
	}
}

// TestWeirPermissions plays the script against weir-cloud: its answers are RabbitMQ's.
func TestWeirPermissions(t *testing.T) {
	cluster := &harness.Cluster{Dir: t.TempDir(), CloudArgs: []string{"--amqp", "127.0.0.1:0"}}
	cluster.Bucket = "file:" + filepath.Join(cluster.Dir, "bucket")
	if err := cluster.StartCloud(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cluster.Close(); err != nil {
			t.Error(err)
		}
	})
	binary, err := harness.Binary("weirctl")
	if err != nil {
		t.Fatal(err)
	}
	weirctl := func(stdin string, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), binary, append(args, "--cloud", cluster.HTTP(), "--data", cluster.CloudData())...)
		cmd.Stdin = strings.NewReader(stdin)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("weirctl %v: %v\n%s", args, err, out)
		}
	}
	for _, a := range accounts() {
		weirctl(a.password, "users", "add", a.name)
		if a.permitted {
			weirctl("", "permissions", "set", a.name, "--configure", a.configure, "--write", a.write, "--read", a.read)
		}
		if a.topicWrite+a.topicRead != "" {
			weirctl("", "permissions", "set", a.name, "--exchange", "amq.topic", "--write", a.topicWrite, "--read", a.topicRead)
		}
	}
	got, want := playPermissions(t, "amqp://guest:guest@"+cluster.Cloud.Addr["amqp"]+"/")
	if d := difference(want, got); d != "" {
		t.Error(d)
	}
}
