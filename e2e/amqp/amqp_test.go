package amqp

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/weirmq/weir/e2e/rabbit"
)

var update = flag.Bool("update", false, "record the answers of RabbitMQ anew")

// scripts returns the scripts of testdata by file.
func scripts(t *testing.T, names *catalogue) map[string][]step {
	t.Helper()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	all := make(map[string][]step)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if all[file], err = names.parse(string(text)); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
	return all
}

func golden(script string) string { return strings.TrimSuffix(script, ".txt") + ".golden" }

// TestScripts: every script parses, and RabbitMQ's answers were recorded for it as it is now.
func TestScripts(t *testing.T) {
	for file, steps := range scripts(t, newCatalogue()) {
		recorded, err := os.ReadFile(golden(file))
		if err != nil {
			t.Errorf("%v: record it with WEIR_SOAK=1 go test ./e2e/amqp -update", err)
			continue
		}
		var want, got []string
		for _, s := range steps {
			want = append(want, s.text)
		}
		for line := range strings.Lines(string(recorded)) {
			if line = strings.TrimSuffix(line, "\n"); !strings.HasPrefix(line, "  < ") {
				got = append(got, line)
			} else if strings.Contains(line, "nothing more after") {
				t.Errorf("%s: a step waited in vain: %s", golden(file), line)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s was recorded for another version of the script", golden(file))
		}
	}
}

// TestTables: a field of each type reads back as it was written, as text and as bytes.
func TestTables(t *testing.T) {
	const text = `{t=t:1 b=b:-5 B=B:200 s=s:-300 u=u:60000 I=I:-70000 i=i:4000000000 l=l:-9000000000 T=T:1700000000 f=f:0.5 d=d:-0.25 S=S:"a \"b\" c" e=S:"" x=x:00ff V=V: F=F:{a=I:1 b=F:{}} A=A:[I:1 S:x A:[]]}`
	r := &reader{text}
	all, err := r.fields("{", "}")
	if err != nil || r.rest != "" {
		t.Fatalf("read: %v, left %q", err, r.rest)
	}
	if got := all.text("{", "}"); got != text {
		t.Errorf("as text\n%s\nwant\n%s", got, text)
	}
	b, err := appendFields(nil, all, true)
	if err != nil {
		t.Fatal(err)
	}
	d := &decoder{b: b}
	if got := d.fields(true).text("{", "}"); got != text || d.err != nil || len(d.b) > 0 {
		t.Errorf("through bytes\n%s\nwant\n%s: %v", got, text, d.err)
	}
	for n := range b {
		if d := (&decoder{b: b[:n]}); d.fields(true) == nil || d.err == nil {
			t.Errorf("%d of %d bytes decode", n, len(b))
		}
	}
}

// TestMistakes: what is wrong in a script is refused, not played.
func TestMistakes(t *testing.T) {
	names := newCatalogue()
	for _, line := range []string{"queue.declar queue=q", "queue.declare que=q", "queue.declare durable=1", "queue.declare queue", "queue.declare arguments={a=5}",
		"queue.declare arguments={a=Z:5}", "queue.declare arguments={a=I:x", "basic.qos prefetch-count=65536", "a: tx.select", "a/65536: tx.select", "wait basic.ack", "wait 1 basic.akc",
		"until q many", "frame 1", "handshake v=1", "queue.declare priority=1", "bytes"} {
		if _, err := names.parse(line); err == nil {
			t.Errorf("%q is taken for a step", line)
		}
	}
}

// TestRabbitMQ plays all scripts against a RabbitMQ that it starts, whose answers are what was
// recorded. With -update they are recorded.
func TestRabbitMQ(t *testing.T) {
	if os.Getenv("WEIR_SOAK") == "" {
		t.Skip("WEIR_SOAK=1 starts RabbitMQ")
	}
	names := newCatalogue()
	url := os.Getenv("AMQP_URL")
	if url != "" && *update {
		t.Fatal("-update records the answers of the RabbitMQ that this test starts: unset AMQP_URL")
	}
	if url == "" {
		url = rabbit.Start(t).URL
	}
	for file, steps := range scripts(t, names) {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			lines, err := play(t.Context(), names, url, steps)
			if err != nil {
				t.Fatalf("%v\n%s", err, strings.Join(lines, "\n"))
			}
			got := strings.Join(lines, "\n") + "\n"
			if *update {
				if err := os.WriteFile(golden(file), []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden(file))
			if err != nil {
				t.Fatal(err)
			}
			if d := difference(string(want), got); d != "" {
				t.Error(d)
			}
		})
	}
}

// difference shows the first line in which two recordings differ, with the lines before it.
func difference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range max(len(w), len(g)) {
		var a, b string
		if i < len(w) {
			a = w[i]
		}
		if i < len(g) {
			b = g[i]
		}
		if a != b {
			return strings.Join(w[max(0, i-5):min(i, len(w))], "\n") + "\nwant " + a + "\ngot  " + b
		}
	}
	return ""
}
