package amqp

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// differences are the answers of RabbitMQ that weir-cloud gives otherwise, by the step that
// they follow. cloud/amqp091/README.md has the reasons.
func differences() map[string][2]string {
	const closed, code = " connection.close reply-code=540 reply-text=", " class-id="
	return map[string][2]string{
		"c1/1: frame 1 00630001": {"  < c1/0 end", "  < c1/0" + closed + `"NOT_IMPLEMENTED - no method 1 in class 99"` + code + "99 method-id=1"},
		"c2/1: frame 1 003c0063": {"  < c2/0 end", "  < c2/0" + closed + `"NOT_IMPLEMENTED - no method 99 in class 60"` + code + "60 method-id=99"},
	}
}

// expected returns RabbitMQ's recording with the differences, and the order of tables made
// equal.
func expected(recorded string) string {
	lines := strings.Split(recorded, "\n")
	known := differences()
	for i, line := range lines {
		d, differs := known[line]
		for j := i + 1; differs && j < len(lines); j++ {
			if lines[j] == d[0] {
				lines[j] = d[1]
				break
			}
		}
		lines[i] = sorted(lines[i])
	}
	return strings.Join(lines, "\n")
}

// TestWeir plays all scripts against weir-cloud: its answers are RabbitMQ's.
func TestWeir(t *testing.T) {
	names := newCatalogue()
	url := startWeir(t)
	for file, steps := range scripts(t, names) {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			lines, err := play(t.Context(), names, url, steps)
			if err != nil {
				t.Fatalf("%v\n%s", err, strings.Join(lines, "\n"))
			}
			want, err := os.ReadFile(golden(file))
			if err != nil {
				t.Fatal(err)
			}
			for i := range lines {
				lines[i] = sorted(lines[i])
			}
			if d := difference(expected(string(want)), strings.Join(lines, "\n")+"\n"); d != "" {
				t.Error(d)
			}
		})
	}
}
