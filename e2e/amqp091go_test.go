package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestAMQP091GoSuite runs the integration suite of amqp091-go, from its module, against a
// node with the management API, through which its tests of recovery cut connections. One
// test is skipped: it lowers RabbitMQ's memory watermark with rabbitmqctl.
func TestAMQP091GoSuite(t *testing.T) {
	t.Parallel() // it mostly waits
	c := cloud(t, "--amqp", "127.0.0.1:0", "--management", "127.0.0.1:0")
	dir := amqp091go(t, c.Cloud.Addr["management"])
	binary := filepath.Join(dir, "amqp091.test")
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-tags", "integration", "-o", binary, ".")
	build.Dir = dir
	run(t, build)

	suite := exec.CommandContext(t.Context(), binary, "-test.v", "-test.timeout", "5m")
	suite.Dir = dir
	suite.Env = append(os.Environ(), "AMQP_URL=amqp://guest:guest@"+c.Cloud.Addr["amqp"]+"/")
	output, err := suite.CombinedOutput()
	out := string(output)
	if err != nil {
		t.Errorf("%v: %q\n%s", err, regexp.MustCompile(`(?m)^\s*--- FAIL.*`).FindAllString(out, -1), last(out, 6_000))
	}
	skipped := regexp.MustCompile(`(?m)^\s*--- SKIP: (\w+)`).FindAllStringSubmatch(out, -1)
	if len(skipped) != 1 || skipped[0][1] != "TestConnection_Close_WhenMemoryAlarmIsActive" {
		t.Errorf("skipped: %q", skipped)
	}
	passed, recovered := strings.Count(out, "\n--- PASS: "), strings.Count(out, "\n--- PASS: TestConnectionRecovery")
	if t.Logf("%d tests passed, %d of them of recovery", passed, recovered); passed < 150 || recovered < 17 {
		t.Error("tests of the suite have not run")
	}
}

// amqp091go copies the module of amqp091-go and returns the folder. The suite wants the
// management API at localhost:15672; the copy finds it at an address.
func amqp091go(t *testing.T, management string) string {
	t.Helper()
	from := strings.TrimSpace(run(t, exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/rabbitmq/amqp091-go")))
	dir := filepath.Join(t.TempDir(), "amqp091-go")
	if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	_, port, _ := strings.Cut(management, ":")
	for file, replace := range map[string][2]string{
		"recovery_test.go": {`"15672"`, `"` + port + `"`},
		filepath.Join("internal", "utils", "http.go"): {"localhost:15672", management},
	} {
		path := filepath.Join(dir, file)
		body, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(body, []byte(replace[0])) {
			t.Fatalf("%s does not contain %s", file, replace[0])
		}
		body = bytes.ReplaceAll(body, []byte(replace[0]), []byte(replace[1]))
		if err := os.WriteFile(path, body, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
