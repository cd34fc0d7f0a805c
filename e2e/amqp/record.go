package amqp

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

func (p *player) note(format string, a ...any) {
	p.lines = append(p.lines, "  < "+fmt.Sprintf(format, a...))
}

// record writes an event down. README.md lists what is made equal that differs from run to run.
func (p *player) record(name string, c *conn, e event) {
	if p.seen != nil {
		p.seen(name, e)
	}
	if e.method == nil {
		p.note("%s/%d %s", name, e.channel, e.note)
		return
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s/%d %s", name, e.channel, e.method.name)
	ch := c.channels[e.channel]
	if ch != nil && (e.method.name == "basic.ack" || e.method.name == "basic.nack") {
		p.settled(&b, ch, e)
		return
	}
	p.write(&b, e.method.arguments, e.given)
	if e.method.content {
		p.write(&b, p.names.properties, e.props)
		fmt.Fprintf(&b, " frames=%d body=%s", e.frames, bodyText(e.body))
	}
	p.lines = append(p.lines, "  < "+b.String())
}

func bodyText(body []byte) string {
	if len(body) > 32 && strings.Trim(string(body), "x") == "" {
		return "@" + strconv.Itoa(len(body))
	}
	return quote(string(body))
}

// write writes the arguments that are there: a bit when it is set.
func (p *player) write(b *strings.Builder, all []argument, given map[string]any) {
	for _, a := range all {
		v, ok := given[a.name]
		if !ok || a.reserved {
			continue
		}
		switch v := v.(type) {
		case bool:
			if v {
				b.WriteString(" " + a.name)
			}
		case fields:
			if a.name == "server-properties" {
				v = capabilities(v)
			}
			fmt.Fprintf(b, " %s=%s", a.name, timeless(v).text("{", "}"))
		case string:
			fmt.Fprintf(b, " %s=%s", a.name, quote(p.chosen(v)))
		default:
			fmt.Fprintf(b, " %s=%v", a.name, v)
		}
	}
}

// chosen writes names that the server chose with a number, in the order of their first
// appearance, wherever they stand in a text.
func (p *player) chosen(text string) string {
	for _, prefix := range []string{"amq.gen-", "amq.ctag-", "amq.rabbitmq.reply-to."} {
		i := strings.Index(text, prefix)
		if i < 0 {
			continue
		}
		end := i + len(prefix)
		for end < len(text) && text[end] != '\'' && text[end] != ' ' {
			end++
		}
		name := text[i:end]
		if p.numbered[name] == "" {
			p.numbered[name] = fmt.Sprintf("%s%d", prefix, len(p.numbered)+1)
		}
		return text[:i] + p.numbered[name] + text[end:]
	}
	return text
}

// capabilities leaves of a server's properties what it can do.
func capabilities(all fields) fields {
	for _, f := range all {
		if f.name == "capabilities" {
			return fields{f}
		}
	}
	return nil
}

// timeless sets the times of x-death to 0.
func timeless(all fields) fields {
	got := make(fields, len(all))
	for i, f := range all {
		if inner, ok := f.data.(fields); ok {
			f.data = timeless(inner)
		}
		if f.name == "time" && f.kind == 'T' {
			f.data = int64(0)
		}
		got[i] = f
	}
	return got
}

// settled writes down which publishes a confirm is for. How many confirms a server joins in
// one is a matter of timing, so that confirms of a kind that follow each other are one line.
func (p *player) settled(b *strings.Builder, ch *channel, e event) {
	tag, multiple := e.given["delivery-tag"].(uint64), e.given["multiple"].(bool)
	var rest, done []uint64
	for _, n := range ch.open {
		if n == tag || (multiple && (n < tag || tag == 0)) {
			done = append(done, n)
		} else {
			rest = append(rest, n)
		}
	}
	ch.open = rest
	line := "  < " + b.String()
	if len(done) == 0 {
		p.lines = append(p.lines, fmt.Sprintf("%s of %d, which is not open", line, tag))
		return
	}
	last := len(p.lines) - 1
	before, ok := "", false
	if last >= 0 {
		before, ok = strings.CutPrefix(p.lines[last], line+" ")
	}
	if ok {
		for word := range strings.FieldsSeq(before) {
			n, _ := strconv.ParseUint(word, 10, 64) // written below
			done = append(done, n)
		}
		p.lines = p.lines[:last]
	}
	slices.Sort(done)
	for _, n := range done {
		line += fmt.Sprintf(" %d", n)
	}
	p.lines = append(p.lines, line)
}

// sorted sorts the fields of the tables in a line: their order means nothing.
func sorted(line string) string {
	before, rest, ok := strings.Cut(line, " headers=")
	r := &reader{rest}
	all, err := r.fields("{", "}")
	if !ok || err != nil {
		return line
	}
	return before + " headers=" + sortFields(all).text("{", "}") + r.rest
}

func sortFields(all fields) fields {
	for i := range all {
		if inner, ok := all[i].data.(fields); ok {
			all[i].data = sortFields(inner)
		}
	}
	slices.SortStableFunc(all, func(a, b field) int { return cmp.Compare(a.name, b.name) })
	return all
}
