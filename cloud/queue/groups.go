package queue

import (
	"container/heap"
	"context"
	"slices"

	"github.com/weirmq/weir/cloud/amqp091/wire"
)

// Of a queue with groups (x-message-groups) at most one message of each group is leased,
// the first one. Which group a message has is known when it was read. One whose group has a
// head waits behind it: that is the fourth place besides those that live names. It is not
// leased, and is read again when its turn comes. Messages without a group wait for nobody.

// The headers of a message that name its group; the first one that is there counts.
const (
	headerGroup     = "x-group"
	headerRecordKey = "x-key"
)

// topicExchange is where a routing key names what a message is about, and so its group.
const topicExchange = "amq.topic"

// mostBehind bounds how many messages of a queue wait behind heads. If there are as many,
// nothing behind them is looked at until one of their turns comes.
const mostBehind = 10_000

// groups are those of a queue. They are guarded by Engine.mu.
type groups struct {
	behind map[string]*ids    // by group, for each that has a head: who waits behind it
	waits  map[int64]struct{} // all of behind. One that is moved or too much is leased nevertheless
	heads  map[int64]string   // the groups of heads, which are leased or in live.returned
}

// group returns the group of a message, false if it has none.
func (m *message) group() (string, bool) {
	if len(m.properties) > 0 {
		if p, err := decodeProperties(m.properties); err == nil && p.Flags&wire.HasHeaders != 0 {
			for _, name := range []string{headerGroup, headerRecordKey} {
				v := p.Headers.Lookup(name)
				if text, ok := v.Bytes(); ok {
					return string(text), true
				}
				if v.Exists() {
					return string(v.Raw()), true
				}
			}
		}
	}
	return m.key, m.exchange == topicExchange
}

// named is what is known of the group of a message.
type named struct {
	group string
	has   bool
}

// groupsOf returns the groups of messages.
func groupsOf(all []message) []named {
	names := make([]named, len(all))
	for i := range all {
		names[i].group, names[i].has = all[i].group()
	}
	return names
}

// claim makes heads of the messages of a round whose groups have none, and takes the others
// out of the round. names are the groups of found. The caller holds Engine.mu.
func (l *live) claim(r *round, found []message, names []named) []message {
	g := &l.groups
	if g.heads == nil {
		g.heads, g.behind, g.waits = make(map[int64]string), make(map[string]*ids), make(map[int64]struct{})
	}
	tooMuch := r.picked[:r.trim]
	out := make(map[int64]bool)
	for i := range found {
		id, name := found[i].id, names[i]
		if _, is := g.heads[id]; is || !name.has || slices.Contains(tooMuch, id) {
			continue
		}
		behind := g.behind[name.group]
		if behind == nil {
			g.behind[name.group], g.heads[id] = new(ids), name.group
			continue
		}
		l.drop(id)
		delete(l.prompt, id)
		if _, is := g.waits[id]; !is {
			heap.Push(behind, id)
			g.waits[id] = struct{}{}
		}
		out[id] = true
	}
	if len(out) == 0 {
		return found
	}
	r.picked = slices.DeleteFunc(r.picked, func(id int64) bool { return out[id] })
	return slices.DeleteFunc(found, func(m message) bool { return out[m.id] })
}

// leave ends the turn of a message if it is a head: the next one of its group is. The
// caller holds Engine.mu.
func (l *live) leave(id int64) {
	g := &l.groups
	name, is := g.heads[id]
	if !is {
		return
	}
	delete(g.heads, id)
	for behind := g.behind[name]; behind.Len() > 0; {
		next := heap.Pop(behind).(int64)
		delete(g.waits, next)
		if _, held := l.leased[next]; !held && l.q.Has(next) {
			g.heads[next] = name
			l.goBack(next)
			l.wake()
			return
		}
	}
	delete(g.behind, name)
}

// skipGroups forgets all but the heads that are leased. The caller holds Engine.mu.
func (l *live) skipGroups() {
	g := &l.groups
	for id, name := range g.heads {
		*g.behind[name] = nil
		if _, held := l.leased[id]; !held {
			delete(g.heads, id)
			delete(g.behind, name)
		}
	}
	clear(g.waits)
}

// pickOldest leases the first n messages that nobody has leased, those behind heads too.
// The caller holds Engine.mu.
func (l *live) pickOldest(n int) (picked []int64) {
	for p := l.q.Priorities() - 1; p >= 0; p-- {
		for at := int64(0); len(picked) < n; {
			id, ok := l.q.Next(uint8(p), at)
			if !ok {
				break
			}
			if _, held := l.leased[id]; !held {
				l.hold(id, 0)
				picked = append(picked, id)
			}
			at = id + 1
		}
	}
	return picked
}

// takeTurn waits for the right to pick messages of a queue with groups, and to hand them out,
// in order: nobody else does so before over is called.
func (l *live) takeTurn(ctx context.Context) (over func(), err error) {
	if !l.q.Settings.Groups {
		return func() {}, nil
	}
	select {
	case l.dealing <- struct{}{}:
		return func() { <-l.dealing }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
