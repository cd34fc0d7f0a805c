package main

import (
	"fmt"
	"net"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// tableLines is the height of what draw prints.
const tableLines = 17

// draw prints where the readings are.
func (d *demo) draw(elapsed time.Duration) {
	r := d.ask()
	acked := d.stats.Acked.Load()
	inLog := int64(0)
	for _, t := range r.topics {
		if t.Name == "sensors" {
			inLog = t.Records
		}
	}
	p50, p99 := d.auditor.Latency(5000)
	report := d.auditor.Report()
	buffered, synced, logged, link := "?", "?", "?", "?"
	if r.reached {
		synced = fmt.Sprint(max(0, acked-int64(r.edge.BufferedRecords)))
		buffered = fmt.Sprint(r.edge.BufferedRecords)
		logged = fmt.Sprint(inLog)
		link = "down"
		if r.edge.Connected {
			link = "up"
		}
	}
	t := table.NewWriter()
	t.SetOutputMirror(d.out)
	t.SetStyle(table.StyleRounded)
	t.SetColumnConfigs([]table.ColumnConfig{{Number: 1, WidthMin: 18}, {Number: 2, WidthMin: 12, Align: text.AlignRight}, {Number: 3, WidthMin: 52}})
	t.AppendRows([]table.Row{
		{"published", d.stats.Sent.Load(), fmt.Sprintf("by %d devices in %v", d.fleet.Devices, elapsed.Round(time.Second))},
		{"acked by the edge", acked, "fsynced on its disk"},
		{"buffered", buffered, "on the edge, not yet acked by the cloud; link " + link},
		{"synced", synced, "acked by the cloud"},
		{"in the log", logged, "durable in the bucket"},
		{"consumed", report.Received, "by a Kafka consumer group"},
	})
	t.AppendSeparator()
	t.AppendRow(table.Row{"latency p50", fmt.Sprintf("%.1f ms", milliseconds(p50)), "from PUBLISH to the consumer"})
	t.AppendRow(table.Row{"latency p99", fmt.Sprintf("%.1f ms", milliseconds(p99)), ""})
	t.AppendSeparator()
	t.AppendRows([]table.Row{
		{"lost", d.auditor.Overtaken(), "acked, but a later reading of the device came first"},
		{"duplicated", report.Duplicated, ""},
		{"disordered", report.Disordered, ""},
	})
	t.AppendSeparator()
	t.AppendRow(table.Row{"resent", d.stats.Resent.Load(), "by devices, after a broken connection"})
	t.Render()
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func split(addr string) (host, port string) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr, ""
	}
	return host, port
}
