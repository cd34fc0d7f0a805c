package redistest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"time"
)

// process is a server program that dies with this process.
type process struct {
	command []string
	log     bytes.Buffer // of all runs; to be read after stop

	cmd   *exec.Cmd
	stdin io.Closer // nil while there is none
}

// start starts the program and waits until ready returns nil.
func (p *process) start(ready func() error) error {
	// The shell kills the server when its standard input ends, which it does
	// even when this process is killed.
	p.cmd = exec.Command("sh", append([]string{"-c", `"$@" & read -r _; kill -9 $!; wait`, "sh"}, p.command...)...)
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := p.cmd.Start(); err != nil {
		return err
	}
	p.stdin = stdin

	limit := time.NewTimer(30 * time.Second)
	defer limit.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ready()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-limit.C:
			return fmt.Errorf("not ready after 30 s: %w", err)
		}
	}
}

// stop kills the program with SIGKILL and waits for its end.
func (p *process) stop() {
	if p.stdin != nil {
		p.stdin.Close()
		p.cmd.Wait()
		p.stdin = nil
	}
}

// converse sends commands to a server; each is followed by the answer that it
// has to give.
func converse(address string, script ...string) error {
	conn, err := net.DialTimeout("tcp", address, time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Second))
	answers := bufio.NewReader(conn)
	for len(script) > 0 {
		if _, err := fmt.Fprintf(conn, "%s\r\n", script[0]); err != nil {
			return err
		}
		got, err := answers.ReadString('\n')
		if err != nil {
			return err
		}
		if got = strings.TrimSpace(got); got != script[1] {
			return errors.New(got)
		}
		script = script[2:]
	}
	return nil
}
