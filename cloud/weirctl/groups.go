package main

import (
	"context"
	"fmt"
	"net/url"

	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/weirmq/weir/cloud/console"
)

func groupsVerb() verb {
	actions := []string{"list", "delete"}
	return verb{
		actions: actions, names: "groups",
		name: "groups", usage: "[GROUP | delete GROUP] [flags]",
		summary: "list consumer groups, show the members and the lag of one, or delete one",
		notes: "Lag is the number of records that a group has not read yet: from the offsets that it has committed to the ends of\n" +
			"the partitions. It is \"at least\" so much if the node that leads one of them does not answer. delete removes a group that has no members, with its offsets.",
		run: func(ctx context.Context, c *call) error {
			switch {
			case len(c.args) == 0 || len(c.args) == 1 && c.args[0] == "list":
				return c.listGroups(ctx)
			case len(c.args) == 1 && c.args[0] != "delete":
				return c.showGroup(ctx, c.args[0])
			case len(c.args) == 2 && c.args[0] == "delete":
				if err := c.del(ctx, "/v1/groups?id="+url.QueryEscape(c.args[1])); err != nil {
					return err
				}
				return c.done("group %s deleted, with its offsets", c.args[1])
			}
			return c.wrong("groups takes no argument, one group, or delete GROUP", actions)
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
		rows = append(rows, table.Row{g.ID, g.State, g.Members, lagOf(g), g.Protocol})
	}
	printTable(c.stdout, table.Row{"group", "state", "members", "lag", "protocol"}, rows)
	return nil
}

// lagOf says how many records a group is behind.
func lagOf(g console.Group) any {
	if g.Unknown > 0 {
		return fmt.Sprintf("at least %d", g.Lag)
	}
	return g.Lag
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
	fmt.Fprintf(c.stdout, "%s is %s with %d members, %v records behind.\n", g.ID, g.State, g.Members, lagOf(g))
	var rows []table.Row
	for _, o := range g.Offsets {
		end, lag := any("?"), any("?")
		if o.End >= 0 {
			end, lag = o.End, o.Lag
		}
		rows = append(rows, table.Row{o.Topic, o.Partition, o.Committed, end, lag, o.Member})
	}
	if len(rows) > 0 {
		fmt.Fprintln(c.stdout)
		printTable(c.stdout, table.Row{"topic", "partition", "committed", "end", "lag", "member"}, rows)
	}
	rows = nil
	for _, m := range g.Details {
		rows = append(rows, table.Row{m.ID, m.Client, m.Host, m.Instance, len(m.Partitions)})
	}
	if len(rows) > 0 {
		fmt.Fprintln(c.stdout)
		printTable(c.stdout, table.Row{"member", "client", "host", "instance", "partitions"}, rows)
	}
	return nil
}
