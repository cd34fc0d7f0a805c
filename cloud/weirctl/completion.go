package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/weirmq/weir/cloud/console"
	"github.com/weirmq/weir/configs"
)

// completeWord is the command that the shells' scripts call: weirctl __complete WORD…,
// where the last word is to be completed. It prints the candidates, one per line.
const completeWord = "__complete"

// completeTime is how long a shell waits for names from a node.
const completeTime = 2 * time.Second

// scripts make a shell ask weirctl for completions.
var scripts = map[string]string{
	"bash": `_weirctl() {
  local IFS=$'\n' word="${COMP_WORDS[COMP_CWORD]}"
  COMPREPLY=($(compgen -W "$(weirctl __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)" -- "$word"))
}
complete -o default -F _weirctl weirctl
`,
	"zsh": `#compdef weirctl
_weirctl() {
  local -a all
  all=("${(@f)$(weirctl __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
  [[ -n "$all" ]] && compadd -a all || _files
}
if [ "$funcstack[1]" = "_weirctl" ]; then _weirctl "$@"; else compdef _weirctl weirctl; fi
`,
	"fish": `function __weirctl
  set -l words (commandline -opc) (commandline -ct)
  weirctl __complete $words[2..-1] 2>/dev/null
end
complete -c weirctl -a '(__weirctl)'
`,
}

func completionVerb() verb {
	shells := []string{"bash", "zsh", "fish"}
	return verb{
		name: "completion", usage: "bash | zsh | fish", offline: true,
		summary: "print a script that completes verbs, flags and names in a shell",
		notes: "Names of topics, gateways and groups are asked from --cloud, if it answers within two seconds.\n\n" +
			"Examples:\n  source <(weirctl completion bash)                                 # in ~/.bashrc\n" +
			"  weirctl completion zsh >\"${fpath[1]}/_weirctl\"\n" +
			"  weirctl completion fish >~/.config/fish/completions/weirctl.fish",
		actions: shells,
		run: func(_ context.Context, c *call) error {
			if len(c.args) != 1 || scripts[c.args[0]] == "" {
				return c.wrong("completion takes the name of a shell: bash, zsh or fish", shells)
			}
			_, err := io.WriteString(c.stdout, scripts[c.args[0]])
			return err
		},
	}
}

// complete prints the candidates for the last word.
func (c *call) complete(ctx context.Context, words []string) error {
	if len(words) == 0 {
		words = []string{""}
	}
	word := words[len(words)-1]
	for _, one := range c.candidates(ctx, words[:len(words)-1], word) {
		if strings.HasPrefix(one, word) {
			if _, err := fmt.Fprintln(c.stdout, one); err != nil {
				return err
			}
		}
	}
	return nil
}

// candidates returns the candidates for word after the words before it.
func (c *call) candidates(ctx context.Context, before []string, word string) []string {
	arranged, err := verbFirst(before)
	if errors.Is(err, errNoVerb) || err == nil && arranged[0] == "help" {
		return withoutVerb(before, word)
	}
	if err != nil {
		return nil
	}
	before = arranged
	v, err := verbOf(before[0])
	if err != nil {
		return nil
	}
	fs := v.flagSet(c)
	if strings.HasPrefix(word, "-") {
		return flagsOf(fs)
	}
	if f := openFlag(fs, before); f != nil {
		return valuesOf(f.Name)
	}
	p := configs.Program{Name: "weirctl " + v.name, Warnings: io.Discard}
	if err := configs.Load(p, fs, before[1:], c.environ, io.Discard); err != nil {
		return nil
	}
	args := fs.Args()
	if len(args) == 0 {
		return append(slices.Clone(v.actions), c.namesOf(ctx, v.names)...)
	}
	if len(args) == 1 && slices.Contains(v.actions, args[0]) && args[0] != "create" && args[0] != "add" && args[0] != "list" {
		return c.namesOf(ctx, v.names)
	}
	return nil
}

// withoutVerb returns the candidates for a word that no verb stands before.
func withoutVerb(before []string, word string) []string {
	fs := allFlags()
	if strings.HasPrefix(word, "-") {
		return flagsOf(fs)
	}
	if f := openFlag(fs, before); f != nil {
		return valuesOf(f.Name)
	}
	all := []string{"help", "version"}
	for _, v := range verbs() {
		all = append(all, v.name)
	}
	slices.Sort(all)
	return all
}

// flagsOf returns the names of all flags.
func flagsOf(fs *pflag.FlagSet) []string {
	all := []string{"--help", "--config"}
	fs.VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			all = append(all, "--"+f.Name)
		}
	})
	slices.Sort(all)
	return slices.Compact(all)
}

// openFlag returns the flag that still needs its value: the last word; nil: there is none.
func openFlag(fs *pflag.FlagSet, before []string) *pflag.Flag {
	if len(before) == 0 {
		return nil
	}
	last := before[len(before)-1]
	if !strings.HasPrefix(last, "-") || strings.Contains(last, "=") {
		return nil
	}
	if f := flagOf(fs, last); f != nil && f.NoOptDefVal == "" {
		return f
	}
	return nil
}

// valuesOf returns the words that a flag accepts.
func valuesOf(flag string) []string {
	return map[string][]string{
		"output": {"text", "json"}, "value": {"auto", "json", "text", "hex"}, "offset": {"start", "end"},
		"role": {"read", "operate", "administer"}, "mechanism": {"SCRAM-SHA-256", "SCRAM-SHA-512"},
	}[flag]
}

// namesOf asks the node for names. Without an answer it returns none: the shell shows
// nothing else either.
func (c *call) namesOf(ctx context.Context, kind string) []string {
	ctx, cancel := context.WithTimeout(ctx, completeTime)
	defer cancel()
	var all []string
	var err error
	switch kind {
	case "topics":
		all, err = listed(ctx, c, kind, func(t console.Topic) string { return t.Name })
	case "gateways":
		all, err = listed(ctx, c, kind, func(g console.Gateway) string { return g.ID })
	case "groups":
		all, err = listed(ctx, c, kind, func(g console.Group) string { return g.ID })
	case "vhosts":
		all, err = listed(ctx, c, kind, func(v console.Vhost) string { return v.Name })
	case "queues":
		all, err = listed(ctx, c, kind, func(q console.Queue) string { return q.Name })
	case "users":
		all, err = listed(ctx, c, kind, func(u console.User) string { return u.Name })
	}
	if err != nil {
		return nil
	}
	// Names that a shell would split or execute are not offered.
	return slices.DeleteFunc(all, func(name string) bool {
		return strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || strings.ContainsRune("\"'`$\\;&|<>(){}*?!#~", r) })
	})
}

// listed returns the names of all that the node lists under /v1/ and a kind.
func listed[T any](ctx context.Context, c *call, kind string, name func(T) string) ([]string, error) {
	var all []T
	if err := c.get(ctx, "/v1/"+kind, &all); err != nil {
		return nil, err
	}
	names := make([]string, len(all))
	for i := range all {
		names[i] = name(all[i])
	}
	return names, nil
}
