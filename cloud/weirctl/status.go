package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/weirmq/weir/cloud/console"
	"github.com/weirmq/weir/cloud/measure"
	"github.com/weirmq/weir/configs"
)

func statusVerb() verb {
	return verb{
		name: "status", usage: "[flags]",
		summary: "show the state of the cluster, and what is wrong with it",
		notes: "It ends with exit code 1 if stored records are damaged: weirctl check says which.\n\n" +
			"Example:\n  weirctl status --cloud https://a.example:8080,https://b.example:8080",
		run: func(ctx context.Context, c *call) error {
			if len(c.args) > 0 {
				return fmt.Errorf("status takes no argument %q", c.args[0])
			}
			return c.status(ctx)
		},
	}
}

func (c *call) status(ctx context.Context) error {
	var s console.Status
	if err := c.get(ctx, "/v1/status", &s); err != nil {
		return err
	}
	done, err := c.print(s)
	if !done {
		err = printStatus(c.stdout, s, time.Now())
	}
	if err == nil && s.Damaged > 0 {
		return errProblems
	}
	return err
}

// printStatus writes one line for each part of a cluster.
func printStatus(w io.Writer, s console.Status, now time.Time) error {
	if len(s.Shards) > 0 {
		return errors.Join(printCluster(w, s, now), printProblems(w, s.Problems))
	}
	owner, standbys := "", []string(nil)
	for _, n := range s.Nodes {
		switch {
		case n.Role == console.RoleStandby:
			standbys = append(standbys, fmt.Sprintf("%s (for %s, last heard %s ago)", n.Name, span(now, n.Since), span(now, n.Heard)))
		case n.Since.IsZero():
			owner = n.Name
		default:
			owner = fmt.Sprintf("%s (for %s)", n.Name, span(now, n.Since))
		}
	}
	_, err := fmt.Fprintf(w, "cluster    %s, epoch %d, version %s\nowner      %s\nstandbys   %s\ngateways   %s\n"+
		"topics     %d with %d partitions: %d records, %s at rest, %s records/s\ngroups     %d, behind: %s\ndamage     %s\n",
		s.Cluster, s.Epoch, s.Version, owner, cmp.Or(strings.Join(standbys, ", "), "none"), gatewaysLine(s.Gateways),
		s.Topics, s.Partitions, s.Records, configs.FormatBytes(s.Bytes), perSecond(s.Rate), s.Groups, behindLine(s.Lagging), damageLine(s.Damaged))
	if err == nil {
		err = printDoors(w, s.Doors)
	}
	if err == nil && s.Disk.Size > 0 {
		_, err = fmt.Fprintf(w, "disk       %s free of %s (the owner's %s)\n", configs.FormatBytes(int64(s.Disk.Free)), configs.FormatBytes(int64(s.Disk.Size)), s.Disk.Path)
	}
	return err
}

func gatewaysLine(count console.GatewayCount) string {
	line := fmt.Sprintf("%d connected, %d away", count.Connected, count.Away)
	if count.Revoked > 0 {
		line += fmt.Sprintf(", %d revoked", count.Revoked)
	}
	if count.Buffered > 0 {
		line += fmt.Sprintf("; %d records wait on them", count.Buffered)
	}
	if count.Lost > 0 {
		line += fmt.Sprintf("; %d records lost since they joined (topic weir.gaps)", count.Lost)
	}
	return line
}

func behindLine(lagging []console.Group) string {
	var behind []string
	for _, g := range lagging {
		behind = append(behind, fmt.Sprintf("%s by %v records", g.ID, lagOf(g)))
	}
	return cmp.Or(strings.Join(behind, ", "), "none")
}

func damageLine(pieces int) string {
	if pieces == 0 {
		return "none"
	}
	return fmt.Sprintf("%d pieces of the log cannot be read: weirctl check says which", pieces)
}

// printProblems writes what is wrong, if anything is.
func printProblems(w io.Writer, problems []string) error {
	for i, p := range problems {
		label := "wrong"
		if i > 0 {
			label = ""
		}
		if _, err := fmt.Fprintf(w, "%-10s %s\n", label, p); err != nil {
			return err
		}
	}
	return nil
}

// printDoors writes a line for each listener of the node that answers.
func printDoors(w io.Writer, doors []measure.Listener) error {
	for i, d := range doors {
		label := "doors"
		if i > 0 {
			label = ""
		}
		if _, err := fmt.Fprintf(w, "%-10s %s: %d connections, %s received, %s sent, %d requests, %d errors\n", label, strings.TrimSpace(d.Door+" "+d.Listener),
			d.Open, configs.FormatBytes(int64(d.Received)), configs.FormatBytes(int64(d.Sent)), d.Requests, d.Errors); err != nil {
			return err
		}
	}
	return nil
}

// span returns how long ago a time was.
func span(now, t time.Time) string {
	return configs.FormatDuration(max(0, now.Sub(t)).Round(time.Second))
}

// perSecond formats a rate with its significant digits.
func perSecond(rate float64) string {
	if rate > 0 && rate < 10 {
		return fmt.Sprintf("%.1f", rate)
	}
	return fmt.Sprintf("%.0f", rate)
}
