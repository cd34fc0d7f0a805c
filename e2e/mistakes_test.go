package e2e

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/e2e/harness"
	"github.com/weirmq/weir/sync/join"
)

// TestMistakes: what people get wrong is answered with one clear sentence and
// an exit code, never with a stack trace.
func TestMistakes(t *testing.T) {
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	file := func(name, body string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	readOnly := "/proc/weir" // nobody can create a directory there, not even root
	off := []string{"--sync", "off", "--kafka", "off", "--http", "off", "--data", data}
	for _, c := range []struct {
		binary string
		args   []string
		want   string
	}{
		{"weir-cloud", []string{"--kafak", "x"}, "unknown flag --kafak (did you mean --kafka?)"},
		{"weir-cloud", []string{"--config", file("c.yaml", "kafak: x\n")}, `unknown key "kafak" (did you mean kafka?)`},
		{"weir-cloud", []string{"serve"}, `takes no argument "serve"`},
		{"weir-cloud", []string{"--kafka", ":9092", "--data", data}, "--kafka-anonymous"},
		{"weir-cloud", []string{"--http", "0.0.0.0:8080", "--data", data}, "--http-anonymous"},
		{"weir-cloud", []string{"--http", "0.0.0.0:8080", "--http-anonymous", "--data", data}, "--http-without-tls"},
		{"weir-cloud", []string{"--http-tls-cert", "x", "--data", data}, "--http-tls-key"},
		{"weir-edge", []string{"--http", ":8081", "--data", data}, "--http-without-tls"},
		{"weirctl", []string{"admin", "add"}, "admin takes"},
		{"weirctl", []string{"topics", "--data", dir}, "admin-token"},
		{"weir-cloud", append(off, "--kafka", taken.Addr().String()), "listen on --kafka"},
		{"weir-cloud", append(off, "--peer", taken.Addr().String()), "listen on --peer"},
		{"weir-cloud", append(off, "--data", readOnly), "create --data"},
		{"weir-cloud", append(off, "--bucket", "flie:/tmp/x"), `did you mean "file"?`},
		{"weir-cloud", append(off, "--bucket", "data"), "for a folder write file:data"},
		{"weir-cloud", []string{"--kafka", "9092", "--data", data}, "must be HOST:PORT, :PORT or off"},
		{"weir-cloud", []string{"--sync", "7400", "--data", data}, "--sync \"7400\" is not an address"},
		{"weir-cloud", []string{"--http", "8080", "--data", data}, "--http \"8080\" is not an address"},
		{"weir-cloud", []string{"--takeover", "3", "--data", data}, "--takeover: \"3\" is not a time span"},
		{"weir-cloud", []string{"--partitions", "many", "--data", data}, "--partitions: \"many\" must be an integer"},
		{"weir-cloud", append(off, "--bucket", "s3://b?endpoint=http://127.0.0.1:1"), "--secret-file"},
		{"weir-cloud", append(off, "--secret-file", file("short", "abc")), "fewer than 16"},
		{"weir-cloud", append(off, "--partitions", "0"), "--partitions 0"},
		{"weir-edge", []string{"--mqqt", "x"}, "did you mean --mqtt?"},
		{"weir-edge", []string{"--mqtt", ":1883", "--data", data}, "set --mqtt-anonymous"},
		{"weir-edge", []string{"--mqtts", ":8883", "--mqtts-cert", "c", "--mqtts-key", "k", "--data", data}, "set --mqtt-anonymous"},
		{"weir-edge", []string{"--mqtt", "1883", "--data", data}, "--mqtt \"1883\" is not an address"},
		{"weir-edge", []string{"--quota", "5", "--data", data}, "less than 16 MiB"},
		{"weir-edge", []string{"--mqtt", taken.Addr().String(), "--http", "off", "--data", data}, "listen on --mqtt"},
		{"weir-edge", []string{"--data", readOnly}, "local log"},
		{"weir-edge", []string{"--cloud", "127.0.0.1:7400", "--join", "weir1.nonsense", "--data", data}, "join token is malformed"},
		{"weir-edge", []string{"--join", "x", "--data", data}, "malformed"},
		{"weir-edge", []string{"--cloud", "cloud", "--data", data}, "HOST:7400"},
		{"weir-edge", []string{"--gateway-id", "a b", "--data", data}, "gateway id must be"},
		{"weir-edge", []string{"--routes", file("r.yaml", "routes: [{filter: a/#/b, topic: x}]"), "--data", data}, "# must be the last level"},
		{"weir-edge", []string{"--mqtt-users", file("users", "bob:secret\n"), "--mqtt", "127.0.0.1:0", "--http", "off", "--data", data}, "htpasswd -B"},
		{"weirctl", []string{"topcis"}, "did you mean topics?"},
		{"weirctl", []string{"--cloud", "ftp://x", "topics"}, "not of the form http://HOST:8080"},
		{"weirctl", []string{"check", "data"}, "for a folder write file:data"},
		{"weirctl", []string{"topics", "--cloud", "http://127.0.0.1:1"}, "reach the cloud"},
		{"weirctl", []string{"check", "file:" + filepath.Join(dir, "nothing")}, "no such file"},
		{"firmware-sim", []string{"--interval", "0s"}, "--count"},
		{"firmware-sim", []string{"verify"}, "--sent"},
	} {
		out, stderr, err := harness.Run(c.binary, c.args...)
		message := strings.TrimSpace(stderr)
		if err == nil {
			t.Errorf("%s %v ended with 0: %s%s", c.binary, c.args, out, stderr)
		}
		if !strings.Contains(message, c.want) {
			t.Errorf("%s %v: got %q, want %q", c.binary, c.args, message, c.want)
		}
		if strings.Contains(message, "goroutine") || strings.Contains(message, "panic") {
			t.Errorf("%s %v: a stack trace:\n%s", c.binary, c.args, message)
		}
	}
}

// TestHelp: every binary explains itself.
func TestHelp(t *testing.T) {
	for _, args := range [][]string{{"weir-cloud", "--help"}, {"weir-edge", "--help"}, {"firmware-sim", "--help"},
		{"firmware-sim", "verify", "--help"}, {"weirctl", "--help"}, {"weirctl", "topics", "--help"}, {"weirctl", "gateways", "--help"},
		{"weirctl", "groups", "--help"}, {"weirctl", "consume", "--help"}, {"weirctl", "produce", "--help"},
		{"weirctl", "join-token", "--help"}, {"weirctl", "status", "--help"}, {"weirctl", "sessions", "--help"}, {"weirctl", "completion", "--help"}, {"weirctl", "help", "consume"}, {"weirctl", "admin", "--help"}, {"weirctl", "login", "--help"}, {"weirctl", "logout", "--help"}, {"weirctl", "check", "--help"}} {
		if out, stderr, err := harness.Run(args[0], args[1:]...); err != nil || !strings.Contains(out, "Usage:") {
			t.Errorf("%v: %v\n%s%s", args, err, out, stderr)
		}
	}
	for _, binary := range []string{"weir-cloud", "weir-edge", "firmware-sim", "weirctl"} {
		if out, _, err := harness.Run(binary, "--version"); err != nil || !strings.HasPrefix(out, binary+" ") {
			t.Errorf("%s --version: %v %q", binary, err, out)
		}
	}
}

// TestJoinTokens: a used-up and a foreign token are told apart, in one sentence,
// and a gateway that is revoked is out at once. None of it stops a gateway.
func TestJoinTokens(t *testing.T) {
	c := open(t, &harness.Cluster{})
	once, _, err := c.Weirctl("join-token", "--uses", "1")
	if err != nil {
		t.Fatal(err)
	}
	once = strings.TrimSpace(once)
	gateway := func(name, token string) *harness.Process {
		p, err := harness.Start(c.Dir, name, "weir-edge", "--data", filepath.Join(c.Dir, name), "--gateway-id", name,
			"--cloud", c.Link.Addr(), "--join", token, "--mqtt", "127.0.0.1:0", "--http", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Kill)
		return p
	}
	says := func(p *harness.Process, want string) {
		t.Helper()
		within(t, 20*time.Second, p.Name+" says "+want, func() bool { return strings.Contains(p.Tail(3), want) })
		select {
		case <-p.Exited():
			t.Errorf("%s ended with %d:\n%s", p.Name, p.ExitCode(), p.Tail(2))
		default:
		}
	}
	first := gateway("first", once)
	within(t, 20*time.Second, "the first gateway joins", func() bool {
		out, _, err := c.Weirctl("gateways")
		return err == nil && strings.Contains(out, "first")
	})
	says(gateway("second", once), "used up")
	if _, stderr, err := c.Weirctl("gateways", "revoke", "first"); err != nil {
		t.Fatalf("%v\n%s", err, stderr)
	}
	says(first, "gateway is revoked")
	ca, err := join.NewCA(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	says(gateway("stranger", join.NewToken(ca).Reveal()), "of another CA")
}
