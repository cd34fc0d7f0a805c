package edge

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/weirmq/weir/edge/mqtt"
	"github.com/weirmq/weir/edge/wal"
	"github.com/weirmq/weir/storage/weir"
)

// backend is what the gateway's MQTT server stores into: the local log, by way
// of the routes. Place and Store are called by one goroutine, in turns.
type backend struct {
	log      *wal.Log
	gateway  string
	routes   atomic.Pointer[Routes]
	names    *names
	refusals *refusals
	storing  *atomic.Int64 // when the Store that runs began, in Unix nanoseconds; 0: none does
	count    *routing

	lanes   [weir.Lanes]laneBatch // of the batch between Place and Store
	letters letterBatch           // likewise
	arena   arena                 // of what lanes has
}

// laneBatch is what one batch adds to one lane.
type laneBatch struct {
	buffer  weir.BufferID
	first   uint64
	waiting []routed
	records []wal.Record
}

// routed is a message of the batch that belongs to the lane.
type routed struct {
	index int // in the batch
	to    Target
}

// stays is the place of a message that stays on the gateway: nothing has to
// become durable for it.
var stays mqtt.Place

// Place implements mqtt.Backend. Room is reserved here, before anything is
// accepted: what all lanes take together fits into each lane that takes
// something. The most urgent lane is served first, so that bulk never keeps an
// alarm out.
func (b *backend) Place(batch []*mqtt.Message, places []mqtt.Place, errs []error) {
	for lane := range b.lanes {
		l := &b.lanes[lane]
		clear(l.waiting) // as the next line, so that nothing is held longer than needed
		clear(l.records)
		l.waiting, l.records = l.waiting[:0], l.records[:0]
	}
	b.letters.reset()
	b.arena.reset()
	routes := *b.routes.Load()
	for i, m := range batch {
		places[i], errs[i] = stays, nil
		if m.Refused != nil {
			b.letters.waiting = append(b.letters.waiting, i)
			continue
		}
		if to, ok := b.route(routes, m); ok {
			l := &b.lanes[to.Lane]
			l.waiting = append(l.waiting, routed{i, to})
		}
	}
	var taken int64
	for lane := range b.lanes {
		if l := &b.lanes[lane]; len(l.waiting) > 0 {
			taken += b.place(weir.Lane(lane), taken, batch, places, errs)
		}
	}
	b.placeLetters(taken, batch, places, errs)
}

// route says where a message goes; false if it stays on the gateway.
func (b *backend) route(routes Routes, m *mqtt.Message) (Target, bool) {
	to, ok := routes.Target(Origin{Topic: m.Topic, Client: m.ClientID, Gateway: b.gateway, QoS: m.QoS})
	if !ok {
		return to, false
	}
	if to.Named && !b.names.admit(to.Topic) {
		to.Topic = Unrouted
		b.count.capped.Inc()
	}
	return to, true
}

// place places the messages of one lane and returns the bytes that they take,
// after taken ones in other lanes.
func (b *backend) place(lane weir.Lane, taken int64, batch []*mqtt.Message, places []mqtt.Place, errs []error) (size int64) {
	l := &b.lanes[lane]
	l.buffer, l.first = b.log.Place(lane)
	room := b.log.Room(lane) - taken
	refused, largest := 0, int64(0)
	for _, w := range l.waiting {
		r, reserved := encode(batch[w.index], w.to, &b.arena)
		if err := tooLarge(&r); err != nil {
			errs[w.index] = err
			continue
		}
		b.count.reserved.Add(reserved)
		n := wal.Size(&r)
		if size+n > room {
			errs[w.index] = mqtt.ErrFull
			refused, largest = refused+1, max(largest, n)
			continue
		}
		size += n
		places[w.index] = mqtt.Place{Buffer: l.buffer, Lane: uint8(lane), Seq: l.first + uint64(len(l.records))}
		l.records = append(l.records, r)
	}
	if refused > 0 {
		b.refusals.note(lane, refused, largest)
	}
	if size > 0 {
		size += wal.FrameOverhead
	}
	return size
}

// Store implements mqtt.Backend: the batch is on the disk when it returns nil.
// Lanes are synced side by side.
func (b *backend) Store([]*mqtt.Message, []mqtt.Place) error {
	b.storing.Store(time.Now().UnixNano())
	defer b.storing.Store(0)
	var errs [weir.Lanes]error
	var wg sync.WaitGroup
	for lane := range b.lanes {
		l := &b.lanes[lane]
		if len(l.records) == 0 {
			continue
		}
		wg.Go(func() { errs[lane] = b.log.AppendAt(l.buffer, weir.Lane(lane), l.first, l.records) })
	}
	wg.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		return fmt.Errorf("append to the local log: %w", err)
	}
	if len(b.letters.letters) > 0 { // what gives way to them has been reported
		return b.log.Letters().Add(b.letters.letters)
	}
	return nil
}

// Stored implements mqtt.Backend.
func (b *backend) Stored(p mqtt.Place) bool {
	if p.Lane == letterLane {
		stored, err := b.log.Letters().Stored(p.Seq)
		return err == nil && stored
	}
	return p == stays || b.log.Stored(p.Buffer, weir.Lane(p.Lane), p.Seq)
}

// routing counts what becomes of messages on their way to a topic.
type routing struct {
	capped   *metrics.Counter // messages that went to Unrouted for want of topics
	reserved *metrics.Counter // user properties with names of Weir's, left out
}

func newRouting(set *metrics.Set) *routing {
	return &routing{
		capped:   set.GetOrCreateCounter("weir_edge_unrouted_messages_total"),
		reserved: set.GetOrCreateCounter("weir_edge_reserved_properties_total"),
	}
}
