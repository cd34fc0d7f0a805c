package edge

import (
	"errors"
	"fmt"
	"sync"

	"github.com/weirmq/weir/edge/mqtt"
	"github.com/weirmq/weir/edge/wal"
)

// backend is what the gateway's MQTT server stores into: the local log, by way
// of the routes. Place and Store are called by one goroutine, in turns.
type backend struct {
	log    *wal.Log
	routes Routes

	lanes [wal.Lanes]laneBatch // of the batch between Place and Store
}

// laneBatch is what one batch adds to one lane.
type laneBatch struct {
	buffer  wal.BufferID
	first   uint64
	room    int64 // bytes that the lane may still take
	records []wal.Record
}

// local is the place of a message that stays on the gateway: nothing has to
// become durable for it.
var local mqtt.Place

// Place implements mqtt.Backend. Room is reserved here, before anything is
// accepted.
func (b *backend) Place(batch []*mqtt.Message, places []mqtt.Place, errs []error) {
	for lane := range b.lanes {
		l := &b.lanes[lane]
		clear(l.records) // so that payloads are not held longer than needed
		l.records = l.records[:0]
		l.buffer, l.first = b.log.Place(wal.Lane(lane))
		l.room = b.log.Room(wal.Lane(lane)) - wal.FrameOverhead
	}
	for i, m := range batch {
		places[i], errs[i] = b.place(m)
	}
}

func (b *backend) place(m *mqtt.Message) (mqtt.Place, error) {
	to, ok := b.routes.Target(m.Topic, m.ClientID, m.QoS)
	if !ok {
		return local, nil
	}
	l := &b.lanes[to.Lane]
	r := encode(m, to)
	size := wal.Size(&r)
	if size > l.room {
		return local, mqtt.ErrFull
	}
	l.room -= size
	l.records = append(l.records, r)
	return mqtt.Place{Buffer: l.buffer, Lane: to.Lane, Seq: l.first + uint64(len(l.records)) - 1}, nil
}

// Store implements mqtt.Backend: the batch is on the disk when it returns nil.
// Lanes are synced side by side.
func (b *backend) Store([]*mqtt.Message, []mqtt.Place) error {
	var errs [wal.Lanes]error
	var wg sync.WaitGroup
	for lane := range b.lanes {
		l := &b.lanes[lane]
		if len(l.records) == 0 {
			continue
		}
		wg.Go(func() { errs[lane] = b.log.AppendAt(l.buffer, wal.Lane(lane), l.first, l.records) })
	}
	wg.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		return fmt.Errorf("append to the local log: %w", err)
	}
	return nil
}

// Stored implements mqtt.Backend.
func (b *backend) Stored(p mqtt.Place) bool {
	return p == local || p.Seq <= b.log.Last(p.Buffer, wal.Lane(p.Lane))
}
