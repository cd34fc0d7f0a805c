package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/weirmq/weir/configs"
)

// errNoVerb: the arguments are flags only.
var errNoVerb = errors.New("what to do is missing: weirctl VERB, such as weirctl status (weirctl help lists the verbs)")

func verbs() []verb {
	return []verb{statusVerb(), nodesVerb(), shardsVerb(), topicsVerb(), gatewaysVerb(), groupsVerb(), queuesVerb(), consumeVerb(), produceVerb(), joinTokenVerb(), usersVerb(), aclsVerb(), permissionsVerb(), vhostsVerb(), quotasVerb(), adminVerb(),
		sessionsVerb(), loginVerb(), logoutVerb(), checkVerb(), upgradeVerb(), completionVerb()}
}

// verbOf finds a verb by its name.
func verbOf(name string) (verb, error) {
	var known []string
	for _, v := range verbs() {
		if v.name == name {
			return v, nil
		}
		known = append(known, v.name)
	}
	if near := configs.Nearest(name, known); near != "" {
		return verb{}, fmt.Errorf("unknown verb %q (did you mean %s?)", name, near)
	}
	return verb{}, fmt.Errorf("unknown verb %q: there are %s", name, strings.Join(known, ", "))
}

// verbFirst returns the arguments with the verb in front of the flags that were given
// before it. A flag means the same before the verb and after it.
func verbFirst(args []string) ([]string, error) {
	known := allFlags()
	for i := 0; i < len(args); i++ {
		word := args[i]
		if !strings.HasPrefix(word, "-") {
			return append([]string{word}, slices.Delete(slices.Clone(args), i, i+1)...), nil
		}
		name, _, given := strings.Cut(word, "=")
		f := flagOf(known, name)
		if f == nil {
			return nil, unknownFlag(name, known)
		}
		attached := given || !strings.HasPrefix(word, "--") && len(word) > 2
		if f.NoOptDefVal == "" && !attached {
			i++ // its value
		}
	}
	return nil, errNoVerb
}

func unknownFlag(word string, known *pflag.FlagSet) error {
	var names []string
	known.VisitAll(func(f *pflag.Flag) { names = append(names, "--"+f.Name) })
	if near := configs.Nearest(word, names); near != "" {
		return fmt.Errorf("unknown flag %s (did you mean %s?)", word, near)
	}
	return fmt.Errorf("unknown flag %s", word)
}

// allFlags has each flag that a verb has. One name takes a value with all verbs or with
// none.
func allFlags() *pflag.FlagSet {
	all := pflag.NewFlagSet("weirctl", pflag.ContinueOnError)
	all.BoolP("help", "h", false, "")
	all.Bool("version", false, "")
	all.String("config", "", "")
	for _, v := range verbs() {
		v.flagSet(&call{}).VisitAll(func(f *pflag.Flag) {
			if all.Lookup(f.Name) == nil {
				all.AddFlag(f)
			}
		})
	}
	return all
}

// flagOf returns the flag that a word like --name or -n names; nil: none.
func flagOf(fs *pflag.FlagSet, word string) *pflag.Flag {
	if name, ok := strings.CutPrefix(word, "--"); ok {
		return fs.Lookup(name)
	}
	return fs.ShorthandLookup(strings.TrimPrefix(word, "-")[:min(1, len(word)-1)])
}
