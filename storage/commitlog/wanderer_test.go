package commitlog

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/record/recordtest"
	"github.com/weirmq/weir/storage/segment"
	"github.com/weirmq/weir/storage/weir"
)

// wanderer invents a random log of entries of all kinds that keep the rules.
type wanderer struct {
	rng     *rand.Rand
	s       *state // what the entries have made; the caller applies them
	pos     journal.Position
	at      int64 // in the slot
	topics  uint64
	buffers uint32
	number  uint64 // of the last segment
	marks   map[markKey]uint64
}

func newWanderer(seed uint64) *wanderer {
	return &wanderer{
		rng: rand.New(rand.NewPCG(seed, 2)), s: newState(), pos: journal.Position{Epoch: 1, Slot: 1},
		marks: make(map[markKey]uint64),
	}
}

// walk applies n entries.
func (w *wanderer) walk(n int) {
	for range n {
		pos, e := w.next()
		must(w.s.apply(pos, e))
	}
}

// next returns an entry that may follow, and moves on.
func (w *wanderer) next() (journal.Position, journal.Entry) {
	switch n := w.rng.IntN(40); {
	case n == 0:
		w.pos = journal.Position{Epoch: w.pos.Epoch + 1 + w.rng.Uint64N(3), Slot: 1}
		w.at = 0
	case n < 30:
		w.pos.Slot += 1 + w.rng.Uint64N(3)
		w.at = 0
	}
	w.at += 100
	e := journal.Entry{At: w.at}
	for e.Body == nil {
		e.Kind, e.Body = w.entry(w.rng.IntN(100))
	}
	w.at += int64(len(e.Body))
	return w.pos, e
}

func (w *wanderer) entry(n int) (uint16, []byte) {
	t := w.topic()
	switch {
	case t == nil || n < 4:
		w.topics++
		return kindTopicCreated, encodeTopicCreated(Topic{
			ID: weir.TopicID{byte(w.rng.IntN(256)), byte(w.topics)}, Name: fmt.Sprint("t", w.topics), Partitions: 1 + w.rng.Int32N(4),
			Created: w.rng.Int64() - w.rng.Int64(), Configs: map[string]string{"k": fmt.Sprint(n), "j": ""},
		})
	case n < 6 && len(w.s.topics) > 2:
		return kindTopicDeleted, encodeTopicDeleted(t.ID)
	case n < 9:
		return kindTopicGrown, encodeTopicGrown(t.ID, t.Partitions+1+w.rng.Int32N(3))
	case n < 12:
		return kindProducerIDs, encodeProducerIDs(w.s.producerIDs + 1 + w.rng.Uint64N(1000))
	case n < 16:
		return w.retired()
	case n < 28:
		return w.installed()
	case n < 36:
		return w.trimmed(t)
	case n < 40:
		var ids []segmentID
		for _, id := range slices.SortedFunc(slices.Values(w.s.garbage), segmentID.compare) {
			if w.rng.IntN(2) == 0 {
				ids = append(ids, id)
			}
		}
		return kindSwept, encodeSwept(w.pos.Epoch-1, w.oldest(), ids)
	}
	return kindRun, w.run(t.partitions[w.rng.IntN(len(t.partitions))])
}

// topic returns any, in an order that the seed decides; nil if there is none.
func (w *wanderer) topic() *topic {
	var all []*topic
	for _, t := range w.s.topics {
		all = append(all, t)
	}
	if len(all) == 0 {
		return nil
	}
	slices.SortFunc(all, func(a, b *topic) int { return compareTopics(a.ID, b.ID) })
	return all[w.rng.IntN(len(all))]
}

func (w *wanderer) run(p *partition) []byte {
	r := run{topic: p.key.topic, partition: p.key.partition, base: p.end, epoch: int32(w.pos.Epoch), batches: 1}
	var b record.Batch
	switch w.rng.IntN(4) {
	case 0:
		b = w.produced(p)
	case 1:
		b = recordtest.Timed(w.rng.Int64N(1<<40), -5, w.rng.Int64N(1<<40))
	default:
		b = recordtest.Batch("a", "b", "c")
		for range w.rng.IntN(3) {
			r.sources = append(r.sources, w.source(p))
		}
	}
	b.SetBaseOffset(p.end)
	b.SetLeaderEpoch(r.epoch)
	body := appendRunHead(nil, &r)
	dataAt := len(body)
	body = append(body, b...)
	must(sealRun(body, dataAt))
	return body
}

