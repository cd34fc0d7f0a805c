// Package configs reads the settings of Weir's binaries. Every flag is also a key of
// the YAML file named by --config, and a variable that begins with the binary's name
// (WEIR_EDGE_…, WEIR_CLOUD_…, WEIRCTL_…). Flags override variables, variables the file,
// and the file the defaults.
//
// The sample files beside this package are read by the tests of the binaries
// that they are for.
package configs

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"
)

// ErrDone: --help or --version was given and has been answered; the program ends with
// exit code 0.
var ErrDone = errors.New("nothing left to do")

// version is set by the linker (see the Makefile).
var version = "devel"

// Version names this build: a tag, a commit, or "devel".
func Version() string { return version }

// Program is what --help and --version print around the flags.
type Program struct {
	Name    string // of the binary
	Summary string // a sentence or two: what it is for
	Usage   string // the line after "Usage:"; Name + " [flags]" if empty
	Notes   string // printed below the flags: examples, files

	Also     []string  // keys that the file may have besides the flags: those of the binary's other commands
	New      []string  // flags that never had a variable WEIR_<FLAG>
	Warnings io.Writer // gets a line for each deprecated setting; os.Stderr if nil
}

// variable returns the environment variable of a flag. The verbs of one binary share
// it.
func (p Program) variable(flag string) string {
	binary, _, _ := strings.Cut(p.Name, " ")
	return upper(binary + "-" + flag)
}

// oldVariable returns the former variable of a flag. It was the same for all binaries,
// so WEIR_CLOUD was an address for one and a URL for another.
func oldVariable(flag string) string { return upper("weir-" + flag) }

func upper(name string) string { return strings.ToUpper(strings.ReplaceAll(name, "-", "_")) }

// Load fills the flags of fs from args, the environment and the file named by --config.
// Arguments that are not flags stay in fs.Args. An unknown flag or key, or an invalid
// value, is an error of one sentence that names the nearest known one. ErrDone means
// that the answer to --help or --version was written to out.
func Load(p Program, fs *pflag.FlagSet, args, environ []string, out io.Writer) error {
	fs.SortFlags = false
	file := fs.String("config", "", "YAML `file` with the same keys as these flags")
	help := fs.BoolP("help", "h", false, "print this help")
	show := fs.Bool("version", false, "print the version")
	fs.Usage = func() {}
	fs.SetOutput(io.Discard)
	if err := fs.Parse(args); err != nil {
		return flagError(fs, err)
	}
	switch {
	case *help:
		printHelp(p, fs, out)
		return ErrDone
	case *show:
		fmt.Fprintf(out, "%s %s\n", p.Name, version)
		return ErrDone
	}
	if err := p.fromEnvironment(fs, environ); err != nil {
		return err
	}
	if *file == "" {
		return nil
	}
	body, err := os.ReadFile(*file)
	if err != nil {
		return fmt.Errorf("read --config: %w", err)
	}
	if err := p.fromYAML(fs, body); err != nil {
		return fmt.Errorf("%s: %w", *file, err)
	}
	return nil
}

// flagError says what is wrong with the arguments.
func flagError(fs *pflag.FlagSet, err error) error {
	var unknown *pflag.NotExistError
	var empty *pflag.ValueRequiredError
	var syntax *pflag.InvalidSyntaxError
	switch {
	case errors.As(err, &unknown) && unknown.GetSpecifiedShortnames() != "":
		return fmt.Errorf("unknown flag -%s", unknown.GetSpecifiedShortnames())
	case errors.As(err, &unknown):
		name := unknown.GetSpecifiedName()
		return fmt.Errorf("unknown flag --%s%s", name, didYouMean("--", name, names(fs)))
	case errors.As(err, &empty):
		return fmt.Errorf("--%s needs a value", empty.GetFlag().Name)
	case errors.As(err, &syntax):
		return fmt.Errorf("%s is not a flag", syntax.GetSpecifiedFlag())
	}
	var invalid *pflag.InvalidValueError
	if errors.As(err, &invalid) {
		return fmt.Errorf("--%s: %w", invalid.GetFlag().Name, valueError(err))
	}
	return err
}

