// Package amqp plays scripts of AMQP 0-9-1 against a server and writes down what comes back,
// so that the answers of two servers can be compared. README.md describes the scripts.
package amqp

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// patience is how long a step waits for what has to come.
const patience = 10 * time.Second

// player plays one script.
type player struct {
	ctx       context.Context
	names     *catalogue
	url       *url.URL
	conns     map[string]*conn
	variables map[string]string
	numbered  map[string]string // names that the server chose, and how they are written down
	queues    []string          // declared, to be deleted at the end
	exchanges []string
	lines     []string
	seen      func(conn string, e event) // called for what comes, if set
}

// play plays the steps against the server at the URL and returns the steps with what came
// back. Queues and exchanges that were declared are deleted at the end.
func play(ctx context.Context, names *catalogue, server string, steps []step) ([]string, error) {
	u, err := url.Parse(server)
	if err != nil {
		return nil, err
	}
	p := &player{ctx: ctx, names: names, url: u, conns: make(map[string]*conn), variables: make(map[string]string), numbered: make(map[string]string)}
	for _, s := range steps {
		p.lines = append(p.lines, s.text)
		if err := p.step(s); err != nil {
			p.close()
			return p.lines, fmt.Errorf("%s: %w", s.text, err)
		}
	}
	p.close()
	lines := p.lines
	return lines, p.tidy()
}

func (p *player) close() {
	for _, c := range p.conns {
		c.close()
	}
}

// tidy deletes what the script declared.
func (p *player) tidy() error {
	p.conns, p.lines = make(map[string]*conn), nil
	defer p.close()
	for i, name := range slices.Concat(p.queues, p.exchanges) {
		verb, argument := "queue.delete", "queue"
		if i >= len(p.queues) {
			verb, argument = "exchange.delete", "exchange"
		}
		s := step{conn: "tidy", channel: uint16(i + 1), verb: verb, method: p.names.byName[verb], given: map[string]any{argument: name}}
		if err := p.step(s); err != nil {
			return fmt.Errorf("delete %s: %w", name, err)
		}
	}
	return nil
}

func (p *player) step(s step) error {
	c := p.conns[s.conn]
	anew := c != nil && c.over && s.method != nil && !s.raw
	if s.verb == "dial" || c == nil || anew {
		if c != nil {
			c.close()
		}
		var err error
		if c, err = p.names.dial(p.ctx, p.url.Host); err != nil {
			return err
		}
		p.conns[s.conn] = c
		if s.verb == "dial" {
			return nil
		}
		if s.verb != "handshake" {
			if err := p.quietly(func() error { return p.handshake(s, c, nil) }); err != nil {
				return err
			}
		}
	}
	if !s.raw && s.channel != 0 && c.channels[s.channel] == nil && s.verb != "channel.open" && s.verb != "closed" && (s.method != nil || s.verb == "until" || s.verb == "barrier") {
		open := step{conn: s.conn, channel: s.channel, raw: true, verb: "channel.open", method: p.names.byName["channel.open"]}
		if err := p.quietly(func() error { return p.call(open, c) }); err != nil {
			return err
		}
	}
	if s.method != nil {
		return p.call(s, c)
	}
	return p.own(s, c)
}

// quietly does f, and forgets what it wrote down unless the server refused it.
func (p *player) quietly(f func() error) error {
	n := len(p.lines)
	err := f()
	if err != nil || !slices.ContainsFunc(p.lines[n:], func(l string) bool { return strings.Contains(l, ".close ") || strings.HasSuffix(l, " end") }) {
		p.lines = p.lines[:n]
	}
	return err
}