// produced is a batch of one of some producers, which goes on, also beyond the
// last sequence, or begins a new epoch.
func (w *wanderer) produced(p *partition) record.Batch {
	id := w.rng.Int64N(4) * 1000
	known := p.producers.get(id)
	switch {
	case w.rng.IntN(4) == 0:
		epoch := int16(0)
		if known != nil {
			epoch = known.epoch + int16(w.rng.IntN(2))
		}
		return record.NewMarker(id, epoch, record.Marker{Commit: w.rng.IntN(2) == 0}, w.rng.Int64N(1<<41))
	case known != nil && (known.open || w.rng.IntN(3) == 0):
		sequence := int32(0)
		if known.n > 0 {
			sequence = nextSequence(known.last[known.n-1].last)
		}
		return recordtest.Transactional(id, known.epoch, sequence, "t")
	case known != nil && known.n == 0:
		return recordtest.Produced(id, known.epoch, 0, "v")
	case known == nil && w.rng.IntN(2) == 0:
		return recordtest.Produced(id, 3, math.MaxInt32, "wraps", "around") // its history was forgotten
	case known == nil:
		return recordtest.Produced(id, 0, 0, "v")
	case w.rng.IntN(10) == 0:
		return recordtest.Produced(id, known.epoch+1, 0, "v")
	}
	return recordtest.Produced(id, known.epoch, nextSequence(known.last[known.n-1].last), "v", "w")
}

// retired ends a buffer that has delivered something, mostly.
func (w *wanderer) retired() (uint16, []byte) {
	gateway := fmt.Sprint("g", w.rng.IntN(3))
	id := buffer(w.rng.Uint32N(w.buffers + 1))
	return kindBufferRetired, encodeBufferRetired(gateway, id)
}

func (w *wanderer) source(p *partition) Source {
	key := bufferKey{fmt.Sprint("g", w.rng.IntN(3)), buffer(w.buffers)}
	if w.rng.IntN(5) == 0 {
		w.buffers++
		key.buffer = buffer(w.buffers)
	}
	if g := w.s.gateways[key.gateway]; g != nil {
		for _, id := range slices.SortedFunc(maps.Keys(g.buffers), weir.BufferID.Compare) {
			if w.rng.IntN(3) == 0 {
				key.buffer = id
			}
		}
		if g.state(key.buffer) == Retired {
			w.buffers++
			key.buffer = buffer(w.buffers)
		}
	}
	// Several sources of one run follow each other, before any is applied.
	mk := markKey{Stream{key.gateway, key.buffer, uint8(w.rng.IntN(3))}, p.key}
	prev := w.marks[mk]
	s := Source{Stream: mk.stream, Prev: prev, First: prev + 1 + w.rng.Uint64N(3)}
	s.Last = s.First + w.rng.Uint64N(1000)
	w.marks[mk] = s.Last
	if w.rng.IntN(2) == 0 {
		s.Row = Row{Partitions: p.key.partition + 1 + w.rng.Int32N(3), From: 1 + w.rng.Uint64N(s.Last)}
	}
	return s
}

// installed covers runs, or replaces pieces, of several partitions.
func (w *wanderer) installed() (uint16, []byte) {
	w.number++
	id := segmentID{w.pos.Epoch, w.number}
	var all []placed
	at := uint32(64)
	for range 1 + w.rng.IntN(3) {
		t := w.topic()
		p := t.partitions[w.rng.IntN(len(t.partitions))]
		if slices.ContainsFunc(all, func(x placed) bool { return x.key == p.key }) {
			continue
		}
		x := piece{segment: id, at: at, index: 80, size: 80, time: segment.NoTime}
		if n := len(p.pieces); n > 0 && w.rng.IntN(2) == 0 {
			from := w.rng.IntN(n)
			x.base, x.next = p.pieces[from].base, p.pieces[from+w.rng.IntN(n-from)].next
		} else if n := len(p.index); n > 0 {
			x.base, x.next = p.index[0].base, p.nextOf(w.rng.IntN(n))
		} else {
			continue
		}
		if w.rng.IntN(4) > 0 {
			x.time, x.records, x.size = w.rng.Int64N(1<<41), 1+w.rng.Uint32N(100), 80+100*w.rng.Uint32N(1000)
		}
		at += x.size
		all = append(all, placed{p.key, x})
	}
	if w.rng.IntN(10) == 0 { // of a partition that is gone
		all = append(all, placed{placeKey{weir.TopicID{0xff, 0xff}, 3}, piece{base: 1, next: 2, segment: id, at: at, index: 80, size: 80}})
	}
	return kindInstalled, encodeInstalled(all)
}

func (w *wanderer) trimmed(t *topic) (uint16, []byte) {
	p := t.partitions[w.rng.IntN(len(t.partitions))]
	stable := p.stable(p.end)
	start := p.start + w.rng.Int64N(stable-p.start+1)
	if w.rng.IntN(6) == 0 {
		start = stable
	}
	return kindTrimmed, encodeTrimmed(p.key, start)
}

// oldest is the position before which no slot is needed.
func (w *wanderer) oldest() journal.Position {
	oldest := w.pos
	for _, t := range w.s.topics {
		for _, p := range t.partitions {
			if len(p.index) > 0 && p.index[0].position().Before(oldest) {
				oldest = p.index[0].position()
			}
		}
	}
	return oldest
}
