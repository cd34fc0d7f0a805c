package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/console"
)

// maxPassword bounds what is read of a password, in bytes.
const maxPassword = 1 << 10

func usersVerb() verb {
	actions := []string{"list", "add", "delete"}
	return verb{
		actions: actions, names: "users",
		name: "users", usage: "[add NAME | delete NAME] [flags]",
		summary: "list, add or remove the users of Kafka and AMQP",
		notes: "add asks for the password, or reads it from standard input. The password itself is not sent: the cluster gets\n" +
			"what SCRAM needs to check it. Adding a user again changes the password.\n" +
			"A user whose password changes, or who is deleted, is disconnected at once. A deleted user loses its\n" +
			"permissions in vhosts; its ACLs stay.\n\n" +
			"Examples:\n  weirctl users add ann\n  pwgen -s 32 1 | tee ann.password | weirctl users add ann",
		flags: func(fs *pflag.FlagSet, c *call) {
			fs.StringSliceVar(&c.mechanisms, "mechanism", []string{auth.SCRAMSHA512.String(), auth.SCRAMSHA256.String()}, "add: `mechanisms` with which the user can log in; with each of them PLAIN works too")
		},
		run: func(ctx context.Context, c *call) error {
			switch {
			case len(c.args) == 0 || len(c.args) == 1 && c.args[0] == "list":
				return c.listUsers(ctx)
			case len(c.args) == 2 && c.args[0] == "add":
				return c.addUser(ctx, c.args[1])
			case len(c.args) == 2 && c.args[0] == "delete":
				if err := c.del(ctx, "/v1/users?name="+url.QueryEscape(c.args[1])); err != nil {
					return err
				}
				return c.done("user %s deleted and disconnected", c.args[1])
			}
			return c.wrong("users takes no argument, add NAME or delete NAME; the password is asked for", actions)
		},
	}
}

func (c *call) listUsers(ctx context.Context) error {
	var users []console.User
	if err := c.get(ctx, "/v1/users", &users); err != nil {
		return err
	}
	if done, err := c.print(users); done {
		return err
	}
	var rows []table.Row
	for _, u := range users {
		var names []string
		for _, m := range u.Mechanisms {
			names = append(names, m.String())
		}
		rows = append(rows, table.Row{u.Name, strings.Join(names, ", ")})
	}
	printTable(c.stdout, table.Row{"user", "mechanisms"}, rows)
	return nil
}

func (c *call) addUser(ctx context.Context, name string) error {
	mechanisms := make([]auth.Mechanism, len(c.mechanisms))
	for i, m := range c.mechanisms {
		if err := mechanisms[i].UnmarshalText([]byte(m)); err != nil {
			return fmt.Errorf("--mechanism: %w", err)
		}
	}
	password, err := c.password(name)
	if err != nil {
		return err
	}
	user := console.NewUser{Name: name}
	for _, m := range mechanisms {
		credential, err := auth.NewCredential(m, password)
		if err != nil {
			return err
		}
		user.Credentials = append(user.Credentials, credential)
	}
	if err := c.post(ctx, "/v1/users", user, nil); err != nil {
		return err
	}
	return c.done("user %s can log in", name)
}

// password prompts a person twice, and reads one line from anything else.
func (c *call) password(name string) (string, error) {
	first, err := c.secret("Password of " + name)
	if err != nil || !c.interactive() {
		return first, err
	}
	switch again, err := c.secret("Once more"); {
	case err != nil:
		return "", err
	case again != first:
		return "", errors.New("the two passwords differ")
	}
	return first, nil
}

// interactive reports whether standard input is a terminal.
func (c *call) interactive() bool {
	f, ok := c.stdin.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// secret prompts a person without echo, or reads one line from anything else.
func (c *call) secret(what string) (string, error) {
	if !c.interactive() {
		line, err := bufio.NewReader(io.LimitReader(c.stdin, maxPassword)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return "", fmt.Errorf("read standard input: %w", err)
		}
		if line = strings.TrimRight(line, "\r\n"); line == "" {
			return "", errors.New("the first line of standard input is empty: it must be the password or the token")
		}
		return line, nil
	}
	fmt.Fprintf(c.stderr, "%s: ", what)
	typed, err := term.ReadPassword(int(c.stdin.(*os.File).Fd()))
	fmt.Fprintln(c.stderr)
	if err != nil {
		return "", fmt.Errorf("read the password: %w", err)
	}
	return string(typed), nil
}
