// Command firmware-sim simulates a fleet of devices and serves as a load generator. With
// `verify` it is an auditor that reports whether anything was lost.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/weirmq/weir/configs"
)

func main() { os.Exit(run(os.Args[1:], os.Environ(), os.Stdout, os.Stderr)) }

// Exit codes: the audit found something; the command failed.
const (
	exitUnclean = 1
	exitFailed  = 2
)

// errUnclean: the audit completed and found something.
var errUnclean = errors.New("the audit found lost, duplicated or disordered readings")

func run(args, environ []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if len(args) > 0 && args[0] == "verify" {
		err = verify(ctx, args[1:], environ, stdout)
	} else {
		err = simulate(ctx, args, environ, stdout, stderr)
	}
	switch {
	case err == nil, errors.Is(err, configs.ErrDone):
		return 0
	case errors.Is(err, errUnclean):
		return exitUnclean
	default:
		fmt.Fprintln(stderr, "firmware-sim:", err)
		return exitFailed
	}
}
