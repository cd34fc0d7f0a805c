package main

import (
	"context"
	"net/url"

	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/weirmq/weir/cloud/console"
)

func vhostsVerb() verb {
	actions := []string{"list", "create", "delete"}
	return verb{
		actions: actions, names: "vhosts",
		name: "vhosts", usage: "[create NAME | delete NAME] [flags]",
		summary: "list, create or delete vhosts, in which the exchanges and queues of AMQP are",
		notes: "The vhost / is there from the start. delete removes a vhost with its exchanges, queues and messages,\n" +
			"and the permissions in it. Users need permissions to open a vhost: see weirctl help permissions.\n\n" +
			"Examples:\n  weirctl vhosts create plant\n  weirctl permissions set ann --vhost plant --configure '.*' --write '.*' --read '.*'",
		run: func(ctx context.Context, c *call) error {
			switch {
			case len(c.args) == 0 || len(c.args) == 1 && c.args[0] == "list":
				return c.listVhosts(ctx)
			case len(c.args) == 2 && c.args[0] == "create":
				if err := c.post(ctx, "/v1/vhosts", console.NewVhost{Name: c.args[1]}, nil); err != nil {
					return err
				}
				return c.done("vhost %s exists now", c.args[1])
			case len(c.args) == 2 && c.args[0] == "delete":
				if err := c.del(ctx, "/v1/vhosts?name="+url.QueryEscape(c.args[1])); err != nil {
					return err
				}
				return c.done("vhost %s deleted, with all that was in it", c.args[1])
			}
			return c.wrong("vhosts takes no argument, create NAME or delete NAME", actions)
		},
	}
}

func (c *call) listVhosts(ctx context.Context) error {
	var all []console.Vhost
	if err := c.get(ctx, "/v1/vhosts", &all); err != nil {
		return err
	}
	if done, err := c.print(all); done {
		return err
	}
	var rows []table.Row
	for _, v := range all {
		rows = append(rows, table.Row{v.Name, v.Queues, v.Messages})
	}
	printTable(c.stdout, table.Row{"vhost", "queues", "messages"}, rows)
	return nil
}