// valueError says what is wrong with the value of a flag, without naming the flag.
func valueError(err error) error {
	var invalid *pflag.InvalidValueError
	if !errors.As(err, &invalid) {
		return err
	}
	cause := invalid.Unwrap()
	var number *strconv.NumError // of an element of a list
	switch {
	case errors.As(cause, &number):
		return fmt.Errorf("%q must be an integer", number.Num)
	case strings.HasPrefix(cause.Error(), "must be "): // pflag's: it does not name the value
		return fmt.Errorf("%q %w", invalid.GetValue(), cause)
	}
	return cause
}

func (p Program) fromEnvironment(fs *pflag.FlagSet, environ []string) error {
	set := make(map[string]string, len(environ))
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		set[name] = value
	}
	var first error
	fs.VisitAll(func(f *pflag.Flag) {
		if f.Changed || first != nil || meta(f.Name) && f.Name != "config" {
			return
		}
		name := p.variable(f.Name)
		value, ok := set[name]
		if old := oldVariable(f.Name); !ok {
			if value, ok = set[old]; !ok || slices.Contains(p.New, f.Name) {
				return
			}
			p.warn("variable %s is now called %s: the old name is read by this release, and by no later one", old, name)
			name = old
		}
		values := []string{value}
		if repeated(f) {
			values = strings.Split(value, ";")
		}
		for _, v := range values {
			if err := fs.Set(f.Name, v); err != nil && first == nil {
				first = fmt.Errorf("variable %s: %w", name, valueError(err))
			}
		}
	})
	return first
}

func (p Program) warn(format string, args ...any) {
	w := p.Warnings
	if w == nil {
		w = os.Stderr
	}
	binary, _, _ := strings.Cut(p.Name, " ")
	fmt.Fprintf(w, binary+": "+format+"\n", args...)
}

func (p Program) fromYAML(fs *pflag.FlagSet, body []byte) error {
	var doc map[string]yaml.Node
	if err := yaml.Unmarshal(body, &doc); err != nil {
		return fmt.Errorf("parse YAML: %w", err)
	}
	for key, node := range doc {
		f := fs.Lookup(key)
		if f == nil && slices.Contains(p.Also, key) {
			continue
		}
		if f == nil || meta(key) {
			return fmt.Errorf("line %d: unknown key %q%s", node.Line, key, didYouMean("", key, names(fs)))
		}
		if f.Changed {
			continue
		}
		values, err := settingsOf(&node, repeated(f))
		if err != nil {
			return fmt.Errorf("line %d: key %q: %w", node.Line, key, err)
		}
		for _, value := range values {
			if err := fs.Set(key, value); err != nil {
				return fmt.Errorf("line %d: key %q: %w", node.Line, key, valueError(err))
			}
		}
	}
	return nil
}

// repeated reports whether a flag takes one value each time that it is given. A
// variable has all values, separated by semicolons; in YAML they are a list.
func repeated(f *pflag.Flag) bool { return f.Value.Type() == "stringArray" }

// settingsOf returns the values that a YAML value gives a flag, in order. For a
// repeated flag the elements of a list may be mappings, which are converted to
// key=value,key=value.
func settingsOf(n *yaml.Node, repeated bool) ([]string, error) {
	if !repeated || n.Kind == yaml.ScalarNode {
		value, err := scalar(n)
		return []string{value}, err
	}
	elements := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		elements = n.Content
	}
	var all []string
	for _, e := range elements {
		if e.Kind == yaml.ScalarNode {
			all = append(all, e.Value)
			continue
		}
		if e.Kind != yaml.MappingNode {
			return nil, errors.New("list elements must be plain values or mappings")
		}
		var pairs []string
		for i := 0; i+1 < len(e.Content); i += 2 {
			value, err := scalar(e.Content[i+1])
			if err != nil {
				return nil, fmt.Errorf("%s: %w", e.Content[i].Value, err)
			}
			pairs = append(pairs, e.Content[i].Value+"="+value)
		}
		all = append(all, strings.Join(pairs, ","))
	}
	return all, nil
}

