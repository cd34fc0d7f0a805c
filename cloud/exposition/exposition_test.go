package exposition

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// TestWrite: samples come by family, each family once, with its help and type.
func TestWrite(t *testing.T) {
	const want = `# HELP weir_budget_waiting_seconds How long somebody waited because a pool was short; those who did not wait are not counted.
# TYPE weir_budget_waiting_seconds histogram
weir_budget_waiting_seconds_bucket{pool="a",le="+Inf"} 1
weir_budget_waiting_seconds_sum{pool="a"} 2
weir_budget_waiting_seconds_count{pool="a"} 1
weir_budget_waiting_seconds_count{pool="b"} 0
# HELP weir_sync_sessions Gateways that are connected to this node.
# TYPE weir_sync_sessions gauge
weir_sync_sessions 7
weir_unheard_of_count{x="{ "} 1
`
	var out strings.Builder
	err := Write(&out,
		func(w io.Writer) {
			fmt.Fprint(w, "weir_unheard_of_count{x=\"{ \"} 1\nweir_budget_waiting_seconds_bucket{pool=\"a\",le=\"+Inf\"} 1\n"+
				"weir_budget_waiting_seconds_sum{pool=\"a\"} 2\nweir_budget_waiting_seconds_count{pool=\"a\"} 1\n\n# TYPE weir_sync_sessions counter\nweir_sync_sessions 7\n")
		},
		func(w io.Writer) {
			fmt.Fprint(w, "go_unheard_of 1\nprocess_unheard_of 1\r\nweir_budget_waiting_seconds_count{pool=\"b\"} 0")
		})
	if err != nil || out.String() != want {
		t.Errorf("%v\n%s", err, &out)
	}
	broken := errors.New("broken")
	if err := Write(writer(func([]byte) (int, error) { return 0, broken }), func(io.Writer) {}); !errors.Is(err, broken) {
		t.Error(err)
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

// sample is one of a family.
func sample(name string, f Family) string {
	switch f.Type {
	case Histogram:
		return fmt.Sprintf("%s_bucket{le=\"1\"} 1\n%s_bucket{le=\"+Inf\"} 1\n%s_sum 1\n%s_count 1\n", name, name, name, name)
	case Summary:
		return fmt.Sprintf("%s{quantile=\"0.5\"} 1\n%s_sum 1\n%s_count 1\n", name, name, name)
	default:
		return name + " 1\n"
	}
}

// TestCatalogue: every family passes promtool check metrics, of which promlint is all,
// and is read as what it is.
func TestCatalogue(t *testing.T) {
	all := Catalogue()
	if n := len(process()) + len(shared()) + len(cloud()) + len(edge()); n != len(all) {
		t.Errorf("%d families have %d names", n, len(all))
	}
	var raw, out bytes.Buffer
	for _, name := range slices.Backward(slices.Sorted(maps.Keys(all))) {
		raw.WriteString(sample(name, all[name]))
		if f := all[name]; !strings.HasSuffix(f.Help, ".") || strings.ContainsAny(f.Help, "\\\n") {
			t.Errorf("%s: help is not a line that ends in a full stop: %q", name, f.Help)
		}
	}
	if err := Write(&out, func(w io.Writer) { _, _ = w.Write(raw.Bytes()) }); err != nil {
		t.Fatal(err)
	}
	text := out.Bytes()
	problems, err := promlint.New(bytes.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil || len(families) != len(all) {
		t.Errorf("%d families are read, want %d: %v", len(families), len(all), err)
	}
	for name, f := range all {
		if got := families[name]; got == nil || strings.ToLower(got.GetType().String()) != string(f.Type) || got.GetHelp() != f.Help {
			t.Errorf("%s is read as %v", name, got)
		}
	}
}
