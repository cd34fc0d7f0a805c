package main

import (
	"context"
	"fmt"
	"math"
	"net/url"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/weirmq/weir/cloud/console"
	"github.com/weirmq/weir/configs"
)

// describeGateway prints everything that is known about a gateway.
func (c *call) describeGateway(ctx context.Context, id string) error {
	var g console.GatewayDetail
	if err := c.get(ctx, "/v1/gateways/"+url.PathEscape(id), &g); err != nil {
		return err
	}
	if done, err := c.print(g); done {
		return err
	}
	state := g.State
	if g.Connected {
		state += " since " + localTime(g.Since)
	}
	rows := []table.Row{
		{"gateway", g.ID}, {"state", state}, {"last contact", contactTime(g.Gateway)},
		{"buffered", backlog(g.Gateway)}, {"oldest", backlogAge(g.Gateway)},
		{"lost records", g.Lost}, {"software", orDash(g.Software)}, {"address", orDash(g.Address)},
		{"joined", localTime(g.Joined)}, {"certificate until", localTime(g.Expires)}, {"may write to", bounds(g.Gateway)},
	}
	if g.Connected {
		rows = append(rows, []table.Row{
			{"started", localTime(g.Started)}, {"refused to devices", figure(g.RefusedMessages, countOf)}, {"dead letters", figure(g.DeadLetters, countOf)},
			{"buffers", figure(g.Buffers, countOf)}, {"quota", figure(g.QuotaBytes, bytesOf)}, {"disk free", figure(g.FreeBytes, bytesOf)},
		}...)
	}
	for _, l := range g.Lanes {
		text := fmt.Sprint(l.Buffered, " buffered")
		if !l.Oldest.IsZero() {
			text += ", oldest of " + localTime(l.Oldest)
		}
		rows = append(rows, table.Row{"lane " + l.Lane, text})
	}
	printTable(c.stdout, nil, rows)
	if len(g.Streams) > 0 {
		rows = nil
		for _, s := range g.Streams {
			for _, m := range s.Marks {
				rows = append(rows, table.Row{s.Buffer, s.Lane, m.Topic, m.Partition, m.Last})
			}
		}
		fmt.Fprintln(c.stdout)
		printTable(c.stdout, table.Row{"buffer", "lane", "topic", "partition", "durable up to"}, rows)
	}
	if len(g.Refusals) > 0 {
		rows = nil
		for _, r := range g.Refusals {
			rows = append(rows, table.Row{localTime(r.Last), r.Times, orDash(r.Topic), r.Reason, r.Text})
		}
		fmt.Fprintln(c.stdout)
		printTable(c.stdout, table.Row{"refused last", "times", "topic", "reason", "text"}, rows)
	}
	return nil
}

func localTime(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// figure formats a number that gateways of earlier versions do not report.
func figure(n *uint64, text func(uint64) string) string {
	if n == nil {
		return "-"
	}
	return text(*n)
}

func countOf(n uint64) string { return fmt.Sprint(n) }

// bytesOf formats a number of bytes from a gateway, which may be any number.
func bytesOf(n uint64) string { return configs.FormatBytes(int64(min(n, math.MaxInt64))) }

// contactTime is the time of a gateway's last contact: "now" while it is connected.
func contactTime(g console.Gateway) string {
	if g.Connected {
		return "now"
	}
	return localTime(g.LastContact)
}

// backlog is what a gateway has and the cloud does not; "-" if it is not known.
func backlog(g console.Gateway) string {
	if !g.Known {
		return "-"
	}
	return fmt.Sprintf("%d (%s)", g.Buffered, bytesOf(g.Bytes))
}

func backlogAge(g console.Gateway) string {
	if g.AgeMS == 0 {
		return "-"
	}
	age := time.Duration(g.AgeMS) * time.Millisecond
	if age < time.Minute {
		return age.Round(time.Millisecond).String()
	}
	return age.Round(time.Second).String()
}
