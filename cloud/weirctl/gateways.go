package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/pflag"

	"github.com/weirmq/weir/cloud/console"
	"github.com/weirmq/weir/cloud/fleet"
)

func gatewaysVerb() verb {
	return verb{
		name: "gateways", usage: "[reset ID | revoke ID] [flags]",
		summary: "list gateways, let one join anew, or shut one out",
		notes:   "reset forgets a gateway's key, so that a new machine may join under its id.\nrevoke ends its connection and lets it in no more, until a reset.",
		run: func(ctx context.Context, c *call) error {
			switch {
			case len(c.args) == 0 || len(c.args) == 1 && c.args[0] == "list":
				return c.listGateways(ctx)
			case len(c.args) == 2 && (c.args[0] == "reset" || c.args[0] == "revoke"):
				return c.post(ctx, "/v1/gateways/"+c.args[0], console.GatewayID{Gateway: c.args[1]}, nil)
			}
			return errors.New("gateways takes nothing, or reset ID or revoke ID")
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
		state := "away"
		switch {
		case g.Revoked:
			state = "revoked"
		case g.Connected:
			state = "connected since " + g.Since.Local().Format("2006-01-02 15:04:05")
		}
		rows = append(rows, table.Row{g.ID, state, g.Address, g.Buffered, age(g.AgeMS), g.Expires.Format("2006-01-02")})
	}
	printTable(c.stdout, table.Row{"gateway", "state", "address", "buffered", "oldest", "certificate until"}, rows)
	return nil
}

func age(ms uint64) string {
	if ms == 0 {
		return "-"
	}
	return (time.Duration(ms) * time.Millisecond).Round(time.Millisecond).String()
}

func joinTokenVerb() verb {
	return verb{
		name: "join-token", usage: "[flags]",
		summary: "make a token that lets new gateways in",
		notes:   "The token is shown once. On the gateway: weir-edge --cloud HOST:7400 --join TOKEN",
		flags: func(fs *pflag.FlagSet, c *call) {
			fs.IntVar(&c.uses, "uses", 1, "how many gateways may join with it")
			fs.StringVar(&c.life, "life", fleet.DefaultTokenLife.String(), "for what `time` it can be used")
			fs.StringSliceVar(&c.gateways, "gateway", nil, "`id` that it is for; may be repeated (default: any)")
		},
		run: func(ctx context.Context, c *call) error {
			life, err := time.ParseDuration(c.life)
			switch {
			case len(c.args) > 0:
				return fmt.Errorf("join-token takes no argument %q", c.args[0])
			case err != nil || life < time.Second:
				return fmt.Errorf("--life %q is no time of at least a second, such as 24h", c.life)
			case c.uses < 1:
				return fmt.Errorf("--uses %d: a token lets in at least one gateway", c.uses)
			}
			var t console.Token
			if err := c.post(ctx, "/v1/join-tokens", console.NewToken{Uses: c.uses, Seconds: int(life / time.Second), Gateways: c.gateways}, &t); err != nil {
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
