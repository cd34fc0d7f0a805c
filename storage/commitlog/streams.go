package commitlog

import (
	"context"
	"fmt"

	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/weir"
)

// Marks returns the durable marks of all streams of a gateway, and the newest
// row of each stream and topic, in no order.
func (l *Log) Marks(gateway string) (marks []weir.Mark, rows []weir.MapRow) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if promiseMarks(l.mutations) {
		marks = l.promised.add(gateway, marks)
	}
	g := l.state.Gateways[gateway]
	if g == nil {
		return marks, nil
	}
	for id, b := range g.Buffers {
		for key, last := range b.Marks {
			marks = append(marks, weir.Mark{
				Buffer:    id,
				Lane:      key.Lane,
				Topic:     key.Place.Topic,
				Partition: key.Place.Partition,
				Last:      last,
			})
		}
		for key, row := range b.Rows {
			rows = append(rows, weir.MapRow{
				Buffer: id, Lane: key.Lane, Topic: key.Topic, Name: l.state.Topics[key.Topic].Name, Row: row,
			})
		}
	}
	return marks, rows
}

// Mark waits until everything that was in line or in flight has landed. It returns the
// durable mark of a stream in a partition, 0 for none.
func (l *Log) Mark(ctx context.Context, s weir.Stream, topic weir.TopicID, partition int32) (uint64, error) {
	key := state.MarkKey{Stream: s, Place: state.Place{Topic: topic, Partition: partition}}
	_, err := ask(ctx, l, 0, func(b *builder) (struct{}, error) {
		if _, err := b.spec.place(key.Place); err != nil {
			return struct{}{}, err
		}
		return struct{}{}, nil
	})
	if err != nil {
		return 0, err
	}
	return l.durableMark(key), nil
}

func (l *Log) durableMark(key state.MarkKey) uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.state.Mark(key)
}

// BufferState returns the durable state of a buffer.
func (l *Log) BufferState(gateway string, buffer weir.BufferID) weir.BufferState {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.state.BufferState(state.BufferKey{Gateway: gateway, Buffer: buffer})
}

// Reached returns the highest sequence of a stream that ever became durable, even if
// its topic was deleted; 0 for none.
func (l *Log) Reached(s weir.Stream) uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if g := l.state.Gateways[s.Gateway]; g != nil && g.Buffers[s.Buffer] != nil {
		return g.Buffers[s.Buffer].Reached[s.Lane]
	}
	return 0
}

// Adopt notes that a gateway has a buffer open now. The buffer is then New even if its
// counter is so old that it could have been retired and forgotten: a buffer is retired
// only when it is no longer open, and no two buffers have the same random bytes. This
// happens when a card is replaced by a blank one or by an old image, so that the
// counter begins below the tombstones again. Only the newest adopted buffer of a
// gateway counts, and only as long as this node owns the log; once something of it is
// appended it is Known.
func (l *Log) Adopt(gateway string, buffer weir.BufferID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state.Adopted[gateway] = buffer
}

// Retire replaces the marks of a fully delivered buffer by a tombstone: nothing
// of it is ever appended again. Durable on return; no error if it was retired
// before. While slices are moved away, it waits.
func (l *Log) Retire(ctx context.Context, gateway string, buffer weir.BufferID) error {
	if err := checkGateway(gateway); err != nil {
		return err
	}
	key := state.BufferKey{Gateway: gateway, Buffer: buffer}
	return l.outgoing.after(ctx, l, func() error { return l.retire(ctx, key) })
}

// retire is Retire. While slices are moved away, it returns ErrMoving: the other shard
// would not learn of it.
func (l *Log) retire(ctx context.Context, key state.BufferKey) error {
	_, err := ask(ctx, l, len(key.Gateway), func(b *builder) (struct{}, error) {
		if b.spec.leaving != nil {
			return struct{}{}, ErrMoving
		}
		if b.spec.bufferState(key) != weir.BufferRetired {
			b.spec.buffers.set(b.spec.slot, key, weir.BufferRetired)
			b.put(state.KindBufferRetired, state.EncodeBufferRetired(key.Gateway, key.Buffer))
		}
		return struct{}{}, nil
	})
	return err
}

func checkGateway(name string) error {
	if name == "" || len(name) > state.MaxName {
		return fmt.Errorf("%w: gateway id of %d bytes", state.ErrCorrupt, len(name))
	}
	return nil
}