// scalar converts a YAML value to the text that a flag parses: a list becomes the
// comma-separated form of list flags.
func scalar(n *yaml.Node) (string, error) {
	switch n.Kind {
	case yaml.ScalarNode:
		return n.Value, nil
	case yaml.SequenceNode:
		parts := make([]string, 0, len(n.Content))
		for _, c := range n.Content {
			if c.Kind != yaml.ScalarNode || strings.Contains(c.Value, ",") {
				return "", errors.New("list elements must be plain values without commas")
			}
			parts = append(parts, c.Value)
		}
		return strings.Join(parts, ","), nil
	default:
		return "", errors.New("value must be plain or a list of plain values")
	}
}

// meta reports whether a flag makes sense on a command line only.
func meta(name string) bool { return name == "config" || name == "help" || name == "version" }

func names(fs *pflag.FlagSet) []string {
	var all []string
	fs.VisitAll(func(f *pflag.Flag) { all = append(all, f.Name) })
	return all
}

func didYouMean(prefix, word string, known []string) string {
	if near := Nearest(word, known); near != "" {
		return fmt.Sprintf(" (did you mean %s%s?)", prefix, near)
	}
	return ""
}

func printHelp(p Program, fs *pflag.FlagSet, out io.Writer) {
	usage := p.Usage
	if usage == "" {
		usage = p.Name + " [flags]"
	}
	fmt.Fprintf(out, "%s\n\nUsage:\n  %s\n\nFlags:\n%s", p.Summary, usage, flagUsages(fs))
	if first := names(fs)[0]; !meta(first) {
		fmt.Fprintf(out, "\nEvery flag is also a key of the --config file and a variable: --%s is %s.\n", first, p.variable(first))
	}
	if p.Notes != "" {
		fmt.Fprintf(out, "\n%s\n", p.Notes)
	}
}

// flagUsages returns the help of all flags. Of those that switch something on it leaves
// out that a value may follow.
func flagUsages(fs *pflag.FlagSet) string {
	const values = "[=true|false]"
	text := fs.FlagUsagesWrapped(100)
	fs.VisitAll(func(f *pflag.Flag) {
		if f.Value.Type() == "bool" && f.DefValue == "false" {
			text = strings.Replace(text, "--"+f.Name+values, "--"+f.Name+strings.Repeat(" ", len(values)), 1)
		}
	})
	return text
}

// Loopback reports whether a listener on addr ("host:port") can be reached
// from this machine only. An address without a host is reachable from
// everywhere.
func Loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	if host != "localhost" {
		ip := net.ParseIP(host)
		return ip != nil && ip.IsLoopback()
	}
	ips, err := net.LookupIP(host) // whatever /etc/hosts says
	return err == nil && !slices.ContainsFunc(ips, func(ip net.IP) bool { return !ip.IsLoopback() })
}

// CheckAddress refuses an address of a listener that is neither HOST:PORT, :PORT nor off.
func CheckAddress(flag, addr string) error {
	if addr == "off" {
		return nil
	}
	if _, port, err := net.SplitHostPort(addr); err != nil || port == "" {
		return fmt.Errorf("%s %q is not an address: it must be HOST:PORT, :PORT or off", flag, addr)
	}
	return nil
}

// CheckListener refuses a listener that others can reach, unless it is allowed: because it
// requires authentication, or because a flag says that it need not. remedy names the
// settings for both.
func CheckListener(flag, addr string, allowed bool, remedy string) error {
	if err := CheckAddress(flag, addr); err != nil {
		return err
	}
	if addr == "off" || allowed || Loopback(addr) {
		return nil
	}
	return fmt.Errorf("%s %s can be reached from other machines without authentication: use a loopback address, %s", flag, addr, remedy)
}

// CheckAdmin refuses an admin port that others can reach without TLS, because
// credentials could be read on the network, unless the flag --http-without-tls is set.
func CheckAdmin(addr, certificate, key string, withoutTLS bool) error {
	if err := CheckAddress("--http", addr); err != nil {
		return err
	}
	switch {
	case (certificate == "") != (key == ""):
		return errors.New("--http-tls-cert and --http-tls-key must be set together")
	case addr == "off" || certificate != "" || withoutTLS || Loopback(addr):
		return nil
	}
	return fmt.Errorf("--http %s can be reached from other machines without TLS: set --http-tls-cert and --http-tls-key, use a loopback address, "+
		"or set --http-without-tls if credentials may be read on the network (--http-anonymous does not allow that)", addr)
}
