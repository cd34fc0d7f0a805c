package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/pflag"

	"github.com/weirmq/weir/cloud/console"
	"github.com/weirmq/weir/cloud/fleet"
	"github.com/weirmq/weir/configs"
)

func gatewaysVerb() verb {
	actions := []string{"list", "reset", "revoke", "allow", "deny"}
	return verb{
		actions: actions, names: "gateways",
		name: "gateways", usage: "[ID | reset ID | revoke ID | allow ID PATTERN… | deny ID PATTERN…] [flags]",
		summary: "list gateways, show one, reset or revoke one, or bind one to topics",
		notes: "With only an ID it shows all about that gateway: its lanes, how far its streams are durable, what was\n" +
			"refused to it. A gateway that is away is shown as it was at its last contact; after a restart of the node\n" +
			"that may be five minutes old. Losses are the records reported in topic weir.gaps since it joined.\n\n" +
			"reset removes a gateway's key, so that another machine can join under its id.\nrevoke disconnects a gateway, and lets it in again only after a reset.\n\n" +
			"A gateway may write to every topic but the cloud's own. allow limits it to the topics that match a pattern;\n" +
			"deny forbids those that match one, even if they are allowed. Each replaces the former patterns of its kind.\n" +
			"* stands for any number of characters: allow ID '*' allows all topics. Records that a gateway may not write\n" +
			"stay on it as dead letters.\n\n" +
			"Example:\n  weirctl gateways allow pump-house-3 'pumps.*' alarms",
		run: func(ctx context.Context, c *call) error {
			switch {
			case len(c.args) == 0 || len(c.args) == 1 && c.args[0] == "list":
				return c.listGateways(ctx)
			case len(c.args) == 1:
				return c.describeGateway(ctx, c.args[0])
			case len(c.args) == 2 && (c.args[0] == "reset" || c.args[0] == "revoke"):
				if err := c.post(ctx, "/v1/gateways/"+c.args[0], console.GatewayChange{Gateway: c.args[1]}, nil); err != nil {
					return err
				}
				if c.args[0] == "reset" {
					return c.done("gateway %s reset: a machine with a join token can join under this id", c.args[1])
				}
				return c.done("gateway %s revoked and disconnected", c.args[1])
			case len(c.args) > 2 && (c.args[0] == "allow" || c.args[0] == "deny"):
				if err := c.post(ctx, "/v1/gateways/"+c.args[0], console.GatewayChange{Gateway: c.args[1], Topics: c.args[2:]}, nil); err != nil {
					return err
				}
				if c.args[0] == "allow" {
					return c.done("gateway %s may write to %s", c.args[1], strings.Join(c.args[2:], ", "))
				}
				return c.done("gateway %s may not write to %s", c.args[1], strings.Join(c.args[2:], ", "))
			}
			return c.wrong("gateways takes no argument, ID, reset ID, revoke ID, allow ID PATTERN… or deny ID PATTERN…", actions)
		},
	}
}

func (c *call) listGateways(ctx context.Context) error {
	var gateways []console.Gateway
	if err := c.get(ctx, "/v1/gateways", &gateways); err != nil {
		return err
	}
	if done, err := c.print(gateways); done {
		return err
	}
	var rows []table.Row
	for _, g := range gateways {
		rows = append(rows, table.Row{g.ID, g.State, contactTime(g), backlog(g), backlogAge(g), g.Lost, orDash(g.Software), orDash(g.Address), g.Expires.Format("2006-01-02"), bounds(g)})
	}
	printTable(c.stdout, table.Row{"gateway", "state", "last contact", "buffered", "oldest", "lost", "software", "address", "certificate until", "topics"}, rows)
	return nil
}

// bounds are the topics that a gateway may write to.
func bounds(g console.Gateway) string {
	all := "all"
	if len(g.Allow) > 0 {
		all = strings.Join(g.Allow, ", ")
	}
	if len(g.Deny) > 0 {
		all += " but " + strings.Join(g.Deny, ", ")
	}
	return all
}

// maxTokenLife is what the cloud allows.
const maxTokenLife = 10 * 365 * 24 * time.Hour

func joinTokenVerb() verb {
	return verb{
		name: "join-token", usage: "[flags]",
		summary: "make a token that lets new gateways in",
		notes:   "The token is shown only once. Put it in a file on the gateway and start weir-edge --cloud HOST:7400 --join-file FILE.",
		flags: func(fs *pflag.FlagSet, c *call) {
			fs.IntVar(&c.uses, "uses", 1, "`number` of gateways that may join with it")
			configs.DurationVar(fs, &c.life, "life", fleet.DefaultTokenLife, "`time` for which it can be used, such as 12h or 7d")
			fs.StringSliceVar(&c.topics, "topics", nil, "`patterns` of the topics that gateways which join with it may write to, such as 'pumps.*' (default: all)")
			fs.StringSliceVar(&c.gateways, "gateway", nil, "`id` of a gateway that may join with it; may be repeated (default: any)")
		},
		run: func(ctx context.Context, c *call) error {
			switch {
			case len(c.args) > 0:
				return fmt.Errorf("join-token takes no argument %q", c.args[0])
			case c.life < time.Second:
				return fmt.Errorf("--life %v is shorter than a second", c.life)
			case c.life > maxTokenLife:
				return fmt.Errorf("--life %s: a join token can be used for %s at most", configs.FormatDuration(c.life), configs.FormatDuration(maxTokenLife))
			case c.uses < 1:
				return fmt.Errorf("--uses %d is less than 1", c.uses)
			}
			var t console.Token
			if err := c.post(ctx, "/v1/join-tokens", console.NewToken{Uses: c.uses, Seconds: int(c.life / time.Second), Gateways: c.gateways, Topics: c.topics}, &t); err != nil {
				return err
			}
			if done, err := c.print(t); done {
				return err
			}
			fmt.Fprintln(c.stdout, t.Token)
			return nil
		},
	}
}