// call sends a method and waits for its answer, if it has one.
func (p *player) call(s step, c *conn) error {
	given := p.resolve(s.given)
	p.remember(s, given)
	if err := c.send(s.channel, s.method, given, p.resolve(s.props), p.body(s.body)); err != nil {
		p.note("%s/%d cannot write", s.conn, s.channel)
		return nil
	}
	ch := c.channels[s.channel]
	if ch != nil && ch.confirms && s.verb == "basic.publish" {
		ch.published++
		ch.open = append(ch.open, ch.published)
	}
	noWait, _ := given["no-wait"].(bool)
	if noWait && s.verb == "confirm.select" && ch != nil {
		ch.confirms = true
	}
	if noWait || len(s.method.answers) == 0 {
		return nil
	}
	return p.receive(s, c, func(e event) bool {
		if !slices.Contains(s.method.answers, e.method.name) {
			return false
		}
		p.answered(s, c, e)
		return true
	})
}

// answered keeps what the answer to a step changes.
func (p *player) answered(s step, c *conn, e event) {
	switch e.method.name {
	case "channel.open-ok":
		c.channels[s.channel] = &channel{}
	case "channel.close-ok":
		delete(c.channels, s.channel)
	case "confirm.select-ok":
		if ch := c.channels[s.channel]; ch != nil {
			ch.confirms = true
		}
	case "queue.declare-ok":
		if name := e.given["queue"].(string); !slices.Contains(p.queues, name) {
			if passive, _ := s.given["passive"].(bool); !passive {
				p.queues = append(p.queues, name)
			}
		}
	}
	if s.as != "" && len(e.method.arguments) > 0 {
		p.variables[s.as] = fmt.Sprint(e.given[e.method.arguments[0].name])
	}
}

// remember notes what a step declares, since it may succeed without an answer.
func (p *player) remember(s step, given map[string]any) {
	if passive, _ := given["passive"].(bool); passive {
		return
	}
	switch name, _ := given["exchange"].(string); {
	case s.verb == "exchange.declare" && name != "" && !strings.HasPrefix(name, "amq.") && !slices.Contains(p.exchanges, name):
		p.exchanges = append(p.exchanges, name)
	case s.verb == "queue.declare":
		if q, _ := given["queue"].(string); q != "" && !strings.HasPrefix(q, "amq.") && len(q) < 256 && !slices.Contains(p.queues, q) {
			p.queues = append(p.queues, q)
		}
	}
}

// resolve puts variables in: an argument that is $name.
func (p *player) resolve(given map[string]any) map[string]any {
	all := make(map[string]any, len(given))
	for name, v := range given {
		if s, ok := v.(string); ok {
			if variable, ok := strings.CutPrefix(s, "$"); ok {
				v = p.variables[variable]
			}
		}
		all[name] = v
	}
	return all
}

// body returns the body that the text stands for: @100 is 100 bytes.
func (p *player) body(text string) string {
	if size, ok := strings.CutPrefix(text, "@"); ok {
		if n, err := strconv.Atoi(size); err == nil {
			return strings.Repeat("x", n)
		}
	}
	return text
}

// receive writes down what comes on the channel of the step until done says so, the server
// closes the channel or the connection, or patience ends.
func (p *player) receive(s step, c *conn, done func(event) bool) error {
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for {
		e, err := p.next(c, s.channel, limit.C)
		if errors.Is(err, errPatience) {
			p.note("%s/%d nothing more after %v", s.conn, s.channel, patience)
			return nil
		}
		if err != nil {
			return err
		}
		p.record(s.conn, c, e)
		if p.over(s, c, e) || (e.method != nil && done(e)) {
			return nil
		}
	}
}

// over answers a close, and reports whether nothing more is to be expected.
func (p *player) over(s step, c *conn, e event) bool {
	switch {
	case e.method == nil:
		c.over = true
		return true
	case e.method.name == "channel.close":
		delete(c.channels, s.channel)
		c.send(s.channel, p.names.byName["channel.close-ok"], nil, nil, "") // a server that is gone is seen at the next read
		return true
	case e.method.name == "connection.close":
		c.over = true
		c.send(0, p.names.byName["connection.close-ok"], nil, nil, "")
		return true
	}
	return false
}

