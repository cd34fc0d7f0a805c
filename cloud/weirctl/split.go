package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/weirmq/weir/cloud/console"
	"github.com/weirmq/weir/storage/pause"
)

// splitEvery is how often a node is asked how far a split is.
const splitEvery = 500 * time.Millisecond

// splitShards gives the cluster more shards, or shows what has become of that.
func (c *call) splitShards(ctx context.Context) error {
	var s console.Split
	if c.shards == 0 {
		if err := c.get(ctx, "/v1/shards/split", &s); err != nil {
			return err
		}
		return c.printSplit(s)
	}
	if err := c.post(ctx, "/v1/shards/split", console.NewSplit{Data: c.shards, DryRun: c.dryRun}, &s); err != nil {
		return err
	}
	for told := 0; s.Running; {
		if err := pause.For(ctx, splitEvery); err != nil {
			return fmt.Errorf("the split goes on without this command, see weirctl shards split: %w", err)
		}
		if err := c.get(ctx, "/v1/shards/split", &s); err != nil {
			return err
		}
		for ; told < len(s.Moves) && s.Moves[told].Done && !c.json; told++ {
			m := s.Moves[told]
			fmt.Fprintf(c.stdout, "%d slices have moved from shard %d to shard %d\n", m.Slices, m.From, m.To)
		}
	}
	if s.Data != c.shards { // another node has the catalogue now, and makes no other moves
		return errors.New("the node that split the shards does not own the catalogue any more: see what is left with --dry-run, and ask again")
	}
	return c.printSplit(s)
}

func (c *call) printSplit(s console.Split) error {
	done, err := c.print(s)
	if !done && err == nil {
		var rows []table.Row
		for _, m := range s.Moves {
			state := "not moved"
			switch {
			case m.Done:
				state = "moved"
			case c.dryRun:
				state = "would move"
			case s.Running:
				state = "to move"
			}
			rows = append(rows, table.Row{m.From, m.To, m.Slices, state})
		}
		if len(rows) > 0 {
			printTable(c.stdout, table.Row{"from shard", "to shard", "slices", ""}, rows)
		} else {
			fmt.Fprintf(c.stdout, "%d shards with data, and nothing moves\n", s.Data)
		}
	}
	if err == nil && s.Error != "" {
		return fmt.Errorf("not all slices have moved: %s", s.Error)
	}
	return err
}
