package state

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
	s       *State // what the entries have made; the caller applies them
	pos     journal.Position
	at      int64 // in the slot
	topics  uint64
	buffers uint32
	number  uint64 // of the last segment
	marks   map[MarkKey]uint64
	level   int // of the format
	sharded bool
	seen    journal.Position // of the catalogue
	away    []weir.Move      // slices that moved out and have not come back
	bodies  [][]byte         // what the other shard exports of them
}

func newWanderer(seed uint64) *wanderer {
	return &wanderer{
		rng: rand.New(rand.NewPCG(seed, 2)), s: Empty(), pos: journal.Position{Epoch: 1, Slot: 1},
		marks: make(map[MarkKey]uint64), level: 1 + int(seed%2), sharded: seed%4 == 3,
	}
}

// walk applies n entries.
func (w *wanderer) walk(n int) {
	for range n {
		pos, e := w.next()
		must(w.s.Apply(pos, e))
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
	case w.level > 1 && w.s.Identity == nil:
		return KindIdentity, EncodeIdentity(&Identity{Level: w.level, Cluster: "c", Sums: []Sum{{Key: "cluster", CRC: 7}}})
	case w.sharded && w.rng.IntN(6) == 0:
		return w.moving()
	case w.sharded && w.rng.IntN(10) == 0:
		return w.opened(t)
	case t == nil || n < 4:
		w.topics++
		return KindTopicCreated, EncodeTopicCreated(Topic{
			ID: weir.TopicID{byte(w.rng.IntN(256)), byte(w.topics)}, Name: fmt.Sprint("t", w.topics), Partitions: 1 + w.rng.Int32N(4),
			Created: w.rng.Int64() - w.rng.Int64(), Configs: map[string]string{"k": fmt.Sprint(n), "j": ""},
		})
	case n < 6 && len(w.s.Topics) > 2:
		return KindTopicDeleted, EncodeTopicDeleted(t.ID)
	case n < 9:
		return KindTopicGrown, EncodeTopicGrown(t.ID, t.Partitions+1+w.rng.Int32N(3))
	case n < 12:
		return KindProducerIDs, EncodeProducerIDs(w.s.ProducerIDs + 1 + w.rng.Uint64N(1000))
	case n < 16:
		return w.retired()
	case n < 28:
		return w.installed()
	case n < 36:
		return w.trimmed(t)
	case n < 40:
		var ids []SegmentID
		for _, id := range slices.SortedFunc(slices.Values(w.s.Garbage), SegmentID.compare) {
			if w.rng.IntN(2) == 0 {
				ids = append(ids, id)
			}
		}
		return KindSwept, EncodeSwept(w.pos.Epoch-1, w.oldest(), ids, w.level)
	}
	p := t.Parts[w.rng.IntN(len(t.Parts))]
	if w.s.IsAway(p.Key) {
		return 0, nil // its owner refuses it
	}
	return KindRun, w.run(p)
}

// opened is an entry of a cluster with several shards. The shard is both the one of the
// catalogue and one that follows it.
func (w *wanderer) opened(t *TopicData) (uint16, []byte) {
	w.seen.Slot += w.rng.Uint64N(3)
	w.seen.Epoch += 1 - min(w.rng.Uint64N(5), 1)
	at := journal.Position{Epoch: w.seen.Epoch + 1, Slot: w.seen.Slot}
	switch n := w.rng.IntN(10); {
	case t == nil || n < 2:
		w.topics++
		return KindTopicOpened, EncodeTopicOpened(Topic{ID: weir.TopicID{byte(w.rng.IntN(256)), byte(w.topics), 1}, Name: fmt.Sprint("o", w.topics), Partitions: 1 + w.rng.Int32N(4), Configs: map[string]string{}}, at)
	case n < 4:
		again := t.Topic
		again.Partitions += w.rng.Int32N(3)
		if w.rng.IntN(3) == 0 {
			at = t.Opened // nothing changes
			at.Slot++
		}
		again.Configs = map[string]string{"n": fmt.Sprint(n)}
		return KindTopicOpened, EncodeTopicOpened(again, at)
	case n < 6 && t.Deleting.IsZero():
		return KindTopicDeleting, EncodeTopicDeleting(t.ID)
	case n < 8 && len(w.s.Topics) > 2:
		return KindTopicDropped, EncodeTopicDropped(t.ID, at)
	case n < 9:
		w.topics++
		return KindTopicDropped, EncodeTopicDropped(weir.TopicID{byte(w.rng.IntN(256)), byte(w.topics), 2}, at)
	default:
		var ids []weir.TopicID
		for _, id := range sortedTopics(w.s.Dropped) {
			if w.s.Dropped[id].Before(at) && w.rng.IntN(3) == 0 {
				ids = append(ids, id)
			}
		}
		return KindDroppedForgotten, EncodeDroppedForgotten(ids, at)
	}
}

