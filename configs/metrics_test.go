package configs

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/VictoriaMetrics/metricsql"
	"go.yaml.in/yaml/v3"

	"github.com/weirmq/weir/cloud/exposition"
)

// query is an expression of an alert or a panel.
type query struct{ where, expr string }

func alerts(t *testing.T) (all []query) {
	t.Helper()
	body, err := os.ReadFile("alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var rules struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr string
				Annotations struct{ Summary string }
			}
		}
	}
	if err := yaml.Unmarshal(body, &rules); err != nil || len(rules.Groups) != 1 {
		t.Fatalf("%+v: %v", rules, err)
	}
	for _, r := range rules.Groups[0].Rules {
		if r.Alert == "" || r.Annotations.Summary == "" {
			t.Errorf("an alert without a name or a summary: %+v", r)
		}
		all = append(all, query{r.Alert, r.Expr})
	}
	return all
}

// board is what a test looks at of a Grafana board.
type board struct {
	UID, Title string
	Templating struct {
		List []struct{ Name, Type, Definition string }
	}
	Panels []struct {
		ID          int
		Type, Title string
		Datasource  struct{ Type, UID string }
		GridPos     struct{ X, Y, W, H int }
		Targets     []struct {
			RefID, Expr string
			Datasource  struct{ UID string }
		}
	}
}

func boards(t *testing.T) (all []query) {
	t.Helper()
	paths, err := filepath.Glob("grafana/*.json")
	if err != nil || len(paths) != 2 {
		t.Fatalf("%v: %v", paths, err)
	}
	for _, path := range paths {
		body, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var b board
		if err := json.Unmarshal(body, &b); err != nil || b.UID == "" || b.Title == "" {
			t.Fatalf("%s: %+v, %v", path, b, err)
		}
		all = append(all, b.check(t, path)...)
	}
	return all
}

// check looks whether Grafana would show the board: a data source to choose, panels
// that have a place of their own and something to show.
func (b *board) check(t *testing.T, path string) (all []query) {
	t.Helper()
	variables := make(map[string]string)
	for _, v := range b.Templating.List {
		variables[v.Name] = v.Type
		if v.Type == "query" {
			all = append(all, query{path + ", variable " + v.Name, regexp.MustCompile(`label_values\((\w+), `).FindStringSubmatch(v.Definition)[1]})
		}
	}
	if variables["datasource"] != "datasource" || variables["instance"] != "query" {
		t.Errorf("%s: variables %v", path, variables)
	}
	ids, places := make(map[int]bool), make(map[string]string)
	for _, p := range b.Panels {
		if ids[p.ID] || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("%s: panel %q has the id of another, or lies outside", path, p.Title)
		}
		ids[p.ID] = true
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				at := fmt.Sprint(p.GridPos.X+x, " ", p.GridPos.Y+y)
				if other, taken := places[at]; taken {
					t.Fatalf("%s: panels %q and %q lie on each other", path, p.Title, other)
				}
				places[at] = p.Title
			}
		}
		if (p.Type == "row") != (len(p.Targets) == 0) || p.Title == "" {
			t.Errorf("%s: panel %q of type %s has %d queries", path, p.Title, p.Type, len(p.Targets))
		}
		for _, q := range p.Targets {
			if q.Datasource.UID != "${datasource}" || !strings.Contains(q.Expr, `instance=~"$instance"`) {
				t.Errorf("%s, %s: %s is not of the chosen data source and instance", path, p.Title, q.Expr)
			}
			all = append(all, query{path + ", " + p.Title, strings.ReplaceAll(q.Expr, "$__rate_interval", "5m")})
		}
	}
	return all
}

// TestQueries: every alert and every panel asks for what a program shows, and as what
// it is: a rate of a counter, a quantile of buckets.
func TestQueries(t *testing.T) {
	known := exposition.Catalogue()
	for _, q := range append(alerts(t), boards(t)...) {
		expr, err := metricsql.Parse(q.expr)
		if err != nil {
			t.Errorf("%s: %s: %v", q.where, q.expr, err)
			continue
		}
		counted := make(map[string]bool) // names that a function of counters is applied to
		named := 0
		metricsql.VisitAll(expr, func(e metricsql.Expr) {
			switch e := e.(type) {
			case *metricsql.FuncExpr:
				if slices.Contains([]string{"rate", "irate", "increase"}, strings.ToLower(e.Name)) {
					for _, arg := range e.Args {
						metricsql.VisitAll(arg, func(a metricsql.Expr) {
							if m, is := a.(*metricsql.MetricExpr); is {
								counted[nameOf(m)] = true
							}
						})
					}
				}
			case *metricsql.MetricExpr:
				named++
			}
		})
		if named == 0 {
			t.Errorf("%s asks for no metric: %s", q.where, q.expr)
		}
		metricsql.VisitAll(expr, func(e metricsql.Expr) {
			m, is := e.(*metricsql.MetricExpr)
			if !is {
				return
			}
			if problem := misused(known, m, counted[nameOf(m)]); problem != "" {
				t.Errorf("%s: %s %s", q.where, nameOf(m), problem)
			}
		})
	}
}

