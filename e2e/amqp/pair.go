package amqp

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"
)

// side is a server that plays a random sequence, and what its client has not settled.
type side struct {
	p      *player
	open   map[string][]unsettled // by connection/channel, in the order of their tags
	undo   map[string][]unsettled // settled in a transaction that has not ended
	tx     map[string]bool        // channels with transactions
	times  map[string]int         // how often a message was delivered to a consumer
	noAck  map[string]bool        // connection/channel and tag of consumers that do not acknowledge
	getAck bool                   // the basic.get at hand is to be acknowledged
	state  []string               // what the queues have
	lines  []string               // what came since the step
	expire bool                   // messages may expire
}

// unsettled is a delivery; tag is the server's, name the same at both servers.
type unsettled struct {
	tag  uint64
	name string
}

func newSide(ctx context.Context, names *catalogue, server string) (*side, error) {
	u, err := url.Parse(server)
	if err != nil {
		return nil, err
	}
	s := &side{open: make(map[string][]unsettled), undo: make(map[string][]unsettled), tx: make(map[string]bool), times: make(map[string]int), noAck: make(map[string]bool)}
	s.p = &player{ctx: ctx, names: names, url: u, conns: make(map[string]*conn), variables: make(map[string]string), numbered: make(map[string]string), seen: s.event}
	return s, nil
}

// event keeps account of what is not settled.
func (s *side) event(conn string, e event) {
	where := fmt.Sprintf("%s/%d", conn, e.channel)
	if e.method == nil || e.method.name == "connection.close" {
		s.forget(conn + "/")
		return
	}
	switch e.method.name {
	case "channel.close", "channel.close-ok":
		s.forget(where)
	case "basic.deliver":
		tag := e.given["consumer-tag"].(string)
		if !s.noAck[where+" "+tag] {
			s.add(where, tag, e)
		}
	case "basic.get-ok":
		if s.getAck {
			s.add(where, "get", e)
		}
	case "basic.cancel":
		delete(s.noAck, where+" "+e.given["consumer-tag"].(string))
	case "basic.recover-ok":
		delete(s.open, where)
	case "tx.select-ok":
		s.tx[where] = true
	case "tx.commit-ok":
		delete(s.undo, where)
	case "tx.rollback-ok":
		s.open[where] = append(s.undo[where], s.open[where]...)
		slices.SortFunc(s.open[where], func(a, b unsettled) int { return cmp.Compare(a.tag, b.tag) })
		delete(s.undo, where)
	}
}

// add notes a delivery that is to be acknowledged.
func (s *side) add(where, tag string, e event) {
	name := where + " " + tag + " " + string(e.body)
	s.times[name]++
	s.open[where] = append(s.open[where], unsettled{e.given["delivery-tag"].(uint64), fmt.Sprint(name, " ", s.times[name])})
}

// forget forgets what channels had whose names begin with prefix.
func (s *side) forget(prefix string) {
	for _, all := range []map[string][]unsettled{s.open, s.undo} {
		maps.DeleteFunc(all, func(where string, _ []unsettled) bool { return strings.HasPrefix(where, prefix) })
	}
	for _, all := range []map[string]bool{s.noAck, s.tx} {
		maps.DeleteFunc(all, func(where string, _ bool) bool { return strings.HasPrefix(where, prefix) })
	}
}

// do performs a step.
func (s *side) do(o operation, text string, tag uint64) error {
	step, err := s.p.names.parseStep(o.where + ": " + text)
	if err != nil {
		return err
	}
	bit := func(name string) bool { set, _ := step.given[name].(bool); return set }
	switch step.verb {
	case "basic.get":
		s.getAck = !bit("no-ack")
	case "basic.consume":
		if key := o.where + " " + step.given["consumer-tag"].(string); !s.consumes(key) {
			s.noAck[key] = bit("no-ack")
		}
	case "basic.cancel":
		defer delete(s.noAck, o.where+" "+step.given["consumer-tag"].(string))
	case "drop":
		s.forget(step.conn + "/")
	case "basic.ack", "basic.nack", "basic.reject":
		s.settle(o.where, tag, bit("multiple"))
	}
	s.p.lines = nil
	return s.p.step(step)
}

// consumes reports whether a consumer of the tag is known.
func (s *side) consumes(key string) bool { _, ok := s.noAck[key]; return ok }

func (s *side) settle(where string, tag uint64, many bool) {
	var rest []unsettled
	for _, u := range s.open[where] {
		switch {
		case u.tag != tag && (!many || u.tag > tag):
			rest = append(rest, u)
		case s.tx[where]:
			s.undo[where] = append(s.undo[where], u)
		}
	}
	if s.open[where] = rest; len(rest) == 0 {
		delete(s.open, where)
	}
}

