// Command weirctl inspects and administers a Weir cluster.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

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
	offline bool // it does not ask a node
	flags   func(*pflag.FlagSet, *call)
	run     func(context.Context, *call) error

	actions []string // words that its first argument can be
	names   string   // what its arguments name: topics, groups, queues, gateways, users or vhosts; "" for none
}

// call is one invocation of a verb.
type call struct {
	args     []string
	environ  []string
	cloud    string   // --cloud
	answered string   // the node that answered last
	dirs     []string // where this machine may have a credential; for sessions, that of a gateway
	asker    *http.Client
	data, ca string      // --data, --ca
	insecure bool        // --insecure
	shown    *credential // the credential of requests; nil: not looked up yet
	output   string      // -o
	json     bool        // -o json
	changed  func(flag string) bool
	stdin    io.Reader
	stdout   io.Writer
	stderr   io.Writer

	// Flags of single verbs.
	read              readFlags
	kafka, key        string
	partitions        int32
	uses              int
	configs, gateways []string
	topics            []string
	life              time.Duration
	mechanisms        []string
	role, secretFile  string
	repair            bool
	acl               aclFlags
	quota             quotaFlags
	permission        permissionFlags
	queue             queueFlags
	login             loginFlags
	shards            int  // --to
	dryRun            bool // --dry-run
	unknown           bool // --unknown
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
	if len(args) > 0 && args[0] == completeWord {
		return c.complete(ctx, args[1:])
	}
	given := args
	args, err := verbFirst(given)
	switch {
	case len(given) == 0, errors.Is(err, errNoVerb) && (slices.Contains(given, "-h") || slices.Contains(given, "--help")):
		overview(c.stdout)
		return nil
	case errors.Is(err, errNoVerb) && slices.Contains(given, "--version"):
		fmt.Fprintln(c.stdout, "weirctl", configs.Version())
		return nil
	case err != nil:
		return err
	}
	switch args[0] {
	case "help":
		about, err := verbFirst(args[1:])
		if err != nil {
			overview(c.stdout)
			return nil
		}
		args = []string{about[0], "--help"}
	case "version":
		fmt.Fprintln(c.stdout, "weirctl", configs.Version())
		return nil
	}
	v, err := verbOf(args[0])
	if err != nil {
		return err
	}
	return v.call(ctx, args[1:], environ, c)
}

// flagSet has the flags of a verb.
func (v verb) flagSet(c *call) *pflag.FlagSet {
	fs := pflag.NewFlagSet("weirctl "+v.name, pflag.ContinueOnError)
	if v.flags != nil {
		v.flags(fs, c)
	}
	if !v.offline {
		c.cloudFlags(fs)
	}
	fs.StringVarP(&c.output, "output", "o", "text", "`format` of the output: text or json")
	return fs
}

func (v verb) call(ctx context.Context, args, environ []string, c *call) error {
	fs := v.flagSet(c)
	p := configs.Program{Name: "weirctl " + v.name, Summary: v.summary, Usage: "weirctl " + v.name + " " + v.usage, Notes: v.notes,
		New: []string{"data", "ca", "insecure", "role", "secret-file", "topics", "repair", "partition", "offset", "since", "value", "max", "edge", "vhost", "exchange", "configure", "write", "read", "to-queue", "to-exchange", "if-empty", "if-unused", "to", "dry-run"}, Warnings: c.stderr}
	if err := configs.Load(p, fs, args, environ, c.stdout); err != nil {
		return err
	}
	if c.output != "text" && c.output != "json" {
		return fmt.Errorf("--output %q is neither text nor json", c.output)
	}
	c.json, c.args, c.changed = c.output == "json", fs.Args(), fs.Changed
	return v.run(ctx, c)
}

// wrong returns the error for arguments that a verb does not take, with the nearest
// known word if there is one.
func (c *call) wrong(takes string, actions []string) error {
	if len(c.args) > 0 && !slices.Contains(actions, c.args[0]) {
		if near := configs.Nearest(c.args[0], actions); near != "" {
			return fmt.Errorf("%s; did you mean %s?", takes, near)
		}
	}
	return errors.New(takes)
}

func overview(w io.Writer) {
	fmt.Fprint(w, "weirctl inspects and administers a Weir cluster.\n\nUsage:\n  weirctl [flags] VERB [arguments] [flags]\n\nVerbs:\n")
	for _, v := range verbs() {
		first, _, _ := strings.Cut(v.summary, "\n")
		fmt.Fprintf(w, "  %-12s %s\n", v.name, first)
	}
	fmt.Fprint(w, "\n`weirctl help VERB` says more. Every verb takes -o json, and --cloud URL if it asks a node. Flags may\n"+
		"stand before the verb or after it.\n"+
		"`weirctl completion bash` (or zsh, or fish) completes verbs, flags and names in your shell.\n")
}
