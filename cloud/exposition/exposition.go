// Package exposition writes metrics in Prometheus's text format 0.0.4: each family in
// one piece, with its type and its help text. catalogue.go lists all families of
// weir-cloud and weir-edge.
package exposition

import (
	"bytes"
	"io"
	"maps"
	"slices"
	"strings"
)

// ContentType is the content type of what Write writes.
const ContentType = "text/plain; version=0.0.4; charset=utf-8"

// Type is the type of a family.
type Type string

// The types of families.
const (
	Counter   Type = "counter"
	Gauge     Type = "gauge"
	Histogram Type = "histogram"
	Summary   Type = "summary"
)

// Seconds returns the upper bounds of a histogram of times that are usually short.
func Seconds() []float64 {
	return []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}
}

// Family describes a metric.
type Family struct {
	Type Type
	Help string // a line
}

// group is the samples of one family.
type group struct {
	Family
	known bool
	lines bytes.Buffer
}

// Write writes the samples of the sources, without their comment lines. Families are
// sorted by name, and their samples are in the order of the sources. A family that is
// not in the catalogue is written without a type, or left out if it belongs to the Go
// runtime or the process.
func Write(w io.Writer, sources ...func(io.Writer)) error {
	var raw bytes.Buffer
	for _, source := range sources {
		source(&raw)
	}
	known, groups := Catalogue(), make(map[string]*group)
	for line := range bytes.Lines(raw.Bytes()) {
		if line = bytes.TrimRight(line, "\r\n"); len(line) == 0 || line[0] == '#' {
			continue
		}
		sample := string(line[:max(0, bytes.IndexAny(line, "{ "))])
		name, f, is := familyOf(known, sample)
		if !is && foreign(name) {
			continue
		}
		g := groups[name]
		if g == nil {
			g = &group{Family: f, known: is}
			groups[name] = g
		}
		g.lines.Write(line)
		g.lines.WriteByte('\n')
	}
	var out bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(groups)) {
		g := groups[name]
		if g.known {
			out.WriteString("# HELP " + name + " " + g.Help + "\n")
			out.WriteString("# TYPE " + name + " " + string(g.Type) + "\n")
		}
		out.Write(g.lines.Bytes())
	}
	_, err := w.Write(out.Bytes())
	return err
}

// familyOf finds the family of a sample; without one the sample is its own family.
func familyOf(known map[string]Family, sample string) (name string, f Family, is bool) {
	if f, is = known[sample]; is {
		return sample, f, true
	}
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		base, has := strings.CutSuffix(sample, suffix)
		if f := known[base]; has && (f.Type == Histogram || f.Type == Summary && suffix != "_bucket") {
			return base, f, true
		}
	}
	return sample, Family{}, false
}

// foreign reports whether a metric belongs to the process and not to Weir. Which ones
// exist depends on the system; the catalogue has the useful ones.
func foreign(name string) bool {
	return strings.HasPrefix(name, "go_") || strings.HasPrefix(name, "process_")
}