// look waits for what the server has sent, and asks what the queues have. It reports
// whether anything has changed since it looked before.
func (s *side) look() (changed bool, err error) {
	before := len(s.p.lines)
	for _, name := range slices.Sorted(maps.Keys(s.p.conns)) {
		c := s.p.conns[name]
		if c.over || name == "probe" {
			continue
		}
		for _, id := range slices.Sorted(maps.Keys(c.channels)) {
			flow := step{conn: name, channel: id, raw: true, verb: "channel.flow", method: s.p.names.byName["channel.flow"], given: map[string]any{"active": true}}
			if err := s.p.call(flow, c); err != nil {
				return false, err
			}
			if n := len(s.p.lines) - 1; n >= 0 && strings.Contains(s.p.lines[n], " channel.flow-ok ") {
				s.p.lines = s.p.lines[:n]
			}
			if c.over {
				break
			}
		}
	}
	changed = len(s.p.lines) > before
	n := len(s.p.lines)
	for _, q := range queueNames {
		ask := step{conn: "probe", channel: 1, verb: "queue.declare", method: s.p.names.byName["queue.declare"], given: map[string]any{"queue": q, "passive": true}}
		if err := s.p.step(ask); err != nil {
			return false, err
		}
	}
	state := slices.Clone(s.p.lines[n:])
	s.p.lines = s.p.lines[:n]
	changed = changed || !slices.Equal(state, s.state)
	s.state = state
	s.lines = canonical(s.p.lines)
	if s.expire {
		for i, l := range s.lines { // what has expired behind the message may count
			if before, after, ok := strings.Cut(l, " message-count="); ok && strings.Contains(l, " basic.get-ok ") {
				_, after, _ = strings.Cut(after, " ")
				s.lines[i] = before + " " + after
			}
		}
	}
	return changed, nil
}

// differs reports whether weir-cloud does something else on purpose (cloud/amqp091/README.md):
// a queue whose messages consumers have is not empty; an exclusive queue of others cannot be
// unbound, whether it is bound or not.
func differs(o operation, s *side) bool {
	if rest, ok := strings.CutPrefix(o.text, "queue.unbind queue="); ok {
		name, _, _ := strings.Cut(rest, " ")
		return slices.ContainsFunc(s.state, func(l string) bool { return strings.Contains(l, "locked queue '"+name+"'") })
	}
	return strings.HasSuffix(o.text, " if-empty") && len(s.open)+len(s.undo) > 0
}

// canonical returns what came so that its order is one that is promised: that of a
// channel, but for what is for a consumer that of the consumer, and the tags of deliveries
// do not count.
// Confirms of a kind are one line.
func canonical(lines []string) []string {
	type line struct{ key, text string }
	var all []line
	confirms := make(map[string]int) // where each kind is in all
	for _, text := range lines {
		text = sorted(text)
		words := strings.Fields(text)
		where, verb := words[1], words[2]
		l := line{where, text}
		switch verb {
		case "basic.deliver", "basic.get-ok":
			text = words[0] + " " + where + " " + verb
			for _, w := range words[3:] {
				if !strings.HasPrefix(w, "delivery-tag=") {
					text += " " + w
				}
			}
			if l.text = text; verb == "basic.deliver" {
				l.key = where + " " + words[3]
			}
		case "basic.cancel":
			l.key = where + " " + words[3]
		case "basic.ack", "basic.nack":
			if i, ok := confirms[where+verb]; ok {
				all[i].text += " " + strings.Join(words[3:], " ")
				continue
			}
			confirms[where+verb] = len(all)
		}
		all = append(all, l)
	}
	slices.SortStableFunc(all, func(a, b line) int { return strings.Compare(a.key, b.key) })
	var out []string
	for _, l := range all {
		out = append(out, l.text)
	}
	return out
}

// pair is two servers that are to answer alike.
type pair struct {
	names *catalogue
	urls  [2]string
}

// mismatch is a step that two servers answer differently.
type mismatch struct {
	steps     []string // up to it, as the first server got them
	want, got []string
}

func (m *mismatch) String() string {
	return fmt.Sprintf("%s\nwant %s\ngot  %s", strings.Join(m.steps, "\n"), strings.Join(m.want, "\n     "), strings.Join(m.got, "\n     "))
}

