package sender_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/uplink"
	"github.com/weirmq/weir/sync/uplink/uplinktest"
	"github.com/weirmq/weir/sync/wire"
)

// fakeLog is a commit log in memory with the rules of a real one: it compares
// with marks that include what is flying, and answers when it has landed.
type fakeLog struct {
	mu      sync.Mutex
	change  sync.Cond
	latency func() time.Duration
	refuse  func(a uplink.Append, records []record.Record) error // nil: takes everything
	deny    func(topic string) error

	names   map[string]weir.TopicID
	counts  map[weir.TopicID]int32
	parts   map[partition]*fakePart
	rows    map[rowKey]weir.Row // the newest
	buffers map[string]map[weir.BufferID]weir.BufferState
	flying  []*flight
	pumping bool
	topics  byte // ids given out
	landed  []landed
	appends int
	discard bool // keep no records
}

type partition struct {
	topic weir.TopicID
	n     int32
}

// rowKey names a lane's rows of a topic.
type rowKey struct {
	stream weir.Stream
	topic  weir.TopicID
}

type fakePart struct{ spec, durable map[weir.Stream]uint64 }

// flight is an append whose slot is in the air.
type flight struct {
	a       uplink.Append
	records []record.Record // nil: a duplicate that waits for what it repeats
	done    func(error)
}

// landed is a record in the log, in the order in which they came.
type landed struct {
	topic     string
	partition int32
	stream    weir.Stream
	record    record.Record
}

func newFakeLog() *fakeLog {
	l := &fakeLog{
		latency: func() time.Duration { return 0 },
		names:   map[string]weir.TopicID{}, counts: map[weir.TopicID]int32{},
		parts: map[partition]*fakePart{}, rows: map[rowKey]weir.Row{}, buffers: map[string]map[weir.BufferID]weir.BufferState{},
	}
	l.change.L = &l.mu
	return l
}

func (l *fakeLog) create(name string, n int32) weir.TopicID {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.createLocked(name, n)
}

func (l *fakeLog) createLocked(name string, n int32) weir.TopicID {
	l.topics++
	id := weir.TopicID{0: l.topics}
	l.names[name], l.counts[id] = id, n
	return id
}

func (l *fakeLog) grow(name string, n int32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts[l.names[name]] = n
}

func (l *fakeLog) remove(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.counts, l.names[name])
	delete(l.names, name)
}

func (l *fakeLog) part(topic weir.TopicID, n int32) *fakePart {
	k := partition{topic, n}
	p := l.parts[k]
	if p == nil {
		p = &fakePart{spec: map[weir.Stream]uint64{}, durable: map[weir.Stream]uint64{}}
		l.parts[k] = p
	}
	return p
}

// attach is for receiver.Options.
func (l *fakeLog) attach() func(context.Context, string, []weir.Buffer, func(error)) (uplink.Attachment, uplink.Offered, error) {
	return uplinktest.Alone(uplink.Calls{Offer: l.Offer, Append: l.Append, Mark: l.Mark, Retire: l.Retire}).Attach
}

func (l *fakeLog) Offer(_ context.Context, gateway string, buffers []weir.Buffer) (uplink.Offered, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var known uplink.Offered
	for _, b := range buffers {
		st := weir.BufferNew
		if s, ok := l.buffers[gateway][b.ID]; ok {
			st = s
		}
		for k, p := range l.parts {
			if l.counts[k.topic] == 0 {
				continue
			}
			for s, m := range p.durable {
				if s.Gateway == gateway && s.Buffer == b.ID {
					known.Marks = append(known.Marks, weir.Mark{Buffer: b.ID, Lane: s.Lane, Topic: k.topic, Partition: k.n, Last: m})
					if st == weir.BufferNew {
						st = weir.BufferKnown
					}
				}
			}
		}
		o := wire.OfferedBuffer{ID: b.ID, State: st}
		for _, p := range l.parts {
			for s, m := range p.durable {
				if s.Gateway == gateway && s.Buffer == b.ID {
					o.Reached[s.Lane] = max(o.Reached[s.Lane], m)
				}
			}
		}
		known.Buffers = append(known.Buffers, o)
		for k, row := range l.rows {
			if k.stream.Gateway == gateway && k.stream.Buffer == b.ID && l.counts[k.topic] > 0 {
				known.Rows = append(known.Rows, weir.MapRow{Buffer: b.ID, Lane: k.stream.Lane, Topic: k.topic, Name: l.nameOf(k.topic), Row: row})
			}
		}
	}
	return known, nil
}

func (l *fakeLog) Resolve(_ context.Context, _, topic string) (weir.TopicID, int32, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.deny != nil {
		if err := l.deny(topic); err != nil {
			return weir.TopicID{}, 0, err
		}
	}
	id, ok := l.names[topic]
	if !ok {
		id = l.createLocked(topic, 1)
	}
	return id, l.counts[id], nil
}

