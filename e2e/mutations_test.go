package e2e

import (
	"bytes"
	"go/ast"
	"go/build/constraint"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/weirmq/weir/e2e/harness"
)

// testTag is the build tag with which single rules of the product can be broken, so that
// its tests can show that they would notice.
const testTag = "weirtest"

var shipped = []string{"weir-cloud", "weir-edge", "weirctl", "firmware-sim"}

// TestMutationsAreNotShipped looks for the names of all mutations in what `make build` made.
// In the same binaries built with the tag it has to find each of them.
func TestMutationsAreNotShipped(t *testing.T) {
	names := mutations(t)
	if len(names) < 20 {
		t.Fatalf("found only %d mutations in the source: %v", len(names), names)
	}
	dir := t.TempDir()
	build := exec.Command("go", "build", "-trimpath", "-tags", testTag, "-ldflags", "-s -w", "-o", dir+"/",
		module+"/cloud/weir-cloud", module+"/edge/weir-edge", module+"/cloud/weirctl", module+"/firmware-sim")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build with the tag %s: %v\n%s", testTag, err, said)
	}
	var made, tagged [][]byte
	for _, name := range shipped {
		path, err := harness.Binary(name)
		if err != nil {
			t.Fatal(err)
		}
		made, tagged = append(made, read(t, path)), append(tagged, read(t, filepath.Join(dir, name)))
	}
	for _, m := range names {
		for i := range made {
			for _, name := range m {
				if bytes.Contains(made[i], []byte(name)) {
					t.Errorf("bin/%s contains %q", shipped[i], name)
				}
			}
		}
		if !slices.ContainsFunc(tagged, func(binary []byte) bool {
			return slices.ContainsFunc(m, func(name string) bool { return bytes.Contains(binary, []byte(name)) })
		}) {
			t.Errorf("%v is in none of the binaries built with the tag, so this test cannot see it", m)
		}
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	p, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// mutations returns the names of each mutation as binaries bear them: of the function that asks
// for it, with its package, and of the field, which is the same word.
func mutations(t *testing.T) (names [][]string) {
	t.Helper()
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil || !needsTag(f) {
			return err
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil {
				field := strings.ToUpper(fn.Name.Name[:1]) + fn.Name.Name[1:]
				names = append(names, []string{f.Name.Name + "." + fn.Name.Name, field})
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// needsTag reports whether a file is part only of a build with the tag.
func needsTag(f *ast.File) bool {
	for _, group := range f.Comments {
		for _, c := range group.List {
			if expr, err := constraint.Parse(c.Text); err == nil && c.Pos() < f.Package {
				return !expr.Eval(func(tag string) bool { return tag != testTag }) && expr.Eval(func(string) bool { return true })
			}
		}
	}
	return false
}
