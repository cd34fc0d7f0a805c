package kafka

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// kcat runs the real thing (librdkafka), or says that it is not there.
func kcat(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath("kcat")
	if err != nil {
		if os.Getenv("WEIR_REQUIRE_SERVICES") == "1" {
			t.Fatal("kcat is not installed, and WEIR_REQUIRE_SERVICES=1")
		}
		t.Skip("SKIPPED: kcat is not installed (apt-get install kcat): no librdkafka client was tried against the door")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("kcat %s: %v\n%s", strings.Join(args, " "), err, errs.String())
	}
	return out.String()
}

func TestKcat(t *testing.T) {
	d := open(t, setup{})
	d.newTopic(t, "t", 3, nil)
	var in strings.Builder
	var want []string
	for i := range 500 {
		line := fmt.Sprintf("device-%d:reading %d", i%7, i)
		want = append(want, line)
		in.WriteString(line + "\n")
	}
	slices.Sort(want)
	lines := func(out string) []string {
		l := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
		slices.Sort(l)
		return l
	}

	kcat(t, in.String(), "-b", d.addr, "-P", "-t", "t", "-K", ":", "-z", "lz4", "-H", "from=kcat", "-X", "enable.idempotence=true")
	out := kcat(t, "", "-b", d.addr, "-C", "-t", "t", "-o", "beginning", "-e", "-q", "-f", "%k:%s\n")
	if got := lines(out); !slices.Equal(got, want) {
		t.Errorf("-C read %d lines, want %d", len(got), len(want))
	}
	if out := kcat(t, "", "-b", d.addr, "-C", "-t", "t", "-o", "beginning", "-c", "1", "-q", "-f", "%h"); out != "from=kcat" {
		t.Errorf("headers = %q", out)
	}
	out = kcat(t, "", "-b", d.addr, "-G", "readers", "-X", "auto.offset.reset=earliest", "-c", "500", "-q", "-f", "%k:%s\n", "t")
	if got := lines(out); !slices.Equal(got, want) {
		t.Errorf("-G read %d lines, want %d", len(got), len(want))
	}
	kcat(t, "x:one more\n", "-b", d.addr, "-P", "-t", "t", "-K", ":")
	out = kcat(t, "", "-b", d.addr, "-G", "readers", "-X", "auto.offset.reset=earliest", "-c", "1", "-q", "-f", "%k:%s\n", "t")
	if out != "x:one more\n" {
		t.Errorf("the group went on with %q", out)
	}
	if out := kcat(t, "", "-b", d.addr, "-L"); !strings.Contains(out, `topic "t" with 3 partitions`) || !strings.Contains(out, "broker 7 at "+d.addr+" (controller)") {
		t.Errorf("-L says %s", out)
	}
	if out := kcat(t, "", "-b", d.addr, "-Q", "-t", "t:0:-2"); !strings.Contains(out, "offset 0") {
		t.Errorf("-Q says %s", out)
	}
	kcat(t, "made by naming it\n", "-b", d.addr, "-P", "-t", "fresh")
	if out := kcat(t, "", "-b", d.addr, "-C", "-t", "fresh", "-o", "beginning", "-e", "-q"); out != "made by naming it\n" {
		t.Errorf("auto-created topic has %q", out)
	}
}

// librdkafka logs in by each mechanism that it has.
func TestKcatLogsIn(t *testing.T) {
	d := secured(t, Options{}, ScramSHA512, ScramSHA256, Plain)
	d.newTopic(t, "t", 1, nil)
	for mechanism := range loginAs("", "") {
		login := []string{"-b", d.addr, "-t", "t", "-X", "security.protocol=SASL_PLAINTEXT", "-X", "sasl.mechanisms=" + mechanism, "-X", "sasl.username=ann", "-X", "sasl.password=ann's secret"}
		kcat(t, mechanism+"\n", append(login, "-P")...)
		if out := kcat(t, "", append(login, "-C", "-o", "-1", "-c", "1", "-q")...); out != mechanism+"\n" {
			t.Errorf("%s read %q", mechanism, out)
		}
	}
}