// play plays a sequence at both servers. It returns the first mismatch, nil if there is
// none.
func (b *pair) play(ctx context.Context, all []operation) (*mismatch, error) {
	var sides [2]*side
	for i, server := range b.urls {
		var err error
		if sides[i], err = newSide(ctx, b.names, server); err != nil {
			return nil, err
		}
		if err := sides[i].clean(); err != nil {
			return nil, fmt.Errorf("clean %s: %w", server, err)
		}
		defer sides[i].p.close()
	}
	still := time.Duration(0)
	if expires(all) {
		still = 45 * time.Millisecond // longer than what may expire has
		sides[0].expire, sides[1].expire = true, true
	}
	var steps []string
	for _, o := range all {
		text, tags, ok := resolve(o, sides)
		if !ok || differs(o, sides[0]) {
			continue
		}
		steps = append(steps, o.where+": "+text[0])
		for i, s := range sides {
			if err := s.do(o, text[i], tags[i]); err != nil {
				return nil, err
			}
		}
		same, err := agree(ctx, sides, still)
		if err != nil {
			return nil, err
		}
		if !same {
			return &mismatch{steps, slices.Concat(sides[0].lines, sides[0].state), slices.Concat(sides[1].lines, sides[1].state)}, nil
		}
	}
	return nil, nil
}

// resolve returns the step of each side; ok is false if there is nothing to settle.
func resolve(o operation, sides [2]*side) (text [2]string, tags [2]uint64, ok bool) {
	text = [2]string{o.text, o.text}
	if !strings.Contains(o.text, "%d") {
		return text, [2]uint64{999, 999}, true
	}
	open := [2][]unsettled{sides[0].open[o.where], sides[1].open[o.where]}
	if len(open[0]) == 0 {
		return text, tags, false
	}
	pick := o.pick % len(open[0])
	other := slices.IndexFunc(open[1], func(u unsettled) bool { return u.name == open[0][pick].name })
	if other < 0 {
		return text, tags, false
	}
	if o.many && !slices.Equal(namesOf(open[0][:pick+1]), namesOf(open[1][:other+1])) {
		return text, tags, false // the servers have interleaved two consumers differently
	}
	for i, n := range []int{pick, other} {
		tags[i] = open[i][n].tag
		text[i] = fmt.Sprintf(o.text, tags[i])
	}
	return text, tags, true
}

func namesOf(all []unsettled) []string {
	var names []string
	for _, u := range all {
		names = append(names, u.name)
	}
	slices.Sort(names)
	return names
}

// agree waits until nothing changes any more at either side for a while, and both have
// answered alike. It reports false if they have not within a few seconds.
func agree(ctx context.Context, sides [2]*side, still time.Duration) (bool, error) {
	began := time.Now()
	quiet := began
	for {
		changed := false
		for _, s := range sides {
			more, err := s.look()
			if err != nil {
				return false, err
			}
			changed = changed || more
		}
		now := time.Now()
		if changed {
			quiet = now
		} else if now.Sub(quiet) >= still && slices.Equal(sides[0].lines, sides[1].lines) && slices.Equal(sides[0].state, sides[1].state) {
			return true, nil
		}
		if now.Sub(began) > disagreement {
			return false, nil
		}
		select {
		case <-time.After(2 * time.Millisecond):
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

// disagreement is how long two servers have to answer alike.
const disagreement = 2 * time.Second

// clean deletes what an earlier sequence has left.
func (s *side) clean() error {
	limit := time.Now().Add(patience)
	for _, text := range []string{"queue.delete queue=q1", "queue.delete queue=q2", "queue.delete queue=q3", "exchange.delete exchange=x1", "exchange.delete exchange=x2"} {
		step, err := s.p.names.parseStep("probe/1: " + text)
		if err != nil {
			return err
		}
		for done := false; !done; {
			s.p.lines = nil
			if err := s.p.step(step); err != nil {
				return err
			}
			done = len(s.p.lines) == 1 && strings.Contains(s.p.lines[0], ".delete-ok") // not yet while an exclusive queue has its owner
			if !done && time.Now().After(limit) {
				return fmt.Errorf("%s: %v", text, s.p.lines)
			}
		}
	}
	return nil
}

// shrink leaves operations out as long as the servers still differ, and returns the
// mismatch that is left.
func (b *pair) shrink(ctx context.Context, all []operation, m *mismatch) (*mismatch, error) {
	for size := len(all) / 2; size > 0; {
		removed := false
		for at := 0; at+size <= len(all); {
			fewer := slices.Delete(slices.Clone(all), at, at+size)
			less, err := b.play(ctx, fewer)
			if err != nil {
				return m, err
			}
			if less == nil {
				at += size
				continue
			}
			all, m, removed = fewer, less, true
		}
		if !removed || size > 1 {
			size /= 2
		}
	}
	return m, nil
}
