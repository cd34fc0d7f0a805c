package page

import (
	"fmt"
	"html/template"
	"strconv"
	"strings"
	"time"

	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/console"
	"github.com/weirmq/weir/cloud/measure"
)

// functions are those that the templates use.
func (p *pages) functions() template.FuncMap {
	return template.FuncMap{
		"size": size, "count": count, "rate": rate, "when": when, "link": link, "state": stateOf, "many": many,
		"nodeState": nodeState, "shardState": shardState, "load": load, "clock": clock,
		"seconds": func(s float64) string { return duration(time.Duration(s * float64(time.Second))) },
		"ago":     func(t time.Time) string { return ago(p.now(), t) },
		"ms":      func(ms uint64) string { return duration(time.Duration(ms) * time.Millisecond) },
	}
}

// size writes a number of bytes with its unit.
func size(v any) string {
	n := number(v)
	const units = "kMGTPE"
	if n < 1000 {
		return fmt.Sprintf("%.0f B", n)
	}
	i := -1
	for n >= 999.5 && i+1 < len(units) {
		n /= 1000
		i++
	}
	if n < 9.95 {
		return fmt.Sprintf("%.1f %cB", n, units[i])
	}
	return fmt.Sprintf("%.0f %cB", n, units[i])
}

// count writes a whole number with a thin space between thousands.
func count(v any) string {
	s := strconv.FormatFloat(number(v), 'f', 0, 64)
	sign := ""
	if strings.HasPrefix(s, "-") {
		sign, s = "-", s[1:]
	}
	var out strings.Builder
	for i, digit := range s {
		if i > 0 && (len(s)-i)%3 == 0 {
			out.WriteRune('\u202f')
		}
		out.WriteRune(digit)
	}
	return sign + out.String()
}

func number(v any) float64 {
	switch n := v.(type) {
	case int:
		return float64(n)
	case int32:
		return float64(n)
	case int64:
		return float64(n)
	case uint64:
		return float64(n)
	case *uint64:
		return float64(*n)
	case float64:
		return n
	}
	return 0
}

// many writes a number of things.
func many(n int, word string) string {
	if n != 1 {
		word += "s"
	}
	return count(n) + " " + word
}

// rate writes a number per second.
func rate(perSecond float64) string {
	switch {
	case perSecond == 0:
		return "0/s"
	case perSecond < 0.05:
		return "<0.1/s"
	case perSecond < 10:
		return fmt.Sprintf("%.1f/s", perSecond)
	}
	return count(perSecond) + "/s"
}

// when writes a time.
func when(t time.Time) string {
	if t.IsZero() {
		return "—"
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}

// ago writes how long ago a time was, or in how long it will be.
func ago(now, t time.Time) string {
	switch d := now.Sub(t); {
	case t.IsZero():
		return "—"
	case d >= 0:
		return duration(d) + " ago"
	default:
		return "in " + duration(-d)
	}
}

// duration writes a time span with its largest unit or two.
func duration(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < time.Second:
		return strconv.FormatInt(d.Milliseconds(), 10) + " ms"
	case d < 2*time.Minute:
		return strconv.Itoa(int(d.Seconds())) + " s"
	case d < 2*time.Hour:
		return strconv.Itoa(int(d.Minutes())) + " min"
	case d < 2*day:
		return strconv.Itoa(int(d.Hours())) + " h"
	}
	return strconv.Itoa(int(d/day)) + " days"
}

// tag is a word in a colour.
type tag struct{ Class, Text string }

// nodeState says how a node is.
func nodeState(n console.ClusterNode) tag {
	switch {
	case n.State != console.NodeUp:
		return tag{"bad", n.State}
	case n.Error != "":
		return tag{"warn", n.State}
	case n.Role == console.RoleRecovering:
		return tag{"warn", n.Role}
	case n.Role == console.RoleOwner:
		return tag{"good", n.Role}
	}
	return tag{"", n.Role}
}

// shardState says how a shard is.
func shardState(s console.ShardStatus) tag {
	switch s.State {
	case string(cluster.Owning):
		return tag{"good", s.State}
	case string(cluster.Recovering), string(cluster.Handing):
		return tag{"warn", s.State}
	}
	return tag{"bad", s.State}
}

// load is how many records a second a node gets into its shards.
func load(n console.ClusterNode) (records float64) {
	for _, s := range n.Shards {
		records += s.Rate
	}
	return records
}

// clock writes how far a clock is ahead, if that is worth it.
func clock(ahead time.Duration) string {
	switch {
	case ahead.Abs() < time.Second:
		return "right"
	case ahead < 0:
		return duration(-ahead) + " slow"
	}
	return duration(ahead) + " fast"
}

// stateOf says how a gateway is.
func stateOf(g console.Gateway) tag {
	switch {
	case g.Revoked:
		return tag{"bad", measure.StateRevoked}
	case g.Connected:
		return tag{"good", measure.StateConnected}
	}
	return tag{"warn", measure.StateAway}
}
