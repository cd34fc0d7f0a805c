package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// judge runs go test -json on a package with this file, and shows what the report makes
// of it.
func judge(t *testing.T, source string) (out string, code int) {
	t.Helper()
	dir := t.TempDir()
	for name, body := range map[string]string{"go.mod": "module example\n\ngo 1.26\n", "x_test.go": "package x\n\n" + source} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("go", "test", "-json", "-count=1", "-timeout", "20s", ".")
	cmd.Dir = dir
	said, err := cmd.Output()
	if len(said) == 0 {
		t.Fatalf("go test said nothing: %v", err)
	}
	var b strings.Builder
	code = run(strings.NewReader(string(said)), &b)
	if (code != 0) != (err != nil) {
		t.Errorf("the report ends with %d, go test with %v", code, err)
	}
	return b.String(), code
}

const imports = `import ("testing"; "fmt"; "time"); var _ = fmt.Sprint; var _ = time.Now
`

func TestReport(t *testing.T) {
	for name, c := range map[string]struct {
		source   string
		has, not []string
	}{
		"pass": {imports + `func TestA(t *testing.T) { t.Log("noise") }`,
			[]string{"ok  \texample", "1 tests passed, none was skipped"}, []string{"noise", "PASS", "==="}},
		"skip": {imports + `func TestA(t *testing.T) { t.Log("before"); t.Skip("SKIPPED: mvn is not installed (maven)") }
			func TestB(t *testing.T) { t.Run("sub", func(t *testing.T) { t.Skip("no root") }) }`,
			[]string{"1 tests passed, 2 skipped:", "  example TestA: mvn is not installed (maven)\n", "  example TestB/sub: no root\n"}, []string{"SKIPPED"}},
		"fail": {imports + `func TestA(t *testing.T) { t.Log("seed 7"); t.Error("lost 3") }
			func TestB(t *testing.T) { t.Log("noise") }`,
			[]string{"--- FAIL: TestA", "seed 7", "lost 3", "FAIL\texample"}, []string{"noise"}},
		"panic": {imports + `func TestA(t *testing.T) { t.Log("seed 7"); panic("oh") }`,
			[]string{"seed 7", "panic: oh", "goroutine ", "FAIL\texample"}, nil},
		"compile": {imports + `func TestA(t *testing.T) { undefined() }`,
			[]string{"undefined: undefined", "[build failed]"}, nil},
		"print": {imports + `func TestA(t *testing.T) { fmt.Println("{not json"); t.Fail() }`,
			[]string{"{not json", "FAIL"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, _ := judge(t, c.source)
			for _, want := range c.has {
				if !strings.Contains(out, want) {
					t.Errorf("%q is not in\n%s", want, out)
				}
			}
			for _, no := range c.not {
				if strings.Contains(out, no) {
					t.Errorf("%q is in\n%s", no, out)
				}
			}
		})
	}
}

// TestWhatGoSays: a line that is no event is shown, and garbage does not pass for success.
func TestWhatGoSays(t *testing.T) {
	var b strings.Builder
	run(strings.NewReader("go: cannot find main module\n"), &b)
	if !strings.Contains(b.String(), "go: cannot find main module") {
		t.Error(b.String())
	}
	b.Reset()
	if run(strings.NewReader(`{"Action":"fail","Package":"p"}`), &b) == 0 {
		t.Error("a failed package is success")
	}
}
