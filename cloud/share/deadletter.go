package share

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/weirmq/weir/cloud/share/state"
	"github.com/weirmq/weir/storage/commitlog"
	logstate "github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/record"
)

// A record that a member has rejected, or whose deliveries have all failed, is copied to
// the dead-letter topic of its group if there is one (KIP-1191): in the slot of the entry
// that says that it is done. So it is there once, whatever crashes. If the topic has no
// partition in the shard of the record, the copy is durable in another shard before that
// entry. A crash in between, or an answer that is lost, leaves a record that is not done: it
// is delivered again, and may be copied again.

// DeadLetterEnable is the setting of a topic that lets groups use it for dead letters.
const DeadLetterEnable = "errors.deadletterqueue.group.enable"

// The headers of a dead letter, as in KIP-1191, and the values of the last one.
const (
	headerTopic      = "__dlq.errors.topic"
	headerPartition  = "__dlq.errors.partition"
	headerOffset     = "__dlq.errors.offset"
	headerGroup      = "__dlq.errors.group"
	headerDeliveries = "__dlq.errors.delivery.count"
	headerMessage    = "__dlq.errors.message"

	rejected = "Offset rejected by client."
	worn     = "Offset delivery count exceeded the threshold."
)

// deadRow is a row of records that are done without success. Last is in it.
type deadRow struct {
	first, last int64
	count       int // which delivery was the last
	message     string
}

// deadRow returns the row of a lease that ends with a verdict; false if the records are
// not dead letters.
func (l *lease) deadRow(v Verdict, r state.Run, s *Settings) (deadRow, bool) {
	if !r.Done || s.DeadLetters == "" || v != Reject && v != Release {
		return deadRow{}, false
	}
	d := deadRow{l.first, l.last, l.count, rejected}
	if v == Release {
		d.message = worn
	}
	return d, true
}

// letters are the dead letters of one entry, and what else it changes.
type letters struct {
	m       *Manager
	p       *partition
	topic   logstate.Topic // where they go
	to      int32          // its partition
	here    bool           // which is in this shard
	source  string         // name of the topic that they come from
	copy    bool           // with key, value and headers of the record
	limit   int            // bytes of a batch
	update  state.Updated
	builder *record.Builder
}

// How many bytes are read at once, and the most in one batch of dead letters.
const (
	readBytes   = 1 << 20
	letterBytes = 3 << 20
)

// settleDead is settle for an update that makes dead letters of records. It takes as many
// slots as they need; what is in one is durable together.
func (m *Manager) settleDead(p *partition, u state.Updated, dead []deadRow, done func(error)) {
	settings := m.o.Settings(p.place.Group).withDefaults()
	topic, opened, err := m.deadLetterTopic(p, settings.DeadLetters)
	m.sayUsable(p.place.Group, settings.DeadLetters, err)
	if err != nil {
		m.settle(p, u, nil, func(err error) {
			if err == nil {
				m.mu.Lock()
				for _, d := range dead {
					p.uncopied += d.last - d.first + 1
				}
				m.mu.Unlock()
			}
			done(err)
		})
		return
	}
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		m.end(p, u.Changes, ErrClosed)
		done(ErrClosed)
		return
	}
	m.pending.Add(1)
	m.mu.Unlock()
	to, here := m.letterPartition(p, topic, opened)
	copies := m.copies
	if !here {
		copies = m.away // those of this shard do not wait for other nodes
	}
	go func() {
		defer m.pending.Done()
		copies <- struct{}{}
		defer func() { <-copies }()
		l := letters{m: m, p: p, topic: topic, to: to, here: here, copy: settings.CopyDead, limit: batchBytes(topic, &settings), builder: record.NewBuilder(record.None)}
		if t, ok := m.log.TopicByID(p.place.Topic); ok {
			l.source = t.Name
		}
		err := l.write(u, dead)
		if err != nil && m.ctx.Err() != nil {
			err = fmt.Errorf("%w: %w", ErrClosed, err)
		}
		done(err)
	}()
}

