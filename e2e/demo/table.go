package main

import (
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// tableLines is the height of what draw prints, tableWidth its width.
const (
	tableLines = 13
	tableWidth = 80
)

// barWidth is the width of the bar of what is buffered.
const barWidth = 24

// draw prints what is happening, and where the readings are.
func (d *demo) draw(elapsed time.Duration) {
	d.look()
	p50, p99 := d.auditor.Latency(5000)
	report := d.auditor.Report()
	elapsed = elapsed.Round(time.Second)
	fmt.Fprintf(d.out, "%-*.*s\n", tableWidth-1, tableWidth-1, fmt.Sprintf("%d:%02d  %s", int(elapsed.Minutes()), int(elapsed.Seconds())%60, *d.scene.Load()))
	t := table.NewWriter()
	t.SetOutputMirror(d.out)
	t.SetStyle(table.StyleRounded)
	t.SetColumnConfigs([]table.ColumnConfig{{Number: 1, WidthMin: 14, WidthMax: 14}, {Number: 2, WidthMin: 11, WidthMax: 11, Align: text.AlignRight},
		{Number: 3, WidthMin: 44, WidthMax: 44}})
	t.AppendRows([]table.Row{
		{"published", d.stats.Sent.Load(), fmt.Sprintf("by %d devices", d.fleet.Devices)},
		{"acknowledged", d.stats.Acked.Load(), "by the gateway: they are on its disk"},
		{"buffered", d.buffer, bar(d.buffer, d.peak) + fmt.Sprintf(" at most %d", d.peak)},
		{"in the log", d.logged, "of the cloud: they are in the bucket"},
		{"consumed", report.Received, "by a Kafka consumer group"},
	})
	t.AppendSeparator()
	t.AppendRow(table.Row{"latency", fmt.Sprintf("%.1f ms", milliseconds(p50)), fmt.Sprintf("p50 of the last 5000; p99 %.1f ms", milliseconds(p99))})
	t.AppendRows([]table.Row{
		{"lost", d.auditor.Overtaken(), "acknowledged, and a later one came first"},
		{"duplicated", report.Duplicated, fmt.Sprintf("(devices sent %d again, as they must)", d.stats.Resent.Load())},
		{"disordered", report.Disordered, ""},
	})
	t.Render()
}

// bar shows n of most.
func bar(n, most int64) string {
	full := 0
	if n > 0 {
		full = max(1, int(n*barWidth/max(most, barWidth)))
	}
	return strings.Repeat("█", full) + strings.Repeat("░", barWidth-full)
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func split(addr string) (host, port string) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr, ""
	}
	return host, port
}