func nameOf(m *metricsql.MetricExpr) string {
	for _, filters := range m.LabelFilterss {
		for _, f := range filters {
			if f.Label == "__name__" && !f.IsRegexp && !f.IsNegative {
				return f.Value
			}
		}
	}
	return ""
}

// misused tells what is wrong with a metric in a query; "" if nothing is.
func misused(known map[string]exposition.Family, m *metricsql.MetricExpr, counted bool) string {
	name := nameOf(m)
	f, is := known[name]
	if !is {
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			if base, has := strings.CutSuffix(name, suffix); has && known[base].Type == exposition.Histogram {
				f, is = exposition.Family{Type: exposition.Counter}, true
			}
		}
	}
	switch {
	case !is:
		return "is a metric that no program has"
	case f.Type == exposition.Histogram:
		return "is a histogram: it has _bucket, _sum and _count only"
	case counted != (f.Type == exposition.Counter):
		return fmt.Sprintf("is a %s; a rate or an increase of it is asked for: %v", f.Type, counted)
	}
	for _, filters := range m.LabelFilterss {
		for _, label := range filters {
			if label.Label == "quantile" && f.Type != exposition.Summary {
				return "has no quantiles"
			}
		}
	}
	return ""
}

// TestQueriesAreLookedAt: the test above finds what it is there for.
func TestQueriesAreLookedAt(t *testing.T) {
	known := exposition.Catalogue()
	for expr, counted := range map[string]bool{
		"weir_shard_ack_seconds": false, `weir_edge_connected{quantile="0.5"}`: false, "weir_sync_sessions": true,
		"weir_sync_appends_total": false, "weir_nothing": false, "weir_sync_sessions_count": true,
	} {
		e, err := metricsql.Parse(expr)
		if err != nil {
			t.Fatal(err)
		}
		if misused(known, e.(*metricsql.MetricExpr), counted) == "" {
			t.Errorf("%s, counted %v: nothing is wrong", expr, counted)
		}
	}
}

// TestFixedNames: the five metrics that have fixed names have an alert each.
func TestFixedNames(t *testing.T) {
	var all strings.Builder
	for _, q := range alerts(t) {
		all.WriteString(q.expr + "\n")
	}
	for _, metric := range []string{"weir_edge_oldest_unacked_seconds", "weir_edge_buffer_bytes", "weir_shard_ack_seconds",
		"weir_shard_epoch", "weir_gap_records_total", "weir_gateway_connected", "weir_gateway_lost_records_total"} {
		if !strings.Contains(all.String(), metric) {
			t.Errorf("no alert on %s", metric)
		}
	}
}

// TestCatalogueIsComplete: the catalogue has the metrics that the source names, and no
// others.
func TestCatalogueIsComplete(t *testing.T) {
	source, known := metricsOf(t, "../cloud", "../edge", "../storage", "../sync"), exposition.Catalogue()
	for _, name := range slices.Sorted(maps.Keys(source)) {
		if _, is := known[name]; !is && !ofHistogram(known, name) {
			t.Errorf("%s is in the source and not in cloud/exposition/catalogue.go", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(known)) {
		if strings.HasPrefix(name, "weir_") && !source[name] {
			t.Errorf("%s is in the catalogue and not in the source", name)
		}
	}
}

// ofHistogram reports whether a name is that of a sample of a histogram.
func ofHistogram(known map[string]exposition.Family, name string) bool {
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		if base, has := strings.CutSuffix(name, suffix); has && known[base].Type == exposition.Histogram {
			return true
		}
	}
	return false
}

// metricsOf finds the names of metrics in what is not a test. One that ends in an
// underscore is a part of a name.
func metricsOf(t *testing.T, folders ...string) map[string]bool {
	t.Helper()
	had := make(map[string]bool)
	literal := regexp.MustCompile("[\"`](weir_[a-z0-9_]*[a-z0-9])[\"`{]")
	for _, folder := range folders {
		err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || filepath.Base(filepath.Dir(path)) == "exposition" {
				return err
			}
			source, err := os.ReadFile(path)
			for _, m := range literal.FindAllSubmatch(source, -1) {
				had[string(m[1])] = true
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return had
}