// topic returns a topic chosen by the seed, nil if there is none.
func (w *wanderer) topic() *TopicData {
	var all []*TopicData
	for _, t := range w.s.Topics {
		all = append(all, t)
	}
	if len(all) == 0 {
		return nil
	}
	slices.SortFunc(all, func(a, b *TopicData) int { return compareTopics(a.ID, b.ID) })
	return all[w.rng.IntN(len(all))]
}

func (w *wanderer) run(p *Partition) []byte {
	r := Run{Topic: p.Key.Topic, Partition: p.Key.Partition, Base: p.End, Epoch: p.LeaderEpoch(int32(w.pos.Epoch)), Batches: 1}
	var b record.Batch
	switch w.rng.IntN(4) {
	case 0:
		b = w.produced(p)
	case 1:
		b = recordtest.Timed(w.rng.Int64N(1<<40), -5, w.rng.Int64N(1<<40))
	default:
		b = recordtest.Batch("a", "b", "c")
		for range w.rng.IntN(3) {
			r.Sources = append(r.Sources, w.source(p))
		}
	}
	b.SetBaseOffset(p.End)
	b.SetLeaderEpoch(r.Epoch)
	body := AppendRunHead(nil, &r)
	dataAt := len(body)
	body = append(body, b...)
	must(SealRun(body, dataAt))
	return body
}

// produced is a batch of one of some producers, which goes on, also beyond the
// last sequence, or begins a new epoch.
func (w *wanderer) produced(p *Partition) record.Batch {
	id := w.rng.Int64N(4) * 1000
	known := p.Producers.Get(id)
	switch {
	case w.rng.IntN(4) == 0:
		epoch := int16(0)
		if known != nil {
			epoch = known.Epoch + int16(w.rng.IntN(2))
		}
		return record.NewMarker(id, epoch, record.Marker{Commit: w.rng.IntN(2) == 0}, w.rng.Int64N(1<<41))
	case known != nil && (known.Open || w.rng.IntN(3) == 0):
		sequence := int32(0)
		if known.n > 0 {
			sequence = nextSequence(known.last[known.n-1].last)
		}
		return recordtest.Transactional(id, known.Epoch, sequence, "t")
	case known != nil && known.n == 0:
		return recordtest.Produced(id, known.Epoch, 0, "v")
	case known == nil && w.rng.IntN(2) == 0:
		return recordtest.Produced(id, 3, math.MaxInt32, "wraps", "around") // its history was forgotten
	case known == nil:
		return recordtest.Produced(id, 0, 0, "v")
	case w.rng.IntN(10) == 0:
		return recordtest.Produced(id, known.Epoch+1, 0, "v")
	}
	return recordtest.Produced(id, known.Epoch, nextSequence(known.last[known.n-1].last), "v", "w")
}

// retired ends a buffer that has delivered something, mostly.
func (w *wanderer) retired() (uint16, []byte) {
	gateway := fmt.Sprint("g", w.rng.IntN(3))
	id := buffer(w.rng.Uint32N(w.buffers + 1))
	return KindBufferRetired, EncodeBufferRetired(gateway, id)
}

