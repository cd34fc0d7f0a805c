package queue

import (
	"container/heap"
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
	behind map[string]*ids  // by group, for each that has a head: who waits behind it
	heads  map[int64]string // the groups of heads, which are leased or in live.returned
	count  int              // messages that wait behind heads
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

// claim makes heads of the messages of a round whose groups have none, and takes the others
// out of the round. The caller holds Engine.mu.
func (l *live) claim(r *round, found []message) []message {
	g := &l.groups
	if g.heads == nil {
		g.heads, g.behind = make(map[int64]string), make(map[string]*ids)
	}
	tooMuch := r.picked[:r.trim]
	out := make(map[int64]bool)
	for i := range found {
		m := &found[i]
		if _, is := g.heads[m.id]; is || slices.Contains(tooMuch, m.id) {
			continue
		}
		name, has := m.group()
		if !has {
			continue
		}
		behind := g.behind[name]
		if behind == nil {
			g.behind[name], g.heads[m.id] = new(ids), name
			continue
		}
		l.drop(m.id)
		heap.Push(behind, m.id)
		g.count++
		out[m.id] = true
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
		g.count--
		if next := heap.Pop(behind).(int64); l.q.Has(next) {
			g.heads[next] = name
			l.goBack(next)
			l.wake()
			return
		}
	}
	delete(g.behind, name)
}

// show makes all messages that wait behind heads ready. They go back there when the pump
// picks them. The caller holds Engine.mu.
func (l *live) show() {
	for _, behind := range l.groups.behind {
		for _, id := range *behind {
			l.goBack(id)
		}
		*behind = nil
	}
	l.groups.count = 0
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
	g.count = 0
}