var errPatience = errors.New("patience ended")

// next returns the next event of the channel, or of the connection as a whole.
func (p *player) next(c *conn, id uint16, limit <-chan time.Time) (event, error) {
	for {
		for _, of := range []uint16{id, 0} {
			if waiting := c.pending[of]; len(waiting) > 0 {
				c.pending[of] = waiting[1:]
				return waiting[0], nil
			}
		}
		if c.ended {
			return event{note: "end"}, nil
		}
		select {
		case e, ok := <-c.events:
			if !ok {
				c.ended = true
				continue
			}
			c.pending[e.channel] = append(c.pending[e.channel], e)
		case <-limit:
			return event{}, errPatience
		case <-p.ctx.Done():
			return event{}, p.ctx.Err()
		}
	}
}

// own does a verb that is not a method.
func (p *player) own(s step, c *conn) error {
	switch s.verb {
	case "handshake":
		return p.handshake(s, c, s.words)
	case "bytes", "frame":
		raw, err := hex.DecodeString(s.words[len(s.words)-1])
		if err != nil {
			return err
		}
		if s.verb == "frame" {
			kind, _ := strconv.Atoi(s.words[0])
			err = c.frame(byte(kind), s.channel, raw)
		} else {
			err = c.write(raw)
		}
		if err != nil {
			p.note("%s/%d cannot write", s.conn, s.channel)
		}
		return nil
	case "drop":
		c.close()
		delete(p.conns, s.conn)
		return nil
	case "wait":
		return p.wait(s, c)
	case "closed":
		return p.receive(s, c, func(event) bool { return false })
	case "until":
		return p.until(s, c)
	default: // barrier
		return p.barrier(s, c)
	}
}

// wait waits for a number of methods of a name. Of basic.ack and basic.nack it counts the
// publishes that they are for.
func (p *player) wait(s step, c *conn) error {
	want, _ := strconv.Atoi(s.words[0])
	name := s.words[1]
	ch, open := c.channels[s.channel], 0
	if ch != nil {
		open = len(ch.open)
	}
	return p.receive(s, c, func(e event) bool {
		switch {
		case e.method.name != name:
			return false
		case ch != nil && (name == "basic.ack" || name == "basic.nack"):
			return open-len(ch.open) >= want
		default:
			want--
			return want <= 0
		}
	})
}

// until asks for the number of ready messages until it is what the step says.
func (p *player) until(s step, c *conn) error {
	want, _ := strconv.ParseUint(s.words[1], 10, 32)
	limit := time.Now().Add(patience)
	for {
		got, err := p.passive(s, c)
		if err != nil || got == nil {
			return err
		}
		if *got == want {
			p.note("%s has %d", s.words[0], want)
			return nil
		}
		if time.Now().After(limit) {
			p.note("%s has %d after %v", s.words[0], *got, patience)
			return nil
		}
	}
}

// barrier waits until what was sent before has been done and all that it caused at this queue
// has arrived. Twice: the second request comes behind what the first found on its way.
func (p *player) barrier(s step, c *conn) error {
	for range 2 {
		if got, err := p.passive(s, c); err != nil || got == nil {
			return err
		}
	}
	return nil
}

// passive asks for the number of messages of a queue; nil when the server closed instead.
// The answer is not written down, what came before it is.
func (p *player) passive(s step, c *conn) (*uint64, error) {
	m := p.names.byName["queue.declare"]
	given := p.resolve(map[string]any{"queue": s.words[0], "passive": true})
	if err := c.send(s.channel, m, given, nil, ""); err != nil {
		p.note("%s/%d cannot write", s.conn, s.channel)
		return nil, nil
	}
	var got *uint64
	err := p.receive(s, c, func(e event) bool {
		if e.method.name != "queue.declare-ok" {
			return false
		}
		n := e.given["message-count"].(uint64)
		got = &n
		p.lines = p.lines[:len(p.lines)-1]
		return true
	})
	return got, err
}
