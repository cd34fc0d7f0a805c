package commitlog

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/record/recordtest"
	"github.com/weirmq/weir/storage/weir"
)

// mover is a life in which a partition moves.
type mover struct {
	topic state.Topic
	acked [2][]string // by partition
	sent  [2][]string
	words [2]string // of the slices
	move  weir.Move
}

// TestMoveFaults spoils each call of a life in turn in which a partition moves to another
// shard and goes on there. The next owners find what was acknowledged, once, in one of the
// shards, and it is known which.
func TestMoveFaults(t *testing.T) {
	spoilEach(t, 40, func(b storage.Bucket) audit {
		m := &mover{}
		m.live(b)
		return m.audit
	})
}

func (m *mover) append(ctx context.Context, l *Log, p int32, n int) {
	for range n {
		value := fmt.Sprint(p, " ", len(m.sent[p]))
		m.sent[p] = append(m.sent[p], value)
		select {
		case r := <-send(l, Append{Topic: m.topic.ID, Partition: p, Batch: recordtest.Batch(value)}):
			if r.err == nil {
				m.acked[p] = append(m.acked[p], value)
			}
		case <-ctx.Done():
			return
		}
	}
}

func (m *mover) live(b storage.Bucket) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	from, err := Open(ctx, options(b, tidy, with(newSliced())))
	if err != nil {
		return
	}
	defer from.Close()
	to, err := Open(ctx, options(b, tidy, with(newSliced()), func(o *Options) { o.Shard = 1 }))
	if err != nil {
		return
	}
	defer to.Close()
	if m.topic, err = from.CreateTopic(ctx, "t", 2, nil); err != nil {
		return
	}
	m.move = moveOf(1, 0, 1, state.Place{Topic: m.topic.ID, Partition: 1})
	for p := range int32(2) {
		m.append(ctx, from, p, 2)
		slice := weir.SliceOf(m.topic.ID, p)
		if from.Propose(ctx, slicedKind, fmt.Appendf(nil, "%d word", slice)) == nil {
			m.words[p] = "word"
		}
	}
	_ = from.Maintain(ctx)
	m.append(ctx, from, 1, 1)
	moved, err := m.moves(ctx, from, to)
	switch {
	case err != nil:
		return
	case moved:
		m.append(ctx, to, 1, 2)
	default:
		m.append(ctx, from, 1, 2)
	}
	m.append(ctx, from, 0, 1)
	for range 2 {
		_ = to.Maintain(ctx)
		_ = from.Maintain(ctx)
	}
}

// moves moves the partition as a node does that goes on after an error. An error says that
// it is not known where it is.
func (m *mover) moves(ctx context.Context, from, to *Log) (moved bool, err error) {
	err = from.Separate(ctx, m.move.Slices)
	if err == nil {
		err = from.Stop(ctx, m.move)
	}
	var e *Export
	if err == nil {
		e, err = from.Export(ctx, m.move)
	}
	if err == nil {
		err = to.Import(ctx, m.move, e)
	}
	if err == nil {
		err = from.MoveOut(ctx, m.move)
	}
	if err != nil {
		if moved, err = from.Void(ctx, m.move); err != nil {
			return false, err
		} else if !moved {
			return false, to.Cancel(ctx, m.move)
		}
	}
	if err := to.ConfirmMove(ctx, m.move); err != nil {
		return false, err
	}
	if err := m.route(ctx, from); err != nil {
		return false, err
	}
	return true, from.Settle(ctx, m.move)
}

// route says in the catalogue where the slices are.
func (m *mover) route(ctx context.Context, catalogue *Log) error {
	slices, _ := catalogue.Map()
	for slice := range m.move.Slices.All() {
		slices[slice] = 1
	}
	return catalogue.SetMap(ctx, slices, 2)
}

func (m *mover) audit(t *testing.T, b storage.Bucket, land func()) {
	ctx := within(t, time.Minute)
	from, to, ma, mb := openPair(t, b)
	land()
	_, in := to.Moves()
	for _, move := range in {
		moved, err := from.Void(ctx, move)
		if err == nil && moved {
			err = to.ConfirmMove(ctx, move)
		} else if err == nil {
			err = to.Cancel(ctx, move)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if m.topic.Partitions > 0 {
		if from.hasMovedOut(m.move) {
			must(m.route(ctx, from))
		}
		m.compare(t, from, to, ma, mb)
		for range 2 {
			maintained(t, from)
			maintained(t, to)
		}
		m.compare(t, from, to, ma, mb)
	}
	must(from.Close())
	must(to.Close())
	sound(t, b)
}

func (m *mover) compare(t *testing.T, from, to *Log, ma, mb *sliced) {
	t.Helper()
	for p := range int32(2) {
		owner, machine, others := from, ma, mb
		if p == 1 && from.hasMovedOut(m.move) {
			owner, machine, others = to, mb, ma
		}
		got := readAll(t, owner, m.topic.ID, p)
		i := 0
		for _, value := range got {
			if i < len(m.acked[p]) && value == m.acked[p][i] {
				i++
			}
		}
		if i < len(m.acked[p]) || len(slices.Compact(slices.Sorted(slices.Values(got)))) != len(got) || len(got) > len(m.sent[p]) {
			t.Errorf("partition %d has %q of %q", p, got, m.acked[p])
		}
		slice := weir.SliceOf(m.topic.ID, p)
		if m.words[p] != "" && machine.words[slice] != m.words[p] || others.words[slice] != "" {
			t.Errorf("slice of partition %d has %q, and in the other shard %q", p, machine.words[slice], others.words[slice])
		}
	}
}

// hasMovedOut reports whether slices are in the other shard.
func (l *Log) hasMovedOut(m weir.Move) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.state.Moves != nil && l.state.Moves.Away.Overlaps(&m.Slices)
}
