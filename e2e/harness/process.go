// Package harness runs Weir's real binaries for tests, benchmarks and the
// demo: it starts them on free loopback ports, learns their addresses from the
// line "ready", kills them, and cuts the link between them.
package harness

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// startTimeout is how long a process may take until it says "ready".
const startTimeout = 60 * time.Second

// Process is one running binary. Its log is appended to a file, so that the logs of all
// runs of a restarted process are in one place.
type Process struct {
	Name string
	Log  string            // path of the log
	Addr map[string]string // what the ready line said: kafka=…, mqtt=…

	cmd    *exec.Cmd
	exited chan struct{} // closed when the process is gone
	err    error         // of Wait; valid after exited
}

// Binary returns the path of one of the binaries that `make build` made. If name is
// already a path, it returns it unchanged.
func Binary(name string) (string, error) {
	if filepath.IsAbs(name) {
		return name, nil
	}
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		path := filepath.Join(dir, "bin", name)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("find bin/%s: not built, run make build", name)
		}
	}
}

// Start runs a binary and waits until it is ready. The process is killed when
// this one dies.
func Start(dir, name, binary string, args ...string) (*Process, error) {
	return StartIn("", dir, name, binary, args...)
}

// StartIn is Start in a network namespace.
func StartIn(namespace, dir, name, binary string, args ...string) (*Process, error) {
	p, ready, err := launch(namespace, dir, name, binary, args...)
	if err != nil {
		return nil, err
	}
	timer := time.NewTimer(startTimeout)
	defer timer.Stop()
	select {
	case addr, ok := <-ready:
		if ok {
			p.Addr = addr
			return p, nil
		}
		<-p.exited
		return nil, fmt.Errorf("start %s: %v\n%s", name, p.err, p.Tail(20))
	case <-timer.C:
		p.Kill()
		return nil, fmt.Errorf("start %s: not ready after %v\n%s", name, startTimeout, p.Tail(20))
	}
}

// launch starts a binary; the channel carries what its ready line says, and is
// closed when the log ends.
func launch(namespace, dir, name, binary string, args ...string) (*Process, <-chan map[string]string, error) {
	path, err := Binary(binary)
	if err != nil {
		return nil, nil, err
	}
	p := &Process{Name: name, Log: filepath.Join(dir, name+".log"), exited: make(chan struct{})}
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, nil, err
	}
	p.cmd = command(namespace, path, args...)
	// A group of its own, so that Ctrl-C reaches only the harness.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	p.cmd.Stdout = log
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		return nil, nil, errors.Join(err, log.Close())
	}
	fmt.Fprintf(log, "---- %s %s\n", binary, strings.Join(args, " "))
	if err := p.cmd.Start(); err != nil {
		return nil, nil, errors.Join(err, log.Close())
	}
	ready := make(chan map[string]string, 1)
	go func() {
		follow(stderr, log, ready)
		p.err = p.cmd.Wait()
		log.Close()
		close(p.exited)
	}()
	return p, ready, nil
}

// command builds a command that runs in a network namespace, if one is named.
func command(namespace, path string, args ...string) *exec.Cmd {
	if namespace == "" {
		return exec.Command(path, args...)
	}
	return exec.Command("ip", append([]string{"netns", "exec", namespace, path}, args...)...)
}

// follow copies a process's log and reports its ready line.
func follow(in io.Reader, log io.Writer, ready chan<- map[string]string) {
	defer close(ready)
	said := false
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadString('\n')
		io.WriteString(log, line)
		if !said && strings.Contains(line, " msg=ready ") {
			said = true
			ready <- fields(line)
		}
		if err != nil {
			return
		}
	}
}

// fields splits key=value pairs as slog writes them.
func fields(line string) map[string]string {
	m := make(map[string]string)
	for _, f := range strings.Fields(line) {
		if k, v, ok := strings.Cut(f, "="); ok {
			if u, err := strconv.Unquote(v); err == nil {
				v = u
			}
			m[k] = v
		}
	}
	return m
}

// Signal sends a signal; it is no error if the process is gone.
func (p *Process) Signal(sig syscall.Signal) {
	_ = p.cmd.Process.Signal(sig) // os.ErrProcessDone: gone already
}

// Kill ends the process with SIGKILL and waits until it is gone.
func (p *Process) Kill() {
	p.Signal(syscall.SIGKILL)
	<-p.exited
}

// Stop ends the process with SIGTERM, as systemd does, and returns its exit
// error. A process that does not stop within 30 s is killed.
func (p *Process) Stop() error {
	p.Signal(syscall.SIGTERM)
	timer := time.AfterFunc(30*time.Second, func() { p.Signal(syscall.SIGKILL) })
	<-p.exited
	if !timer.Stop() {
		return fmt.Errorf("%s did not stop within 30 s", p.Name)
	}
	return p.err
}

// Exited is closed when the process is gone, for whatever reason.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// ExitCode returns the code of a process that is gone, -1 if a signal ended it.
func (p *Process) ExitCode() int { return p.cmd.ProcessState.ExitCode() }

// Pid returns the id of the process.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// RSS returns the resident memory of the process in bytes.
func (p *Process) RSS() (int64, error) {
	body, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.Pid()))
	if err != nil {
		return 0, err
	}
	var size, resident int64
	if _, err := fmt.Sscan(string(body), &size, &resident); err != nil {
		return 0, fmt.Errorf("parse statm: %w", err)
	}
	return resident * int64(os.Getpagesize()), nil
}

// CPU returns the processor time that a process has used, to 10 ms.
func CPU(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest) // from the third on, of proc(5)
	if len(fields) < 13 {
		return 0, fmt.Errorf("parse stat: %q", stat)
	}
	ticks := 0
	for _, f := range fields[11:13] {
		n, err := strconv.Atoi(f)
		if err != nil {
			return 0, fmt.Errorf("parse stat: %w", err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}

// Tail returns the last lines of the process's log.
func (p *Process) Tail(n int) string {
	body, err := os.ReadFile(p.Log)
	if err != nil {
		return err.Error()
	}
	lines := strings.SplitAfter(string(body), "\n")
	return strings.Join(lines[max(0, len(lines)-n-1):], "")
}

// Run runs a binary to its end and returns what it printed.
func Run(binary string, args ...string) (stdout, stderr string, err error) {
	return RunIn("", binary, args...)
}

// RunIn is Run in a network namespace.
func RunIn(namespace, binary string, args ...string) (stdout, stderr string, err error) {
	path, err := Binary(binary)
	if err != nil {
		return "", "", err
	}
	var out, errs lockedBuffer
	cmd := command(namespace, path, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

// lockedBuffer collects output that two goroutines of exec may write.
type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