func (w *wanderer) source(p *Partition) Source {
	key := BufferKey{fmt.Sprint("g", w.rng.IntN(3)), buffer(w.buffers)}
	if w.rng.IntN(5) == 0 {
		w.buffers++
		key.Buffer = buffer(w.buffers)
	}
	if g := w.s.Gateways[key.Gateway]; g != nil {
		for _, id := range slices.SortedFunc(maps.Keys(g.Buffers), weir.BufferID.Compare) {
			if w.rng.IntN(3) == 0 {
				key.Buffer = id
			}
		}
		if g.state(key.Buffer) == weir.BufferRetired {
			w.buffers++
			key.Buffer = buffer(w.buffers)
		}
	}
	// Several sources of one run follow each other, before any is applied.
	mk := MarkKey{weir.Stream{Gateway: key.Gateway, Buffer: key.Buffer, Lane: weir.Lane(w.rng.IntN(weir.Lanes))}, p.Key}
	prev := w.marks[mk]
	s := Source{Stream: mk.Stream, Prev: prev, First: prev + 1 + w.rng.Uint64N(3)}
	s.Last = s.First + w.rng.Uint64N(1000)
	w.marks[mk] = s.Last
	if w.rng.IntN(2) == 0 {
		s.Row = weir.Row{Partitions: p.Key.Partition + 1 + w.rng.Int32N(3), From: 1 + w.rng.Uint64N(s.Last)}
	}
	return s
}

// installed covers runs, or replaces pieces, of several partitions.
func (w *wanderer) installed() (uint16, []byte) {
	w.number++
	id := SegmentID{Epoch: w.pos.Epoch, Number: w.number}
	var all []Placed
	at := uint32(64)
	for range 1 + w.rng.IntN(3) {
		t := w.topic()
		p := t.Parts[w.rng.IntN(len(t.Parts))]
		if slices.ContainsFunc(all, func(x Placed) bool { return x.Key == p.Key }) {
			continue
		}
		if w.level > 1 && len(p.Index) > 0 && p.Index[0].Position().Before(w.pos) && w.rng.IntN(2) == 0 {
			all = append(all, adopted(p, 0))
			continue
		}
		x := Piece{Segment: id, At: at, Index: 80, Size: 80, Time: segment.NoTime}
		if n := len(p.Pieces); n > 0 && w.rng.IntN(2) == 0 {
			from := w.rng.IntN(n)
			x.Base, x.Next = p.Pieces[from].Base, p.Pieces[from+w.rng.IntN(n-from)].Next
		} else if n := len(p.Index); n > 0 {
			x.Base, x.Next = p.Index[0].Base, p.NextOf(w.rng.IntN(n))
		} else {
			continue
		}
		if w.rng.IntN(4) > 0 {
			x.Time, x.Records, x.Size = w.rng.Int64N(1<<41), 1+w.rng.Uint32N(100), 80+100*w.rng.Uint32N(1000)
		}
		at += x.Size
		all = append(all, Placed{p.Key, x})
	}
	if w.rng.IntN(10) == 0 { // of a partition that is gone
		all = append(all, Placed{Place{weir.TopicID{0xff, 0xff}, 3}, Piece{Base: 1, Next: 2, Segment: id, At: at, Index: 80, Size: 80}})
	}
	return KindInstalled, EncodeInstalled(all, w.level)
}

func (w *wanderer) trimmed(t *TopicData) (uint16, []byte) {
	p := t.Parts[w.rng.IntN(len(t.Parts))]
	stable := p.Stable(p.End)
	start := p.Start + w.rng.Int64N(stable-p.Start+1)
	if w.rng.IntN(6) == 0 {
		start = stable
	}
	return KindTrimmed, EncodeTrimmed(p.Key, start)
}

// oldest is the position before which no slot is needed.
// adopted is a piece of the i-th run of a partition, where it is.
func adopted(p *Partition, i int) Placed {
	x, next := p.Index[i], p.NextOf(i)
	return Placed{p.Key, Piece{
		Base: x.Base, Next: next, Time: x.Time, Segment: SlotID(x.Position()),
		At: x.At, Size: x.Size, Index: 2 * x.Size, Records: uint32(next - x.Base),
	}}
}

func (w *wanderer) oldest() journal.Position {
	oldest := w.pos
	for _, t := range w.s.Topics {
		for _, p := range t.Parts {
			if len(p.Index) > 0 && p.Index[0].Position().Before(oldest) {
				oldest = p.Index[0].Position()
			}
		}
	}
	return oldest
}
