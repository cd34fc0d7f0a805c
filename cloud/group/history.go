package group

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"unicode/utf16"
)

// OffsetsTopic is Kafka's internal topic of committed offsets. It is not in the log.
const OffsetsTopic = "__consumer_offsets"

// OffsetsTopicID is its id: the same in every cluster, and never that of a topic of
// the log.
func OffsetsTopicID() [16]byte { return [16]byte([]byte("consumer_offsets")) }

// OffsetsPartitions is how many partitions the offsets topic has, as in Kafka.
const OffsetsPartitions = 50

// OffsetsLevel is the format level from which on there is an offsets topic.
const OffsetsLevel = 2

// maxHistory bounds the changes remembered for one partition, in bytes.
const maxHistory = 128 << 10

// OffsetsPartition returns the partition of the offsets topic for a group's commits:
// as in Kafka, by Java's hash of the name.
func OffsetsPartition(group string) int32 {
	hash := int32(0)
	for _, unit := range utf16.Encode([]rune(group)) {
		hash = 31*hash + int32(unit)
	}
	if hash = max(hash, -hash); hash < 0 { // the one number without a positive counterpart
		return 0
	}
	return hash % OffsetsPartitions
}

// history holds what the offsets topic (Kafka's __consumer_offsets) is made of. Only
// two things are stored: a counter for each partition, and for each committed offset
// the number that it got. Apply counts, so that every owner counts alike.
//
// The topic is like a compacted one: every current commit is in it, at its offset. Of
// replaced commits and of removals it has the latest. A new owner remembers changes
// since the last checkpoint only.
type history struct {
	counting bool // set by an entry of kindCount
	parts    [OffsetsPartitions]historyPart
}

type historyPart struct {
	next    int64         // offset of the next record
	oldest  int64         // changes holds every record from this offset on
	changes []change      // oldest first
	bytes   int           // of changes
	time    int64         // of the newest one, ms
	more    chan struct{} // closed when there are new records; nil: no reader waits
}

// change is one record of the offsets topic.
type change struct {
	at    int64
	time  int64 // ms
	kind  changeKind
	group string
	Offset
	topic string // name of a topic that was deleted with the commit, if it is known
	value []byte // of a description, as readers get it
}

type changeKind uint8

const (
	committed changeKind = iota
	removed              // the commit was removed
	described            // the members of a classic group are described
	deleted              // the group was removed
)

// changeSize is about how many bytes of memory a change takes, without its strings.
const changeSize = 200

// add gives a record the next offset.
func (h *historyPart) add(c change) (at int64) {
	if c.time == 0 {
		c.time = h.time // entries that remove something have no time
	}
	h.time = max(h.time, c.time)
	c.at = h.next
	h.next++
	h.changes = append(h.changes, c)
	h.bytes += c.size()
	if h.bytes > maxHistory {
		n := 0
		for ; n < len(h.changes) && h.bytes > maxHistory/2; n++ {
			h.bytes -= h.changes[n].size()
		}
		h.oldest = h.changes[n-1].at + 1
		h.changes = slices.Clone(h.changes[n:])
	}
	return c.at
}

func (c *change) size() int { return changeSize + len(c.Metadata) + len(c.topic) }

// wake wakes the waiting readers.
func (h *historyPart) wake() {
	if h.more != nil {
		close(h.more)
		h.more = nil
	}
}

// forget drops all that is not durable, after next was set.
func (h *historyPart) forget() {
	h.oldest, h.changes, h.bytes = h.next, nil, 0
	h.wake()
}

// countCommit adds the offsets of an entry to the history. Before them it always
// leaves room for a description of the group: a node that replays the log cannot know
// whether the description has changed.
func (c *Coordinator) countCommit(g *group, offsets []Offset) {
	if !c.history.counting || len(offsets) == 0 {
		return
	}
	h := &c.history.parts[g.partition]
	if g.generation != g.shown && g.typ() == Classic {
		g.shown = g.generation
		g.shownAt = h.add(change{kind: described, group: g.id, time: offsets[0].CommittedAt})
	} else {
		h.next++
	}
	for i := range offsets {
		offsets[i].at = h.add(change{kind: committed, group: g.id, time: offsets[i].CommittedAt, Offset: offsets[i]})
	}
	h.wake()
}

