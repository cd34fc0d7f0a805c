package amqp

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/weirmq/weir/e2e/harness"
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

// sorted sorts the fields of the tables in a line: their order means nothing.
func sorted(line string) string {
	before, rest, ok := strings.Cut(line, " headers=")
	r := &reader{rest}
	all, err := r.fields("{", "}")
	if !ok || err != nil {
		return line
	}
	return before + " headers=" + sortFields(all).text("{", "}") + r.rest
}

func sortFields(all fields) fields {
	for i := range all {
		if inner, ok := all[i].data.(fields); ok {
			all[i].data = sortFields(inner)
		}
	}
	slices.SortStableFunc(all, func(a, b field) int { return cmp.Compare(a.name, b.name) })
	return all
}

// TestWeir plays all scripts against weir-cloud: its answers are RabbitMQ's.
func TestWeir(t *testing.T) {
	names := newCatalogue()
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
	url := "amqp://guest:guest@" + cluster.Cloud.Addr["amqp"] + "/"
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
