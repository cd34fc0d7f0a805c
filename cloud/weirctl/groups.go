package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/weirmq/weir/cloud/console"
)

func groupsVerb() verb {
	return verb{
		name: "groups", usage: "[GROUP | delete GROUP] [flags]",
		summary: "list consumer groups, show how far one has come, or delete one",
		notes:   "delete forgets the offsets of a group that has no members.",
		run: func(ctx context.Context, c *call) error {
			switch {
			case len(c.args) == 0:
				return c.listGroups(ctx)
			case len(c.args) == 1:
				return c.showGroup(ctx, c.args[0])
			case len(c.args) == 2 && c.args[0] == "delete":
				return c.del(ctx, "/v1/groups?id="+url.QueryEscape(c.args[1]))
			}
			return errors.New("groups takes nothing, one group, or delete GROUP")
		},
	}
}

func (c *call) listGroups(ctx context.Context) error {
	var groups []console.Group
	if err := c.get(ctx, "/v1/groups", &groups); err != nil {
		return err
	}
	if done, err := c.print(groups); done {
		return err
	}
	var rows []table.Row
	for _, g := range groups {
		rows = append(rows, table.Row{g.ID, g.State, g.Members, g.Protocol})
	}
	printTable(c.stdout, table.Row{"group", "state", "members", "protocol"}, rows)
	return nil
}

func (c *call) showGroup(ctx context.Context, id string) error {
	var one []console.Group
	if err := c.get(ctx, "/v1/groups?id="+url.QueryEscape(id), &one); err != nil {
		return err
	}
	if len(one) != 1 {
		return fmt.Errorf("the node answered with %d groups", len(one))
	}
	g := one[0]
	if done, err := c.print(g); done {
		return err
	}
	fmt.Fprintf(c.stdout, "%s is %s with %d members\n", g.ID, g.State, g.Members)
	var rows []table.Row
	for _, o := range g.Offsets {
		rows = append(rows, table.Row{o.Topic, o.Partition, o.Committed, o.End, o.Lag})
	}
	printTable(c.stdout, table.Row{"topic", "partition", "committed", "end", "lag"}, rows)
	return nil
}