// countRemoved adds the removal of commits to the history: of those that g has for
// the partitions. topic is the name of their topic if it was deleted.
func (c *Coordinator) countRemoved(g *group, of []Partition, topic string) {
	if !c.history.counting {
		return
	}
	h := &c.history.parts[g.partition]
	for i, p := range of {
		if _, ok := g.offsets[p]; ok && !slices.Contains(of[:i], p) {
			h.add(change{kind: removed, group: g.id, Offset: Offset{Partition: p}, topic: topic})
		}
	}
	h.wake()
}

// countDeleted adds the removal of a group to the history.
func (c *Coordinator) countDeleted(g *group) {
	if !c.history.counting {
		return
	}
	c.countRemoved(g, slices.SortedFunc(maps.Keys(g.offsets), comparePartitions), "")
	h := &c.history.parts[g.partition]
	h.add(change{kind: deleted, group: g.id})
	h.wake()
}

// applyCount begins the history with what is committed already.
func (c *Coordinator) applyCount() {
	if c.history.counting {
		return
	}
	c.history.counting = true
	for _, name := range slices.Sorted(maps.Keys(c.groups)) {
		c.countAll(c.groups[name])
	}
	for i := range c.history.parts {
		c.history.parts[i].forget()
	}
}

// countAll gives all offsets of a group places in the offsets topic.
func (c *Coordinator) countAll(g *group) {
	h := &c.history.parts[g.partition]
	for _, p := range slices.SortedFunc(maps.Keys(g.offsets), comparePartitions) {
		o := g.offsets[p]
		o.at = h.next
		g.offsets[p] = o
		h.next++
	}
}

// startHistory begins the offsets topic in a bucket that has none yet, if its format
// level allows it. Durable on return.
func (c *Coordinator) startHistory(ctx context.Context) error {
	c.mu.Lock()
	log, ready := c.log, c.log != nil && !c.closed
	counting := c.history.counting
	c.mu.Unlock()
	switch {
	case !ready:
		return ErrClosed
	case counting || log.Level() < OffsetsLevel:
		return nil
	}
	return propose(ctx, log, "begin the offsets topic", kindCount, []byte{bodyVersion})
}

// HasHistory reports whether there is an offsets topic.
func (c *Coordinator) HasHistory() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.history.counting && !c.closed && c.log != nil
}

// HistoryEnd returns the offset of the next record of a partition of the offsets
// topic.
func (c *Coordinator) HistoryEnd(partition int32) (int64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.log == nil {
		return 0, ErrClosed
	}
	return c.history.parts[partition].next, nil
}

// WatchHistory returns a channel that is closed when records are added to a
// partition of the offsets topic after the call, or when the coordinator is closed.
func (c *Coordinator) WatchHistory(partition int32) <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := &c.history.parts[partition]
	if h.more == nil {
		h.more = make(chan struct{})
		if c.closed {
			close(h.more)
		}
	}
	return h.more
}

// changesFrom lists at most limit records of a partition from an offset on. It also
// returns the offset of the partition's next record.
func (c *Coordinator) changesFrom(partition int32, from int64, limit int) (list []change, next int64, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.log == nil {
		return nil, 0, ErrClosed
	}
	h := &c.history.parts[partition]
	if from < h.oldest {
		list = c.currentFrom(partition, from, h.oldest)
	}
	first, _ := slices.BinarySearchFunc(h.changes, from, func(x change, at int64) int { return cmp.Compare(x.at, at) })
	list = append(list, h.changes[first:]...)
	list = list[:min(len(list), limit)]
	for i := range list {
		if x := &list[i]; x.kind == described {
			if g := c.groups[x.group]; g != nil && g.shownAt == x.at && g.shown != 0 {
				x.value = g.encodeDescription(x.time)
			}
		}
	}
	return list, h.next, nil
}

// currentFrom lists the current commits of a partition with offsets from from up to
// end.
func (c *Coordinator) currentFrom(partition int32, from, end int64) []change {
	var list []change
	for _, g := range c.groups {
		if g.partition != partition {
			continue
		}
		if g.shown != 0 && g.shownAt >= from && g.shownAt < end {
			list = append(list, change{at: g.shownAt, kind: described, group: g.id})
		}
		for _, o := range g.offsets {
			if o.at >= from && o.at < end {
				list = append(list, change{at: o.at, time: o.CommittedAt, kind: committed, group: g.id, Offset: o})
			}
		}
	}
	slices.SortFunc(list, func(a, b change) int { return cmp.Compare(a.at, b.at) })
	return list
}
