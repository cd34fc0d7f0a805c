// Command weirctl looks at a Weir cluster and administers it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/pflag"

	"github.com/weirmq/weir/configs"
)

func main() {
	os.Exit(run(os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr))
}

// errProblems: check ran and found something.
var errProblems = errors.New("problems found")

// verb is one command.
type verb struct {
	name    string
	usage   string // arguments
	summary string
	notes   string
	offline bool // it asks no node
	flags   func(*pflag.FlagSet, *call)
	run     func(context.Context, *call) error
}

// call is one invocation of a verb.
type call struct {
	args     []string
	environ  []string
	cloud    string      // --cloud
	data, ca string      // --data, --ca
	insecure bool        // --insecure
	shown    *credential // what requests show; nil: to be found
	json     bool        // -o json
	stdin    io.Reader
	stdout   io.Writer
	stderr   io.Writer

	// Flags of single verbs.
	kafka, key, group, from string
	follow                  bool
	partitions              int32
	count, uses             int
	configs, gateways       []string
	topics                  []string
	life                    string
	mechanisms              []string
	role, secretFile        string
	repair                  bool
	acl                     aclFlags
	quota                   quotaFlags
	login                   loginFlags
}

func verbs() []verb {
	return []verb{topicsVerb(), gatewaysVerb(), groupsVerb(), usersVerb(), aclsVerb(), quotasVerb(), adminVerb(), consumeVerb(), produceVerb(), joinTokenVerb(),
		loginVerb(), logoutVerb(), checkVerb(), upgradeVerb()}
}

func run(args, environ []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := dispatch(ctx, args, environ, &call{environ: environ, stdin: stdin, stdout: stdout, stderr: stderr})
	switch {
	case err == nil, errors.Is(err, configs.ErrDone):
		return 0
	case errors.Is(err, errProblems):
		return 1
	default:
		fmt.Fprintln(stderr, "weirctl:", err)
		return 2
	}
}

func dispatch(ctx context.Context, args, environ []string, c *call) error {
	if len(args) == 0 || args[0] == "help" || args[0] == "-h" || args[0] == "--help" {
		overview(c.stdout)
		return nil
	}
	if args[0] == "--version" || args[0] == "version" {
		fmt.Fprintln(c.stdout, "weirctl", configs.Version())
		return nil
	}
	var known []string
	for _, v := range verbs() {
		if v.name == args[0] {
			return v.call(ctx, args[1:], environ, c)
		}
		known = append(known, v.name)
	}
	if near := configs.Nearest(args[0], known); near != "" {
		return fmt.Errorf("unknown verb %q (did you mean %s?)", args[0], near)
	}
	return fmt.Errorf("unknown verb %q: there are %s", args[0], strings.Join(known, ", "))
}

func (v verb) call(ctx context.Context, args, environ []string, c *call) error {
	fs := pflag.NewFlagSet("weirctl "+v.name, pflag.ContinueOnError)
	if v.flags != nil {
		v.flags(fs, c)
	}
	if !v.offline {
		c.cloudFlags(fs)
	}
	output := fs.StringP("output", "o", "text", "text or json")
	p := configs.Program{Name: "weirctl " + v.name, Summary: v.summary, Usage: "weirctl " + v.name + " " + v.usage, Notes: v.notes,
		New: []string{"data", "ca", "insecure", "role", "secret-file", "topics", "repair"}, Warnings: c.stderr}
	if err := configs.Load(p, fs, args, environ, c.stdout); err != nil {
		return err
	}
	if *output != "text" && *output != "json" {
		return fmt.Errorf("--output %q is neither text nor json", *output)
	}
	c.json, c.args = *output == "json", fs.Args()
	return v.run(ctx, c)
}

func overview(w io.Writer) {
	fmt.Fprint(w, "weirctl looks at a Weir cluster and administers it.\n\nUsage:\n  weirctl VERB [arguments] [flags]\n\nVerbs:\n")
	for _, v := range verbs() {
		first, _, _ := strings.Cut(v.summary, "\n")
		fmt.Fprintf(w, "  %-12s %s\n", v.name, first)
	}
	fmt.Fprint(w, "\n`weirctl VERB --help` tells more. Every verb takes -o json, and --cloud URL if it asks a node.\n")
}