// batchBytes returns how many bytes a batch in a topic for dead letters may have.
func batchBytes(t logstate.Topic, s *Settings) int {
	limit, err := strconv.Atoi(t.Configs["max.message.bytes"])
	if err != nil {
		limit = s.BatchBytes // the topic does not say
	}
	return min(limit, letterBytes)
}

// deadLetterTopic returns the topic for the dead letters of a partition, or why it cannot
// be used. opened reports whether this shard has it.
func (m *Manager) deadLetterTopic(p *partition, name string) (t logstate.Topic, opened bool, err error) {
	t, opened = m.log.Topic(name)
	exists := opened
	if !exists && m.o.Send != nil {
		for _, other := range m.log.Topics() {
			if other.Name == name {
				t, exists = other, true
			}
		}
	}
	switch {
	case !exists:
		err = errors.New("there is no such topic")
	case t.Configs[DeadLetterEnable] != "true":
		err = fmt.Errorf("the topic does not have %s=true", DeadLetterEnable)
	case t.ID == p.place.Topic:
		err = errors.New("it is the topic that the records come from")
	case strings.Contains(t.Configs["cleanup.policy"], "compact"):
		err = errors.New("the topic is compacted")
	case m.o.Send == nil:
		if _, here := m.letterPartition(p, t, opened); !here {
			err = errors.New("none of the topic's partitions is in the shard of the partition that the records come from")
		}
	}
	return t, opened, err
}

// letterPartition returns the partition of a topic that gets the dead letters of p, and
// whether it is in this shard, as it is if one of the topic's is.
func (m *Manager) letterPartition(p *partition, topic logstate.Topic, opened bool) (to int32, here bool) {
	first := p.place.Partition % topic.Partitions
	for i := range topic.Partitions {
		if at := (first + i) % topic.Partitions; opened && m.o.Here(topic.ID, at) {
			return at, true
		}
	}
	return first, false
}

// sayUsable logs that records that are done are not copied, or are copied again.
func (m *Manager) sayUsable(group, topic string, err error) {
	m.mu.Lock()
	before := m.unusable[group]
	if m.unusable[group] = err != nil; err == nil {
		delete(m.unusable, group)
	}
	m.mu.Unlock()
	if err != nil && !before {
		m.o.Log.Warn("records that a share group gives up are not copied to its dead-letter topic", "group", group, "topic", topic, "err", err)
	}
}

// write makes the update durable. After an error, what is not durable is acquired as
// before.
func (l *letters) write(u state.Updated, dead []deadRow) error {
	left := u.Changes
	l.update = u
	l.update.Changes = nil
	for _, d := range dead {
		for len(left) > 0 && left[0].First < d.first {
			l.update.Changes, left = append(l.update.Changes, left[0]), left[1:]
		}
		left = left[1:] // the change of d itself
		if rest, err := l.row(d); err != nil {
			l.m.end(l.p, append(append(l.update.Changes, rest), left...), err)
			return err
		}
	}
	l.update.Changes = append(l.update.Changes, left...)
	return l.submit()
}

// row adds the dead letters of a row. After an error it returns what of the row is not
// part of the update.
func (l *letters) row(d deadRow) (rest state.Run, err error) {
	m, from := l.m, d.first
	for from <= d.last {
		f, err := m.log.Fetch(m.ctx, l.p.place.Topic, l.p.place.Partition, from, readBytes)
		if errors.Is(err, commitlog.ErrOffsetOutOfRange) && f.Start > from {
			l.done(from, min(f.Start-1, d.last))
			from = f.Start // retention has removed records
			continue
		}
		if err == nil && len(f.Batches) == 0 {
			err = fmt.Errorf("%w: record %d is not there", ErrCorrupt, from)
		}
		if err != nil {
			return state.Run{First: from, Last: d.last, Done: true}, fmt.Errorf("read dead letters: %w", err)
		}
		for _, b := range f.Batches {
			if from > d.last {
				break
			}
			if err = l.batch(b, &from, d); err != nil {
				break
			}
		}
		f.Lease.Release()
		if err != nil {
			return state.Run{First: from, Last: d.last, Done: true}, err
		}
	}
	return state.Run{}, nil
}

