package sender

import (
	"fmt"
	"slices"
	"time"

	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/wire"
)

// listen reads a lane's stream and passes what it reads to the delivery. It never waits
// for run, which may be waiting for the node to read.
func (l *lane) listen() {
	for {
		f, err := wire.Read(l.stream, wire.MaxControl)
		if err == nil {
			l.n.heard.Store(time.Now().UnixNano())
			err = l.hear(f)
		}
		if err != nil {
			l.n.end(fmt.Errorf("read lane %s: %w", l.id, err))
			return
		}
		l.wakeUp()
	}
}

func (l *lane) hear(f wire.Frame) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch f := f.(type) {
	case *wire.Ack:
		if l.delivery == nil || f.Buffer != l.delivery.buffer {
			return nil // of a buffer that is already settled
		}
		if f.Lane != l.id {
			return fmt.Errorf("ack of lane %s: %w", f.Lane, errProtocol)
		}
		return l.delivery.ack(partKey{f.Topic, f.Partition}, f.Last)
	case *wire.Refused:
		if l.delivery == nil || f.Buffer != l.delivery.buffer {
			return nil
		}
		l.n.s.count.refused(f.Reason)
		if f.Reason != wire.ReasonHole {
			l.n.s.log.Warn("the cloud refused a batch", "lane", l.id, "topic", f.Topic, "partition", f.Partition,
				"first", f.First, "last", f.Last, "reason", f.Reason, "err", f.Text)
		}
		l.addRefused(l.delivery.refuse(f, time.Now()), f.Reason.String()+": "+f.Text)
		return nil
	}
	return fmt.Errorf("frame type %#02x on a lane: %w", f.Type(), errProtocol)
}

// addRefused notes records that must go into the dead letters. Called with mu held.
func (l *lane) addRefused(all []*entry, cause string) {
	last := len(l.refused) - 1
	switch {
	case len(all) == 0:
	case last >= 0 && l.causes[last] == cause && l.refused[last][0].state == all[0].state:
		l.refused[last] = append(l.refused[last], all...)
	default:
		l.refused = append(l.refused, all)
		l.causes = append(l.causes, cause)
	}
}

// storeRefused puts records that were refused for good into the dead letters. They are
// durable there before their gap may be sent. After a crash in between, the records are
// sent and refused again, and are not stored twice.
func (l *lane) storeRefused() error {
	l.mu.Lock()
	groups, causes := l.refused, l.causes
	l.refused, l.causes = nil, nil
	l.mu.Unlock()
	for i, all := range groups {
		if all[0].state == settled { // gaps that the cloud does not take
			l.n.s.log.Error("gaps not reported: topic "+weir.GapTopic+" was deleted",
				"lane", l.id, "first", all[0].first, "last", all[len(all)-1].last, "gaps", len(all))
			continue
		}
		items := make([]Item, len(all))
		for j, e := range all {
			items[j] = e.item
		}
		if err := l.n.s.o.Buffers.AddDead(l.buffer.ID, l.id, items, causes[i]); err != nil {
			return fmt.Errorf("add %d dead letters: %w", len(items), err)
		}
		l.n.s.count.dead.Add(len(items))
		l.n.s.log.Warn("records moved to the dead letters", "lane", l.id, "first", items[0].Seq, "last", items[len(items)-1].Seq,
			"records", len(items), "topic", items[0].Topic, "reason", causes[i])
		l.mu.Lock()
		l.delivery.markDead(all, causes[i])
		l.mu.Unlock()
	}
	if len(groups) > 0 {
		l.wakeUp() // the gaps can leave
	}
	return nil
}

// learn acts on the cloud's answers about topics.
func (l *lane) learn() error {
	news := l.n.answers()
	l.mu.Lock()
	l.delivery.queueGaps()
	var names []string
	for name := range l.delivery.parked {
		names = append(names, name)
	}
	if l.delivery.gapsWanted {
		names = append(names, weir.GapTopic)
	}
	l.mu.Unlock()
	if l.buffer.Current && news != l.news {
		names = append(names, l.table.topics()...) // they may have grown
	}
	l.news = news
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if err := l.learnTopic(name); err != nil {
			return err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	asked := l.delivery.gapsWanted
	if l.delivery.queueGaps(); l.delivery.gapsWanted && !asked {
		l.wakeUp() // the answers settled everything before a gap: no other event will wake the lane
	}
	return nil
}

func (l *lane) learnTopic(name string) error {
	q, err := l.n.resolve(name)
	if err != nil {
		return err
	}
	last, _ := l.table.last(name)
	l.mu.Lock()
	covered := l.covers(name)
	l.mu.Unlock()
	switch a := q.answer; {
	case a == nil:
	case !covered:
		err = l.addRow(a, 1)
	case last.Topic == a.ID && a.Partitions <= last.Partitions:
		// A topic never shrinks: an answer with fewer partitions is older than the row.
	case l.buffer.Current:
		err = l.grow(a)
	}
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.covers(name) {
		if name == weir.GapTopic {
			l.delivery.gapsWanted = false
		}
		l.delivery.unpark(name, func(it Item) partKey {
			row, _ := l.table.find(name, it.Seq)
			return partKey{row.Topic, record.Partition(it.Record.Key, row.Partitions)}
		})
	} else if q.refuse != nil {
		l.addRefused(l.delivery.refuseTopic(name), q.refuse.Reason.String()+": "+q.refuse.Text)
	}
	return nil
}

// covers reports whether the map table has a row for every record that waits for a
// topic, and at least one row. A damaged table may have lost the first row before it
// was used. The caller holds mu.
func (l *lane) covers(name string) bool {
	seq, waits := l.delivery.waitsFor(name)
	if !waits {
		_, ok := l.table.last(name)
		return ok
	}
	_, ok := l.table.find(name, seq)
	return ok
}

// grow adds a row for a topic that has changed. The row begins after everything that is
// durable here, so whatever this process or an earlier one sent by the old row keeps
// its partition.
func (l *lane) grow(a *wire.Topic) error {
	all, err := l.n.s.o.Buffers.List()
	if err != nil {
		return fmt.Errorf("list buffers: %w", err)
	}
	for _, b := range all {
		if b.ID == l.buffer.ID {
			return l.addRow(a, b.Lanes[l.id].Last+1)
		}
	}
	return fmt.Errorf("buffer %s disappeared while it was drained", l.buffer.ID)
}

// addRow makes a row durable, then uses it.
func (l *lane) addRow(a *wire.Topic, from uint64) error {
	row := weir.MapRow{Buffer: l.buffer.ID, Lane: l.id, Topic: a.ID, Name: a.Name, Row: weir.Row{Partitions: a.Partitions, From: from}}
	if err := l.n.s.o.Buffers.AddRow(row); err != nil {
		return fmt.Errorf("add row to map table: %w", err)
	}
	l.mu.Lock()
	l.table.add(row)
	l.mu.Unlock()
	return nil
}
