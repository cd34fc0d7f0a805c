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

// backend is what the gateway's MQTT server stores into: it routes messages and
// appends them to the local log. It stores one batch at a time, within Store.
type backend struct {
	log      *wal.Log
	gateway  string
	routes   atomic.Pointer[Routes]
	names    *names
	refusals *refusals
	storing  *atomic.Int64 // when the running Store began, in Unix nanoseconds; 0: none is running
	count    *routing
}

// prepared is what the backend attaches to a batch: what the batch adds to the log.
type prepared struct {
	lanes   [weir.Lanes]laneBatch
	letters letterBatch
	arena   arena // holds the keys and headers of the lanes' records
}

// laneBatch is what one batch adds to one lane.
type laneBatch struct {
	buffer  weir.BufferID
	first   uint64
	waiting []routed
	records []wal.Record
}

// routed is a message of the batch that goes to the lane.
type routed struct {
	index int // of the message in the batch
	to    Target
}

// preparedFor returns the batch's prepared, emptied.
func preparedFor(batch *mqtt.Batch) *prepared {
	p, _ := batch.Prepared.(*prepared)
	if p == nil {
		p = new(prepared)
		batch.Prepared = p
	}
	for lane := range p.lanes {
		l := &p.lanes[lane]
		clear(l.waiting) // like the next line, so that no message is held longer than needed
		clear(l.records)
		l.waiting, l.records = l.waiting[:0], l.records[:0]
	}
	p.letters.reset()
	p.arena.reset()
	return p
}

// Accept implements mqtt.Backend. It checks the room before anything is accepted:
// a lane takes its messages only if those of all lanes together fit into it. The
// most urgent lane is served first, so that bulk never displaces an alarm.
func (b *backend) Accept(batch *mqtt.Batch) {
	p := preparedFor(batch)
	routes := *b.routes.Load()
	for i, m := range batch.Messages {
		if m.Refused != nil {
			p.letters.waiting = append(p.letters.waiting, i)
			continue
		}
		if to, ok := b.route(routes, m); ok {
			l := &p.lanes[to.Lane]
			l.waiting = append(l.waiting, routed{i, to})
		} else if batch.Asks(i) {
			batch.Places[i] = staysPlace
		}
	}
	var taken int64
	for lane := range p.lanes {
		if l := &p.lanes[lane]; len(l.waiting) > 0 {
			taken += b.place(weir.Lane(lane), taken, batch, p)
		}
	}
	b.placeLetters(taken, batch, p)
}

// route returns where a message goes; false if it stays on the gateway.
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

// place assigns places to the messages of one lane and returns the bytes that they
// take. taken is what other lanes take already.
func (b *backend) place(lane weir.Lane, taken int64, batch *mqtt.Batch, p *prepared) (size int64) {
	l := &p.lanes[lane]
	l.buffer, l.first = b.log.Position(lane)
	room := b.log.Room(lane) - taken
	refused, largest := 0, int64(0)
	for _, w := range l.waiting {
		r, reserved := encode(batch.Messages[w.index], w.to, &p.arena)
		if err := tooLarge(&r); err != nil {
			batch.Errs[w.index] = err
			continue
		}
		b.count.reserved.Add(reserved)
		n := wal.Size(&r)
		if size+n > room {
			batch.Errs[w.index] = mqtt.ErrFull
			refused, largest = refused+1, max(largest, n)
			continue
		}
		size += n
		if batch.Asks(w.index) {
			batch.Places[w.index] = place{l.buffer, uint8(lane), l.first + uint64(len(l.records))}.encode()
		}
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

// Store implements mqtt.Backend: done is called before it returns. Lanes are synced
// in parallel. Messages that arrive meanwhile form the next batch, so that one sync
// serves as many messages as possible.
func (b *backend) Store(batch *mqtt.Batch, done func(error)) (more bool) {
	b.storing.Store(time.Now().UnixNano())
	defer b.storing.Store(0)
	done(b.append(preparedFrom(batch)))
	return true
}

// preparedFrom returns what Accept has attached to a batch.
func preparedFrom(batch *mqtt.Batch) *prepared {
	p, _ := batch.Prepared.(*prepared)
	return p
}

// append makes a batch durable.
func (b *backend) append(p *prepared) error {
	if p == nil {
		return errors.New("the batch was not accepted")
	}
	var errs [weir.Lanes]error
	var wg sync.WaitGroup
	for lane := range p.lanes {
		l := &p.lanes[lane]
		if len(l.records) == 0 {
			continue
		}
		wg.Go(func() { errs[lane] = b.log.AppendAt(l.buffer, weir.Lane(lane), l.first, l.records) })
	}
	wg.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		return fmt.Errorf("append to the local log: %w", err)
	}
	if len(p.letters.letters) > 0 { // the letters that they evict have been reported
		return b.log.Letters().Add(p.letters.letters)
	}
	return nil
}

// Stored implements mqtt.Backend.
func (b *backend) Stored(at mqtt.Place) bool {
	p, ok := decodePlace(at)
	switch {
	case !ok:
		return false
	case p == stays:
		return true
	case p.lane == letterLane:
		stored, err := b.log.Letters().Stored(p.seq)
		return err == nil && stored
	default:
		return b.log.Stored(p.buffer, weir.Lane(p.lane), p.seq)
	}
}

// routing counts how messages are routed to topics.
type routing struct {
	capped   *metrics.Counter // messages sent to Unrouted because the gateway may name no more topics
	reserved *metrics.Counter // user properties left out because their names are reserved for Weir
}

func newRouting(set *metrics.Set) *routing {
	return &routing{
		capped:   set.GetOrCreateCounter("weir_edge_unrouted_messages_total"),
		reserved: set.GetOrCreateCounter("weir_edge_reserved_properties_total"),
	}
}
