package commitlog

import (
	"context"
	"fmt"

	"github.com/weirmq/weir/storage/weir"
)

// Marks returns the durable marks of all streams of a gateway, and the newest
// row of each stream and topic, in no order.
func (l *Log) Marks(gateway string) (marks []Mark, rows []MapRow) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if promiseMarks(l.mutations) {
		marks = l.promised.add(gateway, marks)
	}
	g := l.state.gateways[gateway]
	if g == nil {
		return marks, nil
	}
	for id, b := range g.buffers {
		for key, last := range b.marks {
			marks = append(marks, Mark{
				Stream:    Stream{Gateway: gateway, Buffer: id, Lane: key.lane},
				Topic:     key.place.topic,
				Partition: key.place.partition,
				Last:      last,
			})
		}
		for key, row := range b.rows {
			rows = append(rows, MapRow{
				Stream: Stream{Gateway: gateway, Buffer: id, Lane: key.lane},
				Topic:  key.topic, Name: l.state.topics[key.topic].Name, Row: row,
			})
		}
	}
	return marks, rows
}

// Mark returns the durable mark of a stream in a partition, 0 for none, once
// everything that was on its way when it was called has landed.
func (l *Log) Mark(ctx context.Context, s Stream, topic weir.TopicID, partition int32) (uint64, error) {
	key := markKey{s, placeKey{topic, partition}}
	_, err := ask(ctx, l, 0, func(b *builder) (struct{}, error) {
		if _, err := b.spec.place(key.place); err != nil {
			return struct{}{}, err
		}
		return struct{}{}, nil
	})
	if err != nil {
		return 0, err
	}
	return l.durableMark(key), nil
}

func (l *Log) durableMark(key markKey) uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.state.mark(key)
}

// BufferState says what is durably known of a buffer.
func (l *Log) BufferState(gateway string, buffer weir.BufferID) BufferState {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.state.bufferState(bufferKey{gateway, buffer})
}

// Reached is the highest sequence of a stream that ever became durable, whatever
// became of its topic; 0 for none.
func (l *Log) Reached(s Stream) uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if g := l.state.gateways[s.Gateway]; g != nil && g.buffers[s.Buffer] != nil {
		return g.buffers[s.Buffer].reached[s.Lane]
	}
	return 0
}

// Adopt says that a gateway has a buffer open at this moment. So it is New even
// if it is old enough to be one that was retired and forgotten: a buffer is
// retired when it is open no more, and no two have the same random bytes. It
// happens when a card is replaced by a blank one, or by an old image: counting
// then begins below the tombstones again. The newest buffer that a gateway has
// adopted counts, as long as this node owns the log; once something of it is
// appended it is Known to everyone.
func (l *Log) Adopt(gateway string, buffer weir.BufferID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state.adopted[gateway] = buffer
}

// Retire replaces the marks of a fully delivered buffer by a tombstone: nothing
// of it is ever appended again. Durable on return; no error if it was retired
// before.
func (l *Log) Retire(ctx context.Context, gateway string, buffer weir.BufferID) error {
	if err := checkGateway(gateway); err != nil {
		return err
	}
	key := bufferKey{gateway, buffer}
	_, err := ask(ctx, l, len(gateway), func(b *builder) (struct{}, error) {
		if b.spec.bufferState(key) != Retired {
			b.spec.buffers.set(b.spec.slot, key, Retired)
			b.put(kindBufferRetired, encodeBufferRetired(gateway, buffer))
		}
		return struct{}{}, nil
	})
	return err
}

func checkGateway(name string) error {
	if name == "" || len(name) > maxName {
		return fmt.Errorf("%w: gateway id of %d bytes", ErrCorrupt, len(name))
	}
	return nil
}