// batch adds the dead letters of a row that are in a batch, and moves from behind what
// is part of the update.
func (l *letters) batch(b record.Batch, from *int64, d deadRow) error {
	if !b.Control() {
		err := b.Each(logstate.MaxInflated, func(r *record.Record) error {
			if r.Offset < *from || r.Offset > d.last {
				return nil
			}
			if err := l.add(r, d); err != nil {
				return err
			}
			l.done(*from, r.Offset)
			*from = r.Offset + 1
			return nil
		})
		if err != nil {
			return fmt.Errorf("copy dead letters: %w", err)
		}
	}
	if next := min(b.NextOffset(), d.last+1); next > *from {
		l.done(*from, next-1)
		*from = next
	}
	return nil
}

// done has the update say that records are done.
func (l *letters) done(first, last int64) {
	if n := len(l.update.Changes); n > 0 {
		if c := &l.update.Changes[n-1]; c.Done && c.Last == first-1 {
			c.Last = last
			return
		}
	}
	l.update.Changes = append(l.update.Changes, state.Run{First: first, Last: last, Done: true})
}

// add adds the dead letter of a record, in a batch of its own if it does not fit behind the
// others. A record that is too large for a batch is not copied.
func (l *letters) add(r *record.Record, d deadRow) error {
	at := l.p.place
	letter := record.Record{Timestamp: l.m.o.Now().UnixMilli(), Headers: []record.Header{
		{Key: headerTopic, Value: []byte(l.source)},
		{Key: headerPartition, Value: strconv.AppendInt(nil, int64(at.Partition), 10)},
		{Key: headerOffset, Value: strconv.AppendInt(nil, r.Offset, 10)},
		{Key: headerGroup, Value: []byte(at.Group)},
		{Key: headerDeliveries, Value: strconv.AppendInt(nil, int64(d.count), 10)},
		{Key: headerMessage, Value: []byte(d.message)},
	}}
	size := letter.MostBytes()
	if whole := size + r.MostBytes(); l.copy && record.HeaderSize+whole <= l.limit && len(r.Headers)+len(letter.Headers) <= record.MaxHeaders {
		letter.Key, letter.Value, size = r.Key, r.Value, whole
		letter.Headers = append(letter.Headers, r.Headers...)
	}
	if l.builder.Len() > 0 && l.builder.Size()+size > l.limit {
		if err := l.submit(); err != nil {
			return err
		}
	}
	return l.builder.Append(&letter)
}

// sendTime bounds how long dead letters are on their way to another shard.
const sendTime = 5 * time.Second

// submit makes what was collected durable, and waits for it.
func (l *letters) submit() error {
	u, n := l.update, l.builder.Len()
	l.update.Changes = nil
	proposal := commitlog.Proposal{Commands: []commitlog.Command{{Kind: state.KindUpdated, Body: u.Append(nil)}}}
	if n > 0 {
		b, err := l.builder.Build()
		switch {
		case err != nil:
		case l.here:
			proposal.Appends = []commitlog.Append{{Topic: l.topic.ID, Partition: l.to, Batch: b, Verified: true}}
		default:
			err = l.send(b)
		}
		if err != nil {
			l.m.end(l.p, u.Changes, err)
			return err
		}
		l.builder.Reset()
	}
	answer := make(chan error, 1)
	l.m.log.Submit(proposal, func(_ []int64, err error) { answer <- err })
	err := <-answer // the log answers, also when it ends
	l.m.end(l.p, u.Changes, err)
	if err == nil {
		l.m.mu.Lock()
		l.p.copied += int64(n)
		l.m.mu.Unlock()
	}
	return err
}

// send makes dead letters durable in another shard.
func (l *letters) send(b record.Batch) error {
	ctx, cancel := context.WithTimeout(l.m.ctx, sendTime)
	defer cancel()
	if err := l.m.o.Send(ctx, l.topic.ID, l.to, b); err != nil {
		return fmt.Errorf("write dead letters to topic %q: %w", l.topic.Name, err)
	}
	return nil
}
