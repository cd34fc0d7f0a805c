package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/pflag"

	"github.com/weirmq/weir/cloud/quota"
	"github.com/weirmq/weir/configs"
)

// quotaFlags select an entity and its limits.
type quotaFlags struct {
	user, client                 string
	defaultUser, defaultClient   bool
	bytesProduced, bytesConsumed int64
	requestTime                  string // a percentage
}

func quotasVerb() verb {
	actions := []string{"list", "set", "delete"}
	return verb{
		actions: actions,
		name:    "quotas", usage: "[set | delete] [flags]",
		summary: "list, set or remove limits on what Kafka clients use",
		notes: "Clients that use more are told to wait. The most specific limit applies: one for a client id of a user,\n" +
			"then for the user, then for all users, then for the client id, then for all client ids.\n" +
			"set replaces all former limits of the same name.\n\n" +
			"--request-time is the time for which the node works on the requests of all connections that share the\n" +
			"limit, in percent of one core: 50 is half a core, 250 two and a half. Time in which a request only waits,\n" +
			"for the bucket, for new records or for other clients, does not count.\n\n" +
			"Examples:\n" +
			"  weirctl quotas set --user ann --produce 1MB\n" +
			"  weirctl quotas set --default-user --produce 5MB --consume 20MB\n" +
			"  weirctl quotas set --default-client --request-time 12.5%\n" +
			"  weirctl quotas delete --user ann",
		flags: func(fs *pflag.FlagSet, c *call) {
			fs.StringVar(&c.quota.user, "user", "", "`name` of the user")
			fs.BoolVar(&c.quota.defaultUser, "default-user", false, "every user without a limit of its own")
			fs.StringVar(&c.quota.client, "client", "", "client `id` (client.id in the client's settings)")
			fs.BoolVar(&c.quota.defaultClient, "default-client", false, "every client id without a limit of its own")
			configs.BytesVar(fs, &c.quota.bytesProduced, "produce", 0, "set: `size` that may be written per second, such as 500kB or 1MB; 0: no limit")
			configs.BytesVar(fs, &c.quota.bytesConsumed, "consume", 0, "set: `size` that may be read per second; 0: no limit")
			fs.StringVar(&c.quota.requestTime, "request-time", "", "set: `percent` of one core that work on requests may take, like 50 or 12.5%; 0: any")
		},
		run: func(ctx context.Context, c *call) error {
			if len(c.args) == 0 || len(c.args) == 1 && c.args[0] == "list" {
				return c.listQuotas(ctx)
			}
			if len(c.args) > 1 || c.args[0] != "set" && c.args[0] != "delete" {
				return c.wrong("quotas takes no argument, set or delete, and flags that say for whom", actions)
			}
			entry, err := c.quota.entry()
			if err != nil {
				return err
			}
			switch none := entry.Limits == (quota.Limits{}); {
			case c.args[0] == "set" && none:
				return errors.New("the limit is missing: set --produce SIZE, --consume SIZE or --request-time PERCENT, or several of them")
			case c.args[0] == "delete" && !none:
				return errors.New("delete removes all limits of a name: it takes no --produce, --consume or --request-time")
			}
			if err := c.post(ctx, "/v1/quotas", entry, nil); err != nil {
				return err
			}
			if c.args[0] == "delete" {
				return c.done("limits removed for %s", whom(entry.Entity))
			}
			return c.done("limits set for %s", whom(entry.Entity))
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
	var err error
	if e.Request, err = percent(f.requestTime); err != nil {
		return e, err
	}
	switch {
	case f.defaultUser && f.user != "", f.defaultClient && f.client != "":
		return e, errors.New("a limit is for one name or the default, not both")
	case e.Entity == (quota.Entity{}):
		return e, errors.New("whom the limit is for is missing: set --user NAME, --default-user, --client ID or --default-client")
	}
	return e, nil
}

// whom names the entity of a limit.
func whom(e quota.Entity) string {
	var words []string
	for _, one := range []struct{ kind, name string }{{"user", e.User}, {"client", e.Client}} {
		switch one.name {
		case "":
		case quota.Default:
			words = append(words, "each "+one.kind+" without a limit of its own")
		default:
			words = append(words, one.kind+" "+one.name)
		}
	}
	return strings.Join(words, ", ")
}

// percent reads a number, with or without the sign; "" is 0.
func percent(s string) (float64, error) {
	if s == "" {
		return 0, nil
	}
	n, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(s, "%")), 64)
	if err != nil || n < 0 || math.IsNaN(n) || math.IsInf(n, 0) {
		return 0, fmt.Errorf("--request-time %q is not a percentage of one core, such as 50 or 12.5%%", s)
	}
	return n, nil
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
		return configs.FormatBytes(n) + "/s"
	}
	share := func(percent float64) string {
		if percent == 0 {
			return "-"
		}
		return strconv.FormatFloat(percent, 'f', -1, 64) + "%"
	}
	var rows []table.Row
	for _, e := range entries {
		rows = append(rows, table.Row{e.User, e.Client, limit(e.Produce), limit(e.Consume), share(e.Request)})
	}
	printTable(c.stdout, table.Row{"user", "client", "produce", "consume", "request time"}, rows)
	return nil
}