func (l *fakeLog) Append(a uplink.Append, done func(error)) {
	var records []record.Record
	var err error
	if !l.discard {
		records, err = decode(a.Batch)
	} else if err = a.Batch.Verify(); err == nil {
		records = []record.Record{{}}
	}
	l.mu.Lock()
	l.appends++
	if err == nil && l.counts[a.Topic] == 0 {
		err = uplink.ErrGone
	}
	if err == nil && !a.Gap && a.Topic == l.names[weir.GapTopic] {
		err = uplink.ErrNotAllowed
	}
	if err == nil && l.refuse != nil {
		err = l.refuse(a, records)
	}
	if err != nil {
		l.mu.Unlock()
		done(err)
		return
	}
	p := l.part(a.Topic, a.Partition)
	mark := p.spec[a.Stream]
	switch {
	case a.Last <= mark:
		records = nil
	case a.Prev == mark && mark < a.First:
		p.spec[a.Stream] = a.Last
	default:
		l.mu.Unlock()
		done(fmt.Errorf("prev %d, %d to %d, mark %d: %w", a.Prev, a.First, a.Last, mark, uplink.ErrHole))
		return
	}
	l.flying = append(l.flying, &flight{a, records, done})
	if !l.pumping {
		l.pumping = true
		go l.pump()
	}
	l.mu.Unlock()
}

// pump lands what flies, in order.
func (l *fakeLog) pump() {
	for {
		l.mu.Lock()
		n := len(l.flying)
		if n == 0 {
			l.pumping = false
			l.mu.Unlock()
			return
		}
		batch := slices.Clone(l.flying)
		wait := l.latency()
		l.mu.Unlock()
		time.Sleep(wait)
		for _, f := range batch {
			l.mu.Lock()
			if len(l.flying) == 0 || l.flying[0] != f {
				l.mu.Unlock()
				break // the owner died meanwhile
			}
			l.landFirst()
			l.mu.Unlock()
			f.done(nil)
		}
	}
}

func (l *fakeLog) landFirst() {
	f := l.flying[0]
	l.flying = l.flying[1:]
	p := l.part(f.a.Topic, f.a.Partition)
	if f.records != nil {
		l.rows[rowKey{f.a.Stream, f.a.Topic}] = f.a.Row
		p.durable[f.a.Stream] = f.a.Last
		for _, r := range f.records {
			if l.discard {
				break
			}
			l.landed = append(l.landed, landed{l.nameOf(f.a.Topic), f.a.Partition, f.a.Stream, r})
		}
	}
	l.change.Broadcast()
}

func (l *fakeLog) nameOf(id weir.TopicID) string {
	for name, x := range l.names {
		if x == id {
			return name
		}
	}
	return "deleted"
}

// crash is the death of the owner: of what is flying some turns out durable.
func (l *fakeLog) crash(durable int) {
	l.mu.Lock()
	lost := slices.Clone(l.flying) // nobody is told which of them are durable
	for i := 0; i < durable && len(l.flying) > 0; i++ {
		l.landFirst()
	}
	l.flying = nil
	for _, p := range l.parts {
		clear(p.spec)
		for s, m := range p.durable {
			p.spec[s] = m
		}
	}
	l.change.Broadcast()
	l.mu.Unlock()
	for _, f := range lost {
		f.done(&uplink.NotOwnerError{})
	}
}

func (l *fakeLog) Mark(ctx context.Context, s weir.Stream, topic weir.TopicID, n int32) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for slices.ContainsFunc(l.flying, func(f *flight) bool { return f.a.Topic == topic && f.a.Partition == n }) {
		l.change.Wait()
	}
	return l.part(topic, n).durable[s], nil
}

func (l *fakeLog) Retire(_ context.Context, gateway string, id weir.BufferID) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.buffers[gateway] == nil {
		l.buffers[gateway] = map[weir.BufferID]weir.BufferState{}
	}
	l.buffers[gateway][id] = weir.BufferRetired
	for _, p := range l.parts {
		for s := range p.durable {
			if s.Gateway == gateway && s.Buffer == id {
				delete(p.durable, s)
				delete(p.spec, s)
			}
		}
	}
	return nil
}

// records returns what lies in the log outside weir.gaps.
func (l *fakeLog) records() []landed {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []landed
	for _, r := range l.landed {
		if r.topic != weir.GapTopic {
			out = append(out, r)
		}
	}
	return out
}

// reported is the value of a record of weir.gaps.
type reported struct {
	Gateway, Buffer, Lane, Topic, Cause string
	Ranges                              [][2]uint64
	Count                               uint64
	Exact                               bool
}

func (l *fakeLog) gaps() []reported {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []reported
	for _, r := range l.landed {
		if r.topic == weir.GapTopic {
			var g reported
			if err := json.Unmarshal(r.record.Value, &g); err != nil {
				panic(err)
			}
			out = append(out, g)
		}
	}
	return out
}

func decode(b record.Batch) (out []record.Record, err error) {
	if err := b.Verify(); err != nil {
		return nil, fmt.Errorf("%w: %v", uplink.ErrCorrupt, err)
	}
	err = b.Each(64<<20, func(r *record.Record) error {
		out = append(out, record.Record{Timestamp: r.Timestamp, Key: slices.Clone(r.Key), Value: slices.Clone(r.Value)})
		return nil
	})
	return out, err
}
