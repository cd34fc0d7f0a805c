package main

import (
	"context"
	"errors"
	"strconv"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/pflag"

	"github.com/weirmq/weir/cloud/quota"
)

// quotaFlags say whom limits are for, and what they are.
type quotaFlags struct {
	user, client                 string
	defaultUser, defaultClient   bool
	bytesProduced, bytesConsumed int64
}

func quotasVerb() verb {
	return verb{
		name: "quotas", usage: "[set | delete] [flags]",
		summary: "list how fast clients may write and read, set a limit, or take it away",
		notes: "Who goes faster is told to wait. The most particular limit counts: one for a client id of a user,\n" +
			"then for the user, then for all users, then for the client id, then for all client ids.\n\n" +
			"Examples:\n" +
			"  weirctl quotas set --user ann --produce 1000000\n" +
			"  weirctl quotas set --default-user --produce 5000000 --consume 20000000\n" +
			"  weirctl quotas delete --user ann",
		flags: func(fs *pflag.FlagSet, c *call) {
			fs.StringVar(&c.quota.user, "user", "", "`name` of the user")
			fs.BoolVar(&c.quota.defaultUser, "default-user", false, "each user who has no limit of his own")
			fs.StringVar(&c.quota.client, "client", "", "`id` that clients give themselves (client.id)")
			fs.BoolVar(&c.quota.defaultClient, "default-client", false, "each client id that has no limit of its own")
			fs.Int64Var(&c.quota.bytesProduced, "produce", 0, "set: `bytes` per second that may be written; 0: any number")
			fs.Int64Var(&c.quota.bytesConsumed, "consume", 0, "set: `bytes` per second that may be read; 0: any number")
		},
		run: func(ctx context.Context, c *call) error {
			if len(c.args) == 0 || len(c.args) == 1 && c.args[0] == "list" {
				return c.listQuotas(ctx)
			}
			if len(c.args) > 1 || c.args[0] != "set" && c.args[0] != "delete" {
				return errors.New("quotas takes nothing, or set or delete, and flags that say for whom")
			}
			entry, err := c.quota.entry()
			if err != nil {
				return err
			}
			switch none := entry.Limits == (quota.Limits{}); {
			case c.args[0] == "set" && none:
				return errors.New("say how much: --produce BYTES, --consume BYTES, or both")
			case c.args[0] == "delete" && !none:
				return errors.New("delete takes all limits away: leave --produce and --consume out")
			}
			return c.post(ctx, "/v1/quotas", entry, nil)
		},
	}
}

func (f quotaFlags) entry() (quota.Entry, error) {
	e := quota.Entry{Entity: quota.Entity{User: f.user, Client: f.client}, Limits: quota.Limits{Produce: f.bytesProduced, Consume: f.bytesConsumed}}
	if f.defaultUser {
		e.User = quota.Default
	}
	if f.defaultClient {
		e.Client = quota.Default
	}
	switch {
	case f.defaultUser && f.user != "", f.defaultClient && f.client != "":
		return e, errors.New("a limit is for one name or the default, not both")
	case e.Entity == (quota.Entity{}):
		return e, errors.New("say for whom: --user NAME, --default-user, --client ID or --default-client")
	}
	return e, nil
}

func (c *call) listQuotas(ctx context.Context) error {
	var entries []quota.Entry
	if err := c.get(ctx, "/v1/quotas", &entries); err != nil {
		return err
	}
	if done, err := c.print(entries); done {
		return err
	}
	limit := func(n int64) string {
		if n == 0 {
			return "-"
		}
		return strconv.FormatInt(n, 10)
	}
	var rows []table.Row
	for _, e := range entries {
		rows = append(rows, table.Row{e.User, e.Client, limit(e.Produce), limit(e.Consume)})
	}
	printTable(c.stdout, table.Row{"user", "client", "produce B/s", "consume B/s"}, rows)
	return nil
}
