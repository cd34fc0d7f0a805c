package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/pflag"

	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/console"
)

// permissionFlags say what a user may do where.
type permissionFlags struct {
	vhost, exchange        string
	configure, write, read string // regular expressions
}

func permissionsVerb() verb {
	actions := []string{"list", "set", "clear"}
	return verb{
		actions: actions, names: "users",
		name: "permissions", usage: "[list [USER] | set USER | clear USER] [flags]",
		summary: "list, set or clear what users may do in the vhosts of AMQP",
		notes: "Permissions are RabbitMQ's: three regular expressions for the names of queues and exchanges. A match\n" +
			"anywhere in the name is enough; '' matches no name, '.*' every name. To publish to the default exchange\n" +
			"is to write amq.default. A user without permissions in a vhost cannot open it.\n\n" +
			"With --exchange, set and clear are about the routing keys of one topic exchange: without such\n" +
			"permissions a user may use any key. In these expressions {username} and {vhost} stand for the names.\n\n" +
			"set replaces all former permissions of the user in the vhost, or for the exchange. Changes count at once,\n" +
			"for open connections too. The syntax of the expressions is RE2's.\n\n" +
			"Examples:\n" +
			"  weirctl permissions set ann --configure '.*' --write '.*' --read '.*'\n" +
			"  weirctl permissions set bob --vhost plant --configure '' --write '^amq\\.topic$' --read '^bob-'\n" +
			"  weirctl permissions set bob --vhost plant --exchange amq.topic --write '^{username}\\.' --read '.*'\n" +
			"  weirctl permissions clear bob --vhost plant",
		flags: func(fs *pflag.FlagSet, c *call) {
			fs.StringVar(&c.permission.vhost, "vhost", "/", "`name` of the vhost; list shows all vhosts without it")
			fs.StringVar(&c.permission.exchange, "exchange", "", "`name` of a topic exchange: the permissions are for its routing keys")
			fs.StringVar(&c.permission.configure, "configure", "", "set: `expression` for what the user may declare and delete")
			fs.StringVar(&c.permission.write, "write", "", "set: `expression` for where the user may publish, and which queues it may bind")
			fs.StringVar(&c.permission.read, "read", "", "set: `expression` for what the user may consume, and which exchanges it may bind to")
		},
		run: func(ctx context.Context, c *call) error {
			switch {
			case len(c.args) <= 2 && (len(c.args) == 0 || c.args[0] == "list"):
				return c.listPermissions(ctx)
			case len(c.args) == 2 && c.args[0] == "set":
				return c.setPermissions(ctx, c.args[1])
			case len(c.args) == 2 && c.args[0] == "clear":
				return c.clearPermissions(ctx, c.args[1])
			}
			return c.wrong("permissions takes list [USER], set USER or clear USER", actions)
		},
	}
}

func (c *call) listPermissions(ctx context.Context) error {
	query := url.Values{}
	if len(c.args) == 2 {
		query.Set("user", c.args[1])
	}
	if c.changed("vhost") {
		query.Set("vhost", c.permission.vhost)
	}
	var all console.Permissions
	if err := c.get(ctx, "/v1/permissions?"+query.Encode(), &all); err != nil {
		return err
	}
	if done, err := c.print(all); done {
		return err
	}
	var rows []table.Row
	for _, p := range all.Permissions {
		rows = append(rows, table.Row{p.User, p.Vhost, "", quoted(p.Configure), quoted(p.Write), quoted(p.Read)})
	}
	for _, p := range all.TopicPermissions {
		rows = append(rows, table.Row{p.User, p.Vhost, p.Exchange, "", quoted(p.Write), quoted(p.Read)})
	}
	printTable(c.stdout, table.Row{"user", "vhost", "keys of", "configure", "write", "read"}, rows)
	return nil
}

// quoted shows where an expression begins and ends, even an empty one.
func quoted(expression string) string { return "'" + expression + "'" }

func (c *call) setPermissions(ctx context.Context, user string) error {
	p := c.permission
	needed := []string{"configure", "write", "read"}
	if p.exchange != "" {
		if c.changed("configure") {
			return errors.New("--configure and --exchange exclude each other: routing keys are written and read")
		}
		needed = needed[1:]
	}
	for _, flag := range needed {
		if !c.changed(flag) {
			return fmt.Errorf("--%s is missing: set it to '.*' for everything, or to '' for nothing", flag)
		}
	}
	if p.exchange == "" {
		if err := c.post(ctx, "/v1/permissions", auth.VhostPermissions{User: user, Vhost: p.vhost, Configure: p.configure, Write: p.write, Read: p.read}, nil); err != nil {
			return err
		}
		return c.done("permissions of user %s set in vhost %s", user, p.vhost)
	}
	if err := c.post(ctx, "/v1/topic-permissions", auth.TopicPermissions{User: user, Vhost: p.vhost, Exchange: p.exchange, Write: p.write, Read: p.read}, nil); err != nil {
		return err
	}
	return c.done("permissions of user %s set for keys of exchange %s in vhost %s", user, p.exchange, p.vhost)
}

func (c *call) clearPermissions(ctx context.Context, user string) error {
	p := c.permission
	for _, flag := range []string{"configure", "write", "read"} {
		if c.changed(flag) {
			return fmt.Errorf("clear removes all permissions of a user in a vhost: it takes no --%s", flag)
		}
	}
	query := url.Values{"user": {user}, "vhost": {p.vhost}}
	if p.exchange == "" {
		if err := c.del(ctx, "/v1/permissions?"+query.Encode()); err != nil {
			return err
		}
		return c.done("permissions of user %s cleared in vhost %s", user, p.vhost)
	}
	query.Set("exchange", p.exchange)
	if err := c.del(ctx, "/v1/topic-permissions?"+query.Encode()); err != nil {
		return err
	}
	return c.done("permissions of user %s cleared for keys of exchange %s in vhost %s", user, p.exchange, p.vhost)
}
