// Command report prints the output of `go test -json` as go test itself would, and
// finally lists the skipped tests. It is what `make test` runs.
//
// Its exit code is 0 if everything passed. The caller must also check the exit code of
// go test (pipefail): if go test cannot start its tests, it may print nothing here.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

func main() { os.Exit(run(os.Stdin, os.Stdout)) }

func run(in io.Reader, out io.Writer) int {
	r := newReport(out)
	if err := r.read(in); err != nil {
		fmt.Fprintln(out, "report: read the output of go test:", err)
		return 1
	}
	r.end()
	if r.failed {
		return 1
	}
	return 0
}

// event is a line of go test -json.
type event struct {
	Action      string
	Package     string
	ImportPath  string // of a build
	Test        string
	Output      string
	FailedBuild string
}

// test names a test, or a package if name is "".
type test struct{ pkg, name string }

// report is what has been read so far.
type report struct {
	out    io.Writer
	said   map[test][]string // lines of what has not ended
	skips  []skip
	passed int
	failed bool
}

type skip struct {
	test
	reason string
}

func newReport(out io.Writer) *report {
	return &report{out: out, said: make(map[test][]string)}
}

func (r *report) read(in io.Reader) error {
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			r.line(line)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (r *report) line(line string) {
	var e event
	if !strings.HasPrefix(line, "{") || json.Unmarshal([]byte(line), &e) != nil {
		fmt.Fprint(r.out, line) // of go itself
		return
	}
	t := test{e.Package, e.Test}
	switch e.Action {
	case "build-output":
		fmt.Fprint(r.out, e.Output)
	case "build-fail":
		r.failed = true
	case "output":
		r.said[t] = append(r.said[t], e.Output)
	case "pass", "skip", "fail":
		r.ended(t, e.Action)
	}
}

func (r *report) ended(t test, how string) {
	said := r.said[t]
	delete(r.said, t)
	switch {
	case how == "fail":
		r.failed = true
		if t.name == "" {
			r.tellUnfinished(t.pkg)
		}
		r.tell(said)
	case t.name == "":
		r.tell(said[max(0, len(said)-1):]) // ok, or that there are no tests
	case how == "skip":
		r.skips = append(r.skips, skip{t, reason(said)})
	default:
		r.passed++
	}
}

// tellUnfinished prints the output of a package's tests that a panic or the time-out
// cut off.
func (r *report) tellUnfinished(pkg string) {
	var cut []test
	for t := range r.said {
		if t.pkg == pkg {
			cut = append(cut, t)
		}
	}
	slices.SortFunc(cut, func(a, b test) int { return strings.Compare(a.name, b.name) })
	for _, t := range cut {
		r.tell(r.said[t])
		delete(r.said, t)
	}
}

// tell prints lines, except those that only a verbose run has.
func (r *report) tell(lines []string) {
	for _, line := range lines {
		if !strings.HasPrefix(line, "=== ") {
			fmt.Fprint(r.out, line)
		}
	}
}

// reason returns the last line of a skipped test, without the place in the source.
func reason(said []string) string {
	why := ""
	for _, line := range said {
		text := strings.TrimSpace(line)
		if text == "" || strings.HasPrefix(text, "=== ") || strings.HasPrefix(text, "--- ") {
			continue
		}
		if place, rest, ok := strings.Cut(text, ": "); ok && strings.Contains(place, ".go:") {
			text = rest
		}
		why = text
	}
	return strings.TrimPrefix(why, "SKIPPED: ")
}

// end prints the skipped tests.
func (r *report) end() {
	if len(r.skips) == 0 {
		fmt.Fprintf(r.out, "\n%d tests passed, none was skipped.\n", r.passed)
		return
	}
	fmt.Fprintf(r.out, "\n%d tests passed, %d skipped:\n", r.passed, len(r.skips))
	for _, s := range r.skips {
		fmt.Fprintf(r.out, "  %s %s: %s\n", s.pkg, s.name, s.reason)
	}
}
