package engine

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// childVariable of the environment makes the test's binary a child process that
// does one of children, so that time and memory are those of a process that has
// done nothing else. What it needs is JSON in childArguments, what it found is
// JSON on its standard output.
const (
	childVariable  = "WEIR_ENGINE_CHILD"
	childArguments = "WEIR_ENGINE_ARGUMENTS"
)

func runChild(name string) int {
	err := fmt.Errorf("no child %q", name)
	switch name {
	case "grow":
		err = answer(grow)
	case "fill":
		err = answer(fill)
	case "shred":
		err = answer(shred)
	case "reopen":
		err = answer(reopen)
	case "amass":
		err = answer(amass)
	case "scan":
		err = answer(scan)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func answer[A, R any](do func(context.Context, A) (R, error)) error {
	var a A
	if err := json.Unmarshal([]byte(os.Getenv(childArguments)), &a); err != nil {
		return fmt.Errorf("read arguments: %w", err)
	}
	r, err := do(context.Background(), a)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

// inChild does in a process of its own what runChild knows by that name.
func inChild[R any](t *testing.T, name string, arguments any) (r R) {
	t.Helper()
	a, err := json.Marshal(arguments)
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program)
	cmd.Env = append(os.Environ(), childVariable+"="+name, childArguments+"="+string(a))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = os.Stderr
	// The signal comes when the thread ends that started the child.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatalf("%s said %q: %v", name, out, err)
	}
	return r
}

// usage is memory in bytes: what the process has now, what of that is no part of a
// file, the most that it had, and what of Go's heap is in use.
type usage struct{ RSS, Anon, Peak, Heap int64 }

func used() (u usage, err error) {
	if u, err = resident(); err != nil {
		return u, err
	}
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	u.Heap = int64(m.HeapAlloc)
	return u, nil
}

// resident is usage without Heap, as it is: nothing is collected first.
func resident() (u usage, err error) {
	f, err := os.Open("/proc/self/status")
	if err != nil {
		return u, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		name, rest, _ := strings.Cut(lines.Text(), ":")
		kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
		switch {
		case err != nil:
		case name == "VmRSS":
			u.RSS = kib << 10
		case name == "RssAnon":
			u.Anon = kib << 10
		case name == "VmHWM":
			u.Peak = kib << 10
		}
	}
	return u, lines.Err()
}

// seconds that do takes.
func seconds(do func() error) (float64, error) {
	began := time.Now()
	err := do()
	return time.Since(began).Seconds(), err
}
