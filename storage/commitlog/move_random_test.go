package commitlog

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/record/recordtest"
	"github.com/weirmq/weir/storage/storagetest"
	"github.com/weirmq/weir/storage/weir"
)

// TestMovedIsTheSame: what partitions that move answer at each step is what those of a log
// answer that stay where they are: to writers of all kinds, and to readers.
func TestMovedIsTheSame(t *testing.T) {
	for range storagetest.Rounds(8) {
		seed := rand.Uint64()
		t.Run(fmt.Sprint(seed), func(t *testing.T) { movedAtRandom(t, seed) })
	}
}

const (
	twinShards     = 3
	twinPartitions = 4
)

// twins are two clusters to which the same is done. In the second one slices move.
type twins struct {
	t      *testing.T
	rng    *rand.Rand
	now    clock
	upkeep func(*Options)
	one    *Log
	b      [2]*mem.Bucket
	many   [twinShards]*Log
	topics []state.Topic // a compacted one and another one

	where   map[state.Place]int
	leaders map[state.Place]int32
	moves   int
	next    map[state.ProducerKey]int32
	epochs  map[int64]int16
	open    map[int64]map[state.Place]bool // partitions of open transactions
	sent    map[state.ProducerKey]record.Batch
	marks   map[state.MarkKey]uint64
	buffer  [2]uint32 // of each gateway
}

func movedAtRandom(t *testing.T, seed uint64) {
	w := &twins{
		t: t, rng: rand.New(rand.NewPCG(seed, 4)), b: [2]*mem.Bucket{mem.New(), mem.New()},
		where: make(map[state.Place]int), leaders: make(map[state.Place]int32), next: make(map[state.ProducerKey]int32), epochs: make(map[int64]int16),
		open: make(map[int64]map[state.Place]bool), sent: make(map[state.ProducerKey]record.Batch), marks: make(map[state.MarkKey]uint64),
	}
	w.now.Store(1_000_000_000)
	adopt := []int{0, 1, 300}[w.rng.IntN(3)]
	w.upkeep = func(o *Options) {
		tiny(o)
		o.Upkeep.Adopt, o.Now, o.Upkeep.Keys = adopt, w.now.time, 50
	}
	w.one = open(t, w.b[0], w.upkeep)
	for i := range w.many {
		w.reopen(i)
	}
	topic := createCompacted(t, w.one, "compacted", twinPartitions, "min.cleanable.dirty.ratio", "0", "delete.retention.ms", "1000000000000")
	w.topics = []state.Topic{topic, createTopic(t, w.one, "plain", twinPartitions)}
	for _, x := range w.topics { // in the second cluster with the same ids
		must(w.many[0].create(x))
	}
	for range 200 {
		w.now.Add(w.rng.Int64N(300))
		w.step()
	}
	w.compare(true)
	if w.moves < 5 {
		t.Errorf("%d moves", w.moves)
	}
	for _, l := range w.many {
		l.mu.RLock()
		must(summed(l.state))
		l.mu.RUnlock()
		must(l.Close())
	}
	sound(t, w.b[1])
	for i := range w.many {
		w.reopen(i)
	}
	w.compare(true)
}

// create creates a topic with a given id.
func (l *Log) create(x state.Topic) error {
	_, err := ask(context.Background(), l, 1000, func(b *builder) (struct{}, error) {
		b.spec.topics.set(b.spec.slot, x.ID, &x)
		b.put(state.KindTopicCreated, state.EncodeTopicCreated(x))
		return struct{}{}, nil
	})
	return err
}

func (w *twins) reopen(shard int) {
	if l := w.many[shard]; l != nil && w.rng.IntN(2) == 0 {
		must(l.Close())
	}
	w.many[shard] = open(w.t, w.b[1], w.upkeep, func(o *Options) { o.Shard = uint32(shard) })
	w.now.Add(2 * overtaking.Milliseconds()) // until producers may begin anywhere
}

func (w *twins) place() state.Place {
	return state.Place{Topic: w.topics[w.rng.IntN(2)].ID, Partition: w.rng.Int32N(twinPartitions)}
}

func (w *twins) at(key state.Place) *Log { return w.many[w.where[key]] }

func (w *twins) step() {
	key := w.place()
	switch n := w.rng.IntN(100); {
	case n < 12:
		w.move(key)
	case n < 17:
		w.reopen(w.rng.IntN(twinShards))
	case n < 30:
		maintained(w.t, w.one)
		maintained(w.t, w.many[w.rng.IntN(twinShards)])
	case n < 35:
		w.trim(key)
	case n < 40:
		w.retire()
	case n < 52:
		w.end(w.rng.Int64N(4))
	case n < 65:
		w.gateway(key)
	case n < 90:
		w.produce(key, w.rng.Int64N(4))
	default:
		w.append(Append{Topic: key.Topic, Partition: key.Partition, Batch: w.records(nil)})
	}
	if w.rng.IntN(10) == 0 {
		w.compare(false)
	}
}

// records is a batch of some records with keys.
func (w *twins) records(producer func(*record.Builder)) record.Batch {
	b := record.NewBuilder(record.Codec(w.rng.IntN(5)))
	if producer != nil {
		producer(b)
	}
	for range 1 + w.rng.IntN(4) {
		r := kv{fmt.Sprint("k", w.rng.IntN(12)), strings.Repeat("v", w.rng.IntN(800)), w.rng.Int64N(1 << 41)}
		must(b.Append(r.record()))
	}
	out, err := b.Build()
	must(err)
	return out
}

// append appends to both, which must give the same answer.
func (w *twins) append(a Append) error {
	key := state.Place{Topic: a.Topic, Partition: a.Partition}
	twin := a
	twin.Batch = bytes.Clone(a.Batch)
	if a.Source != nil {
		source := *a.Source
		twin.Source = &source
	}
	x, y := <-send(w.one, a), <-send(w.at(key), twin)
	if x.base != y.base || kindOf(x.err) != kindOf(y.err) {
		w.t.Fatalf("%v, %+v: %d %v, and where it moves %d %v", key, a.Source, x.base, kindOf(x.err), y.base, kindOf(y.err))
	}
	return x.err
}

// kindOf is what a caller can see of an error.
func kindOf(err error) string {
	var refused *RefusedError
	if errors.As(err, &refused) {
		return fmt.Sprint(*refused)
	}
	for _, kind := range []error{state.ErrOutOfOrderSequence, state.ErrProducerFenced, state.ErrTransactionOpen, state.ErrUnknownProducer} {
		if errors.Is(err, kind) {
			return kind.Error()
		}
	}
	return fmt.Sprint(err)
}

// gateway appends of a gateway what follows, or what was sent before, or leaves a gap.
func (w *twins) gateway(key state.Place) {
	n := w.rng.IntN(2)
	s := weir.Stream{Gateway: fmt.Sprint("g", n), Buffer: buffer(w.buffer[n]), Lane: weir.Lane(w.rng.IntN(weir.Lanes))}
	mk := state.MarkKey{Stream: s, Place: key}
	src := state.Source{Stream: s, Prev: w.marks[mk], First: w.marks[mk] + 1 + w.rng.Uint64N(3)}
	switch w.rng.IntN(6) {
	case 0:
		src.Prev += w.rng.Uint64N(3)
		src.First = src.Prev + 1
	case 1:
		src.Prev, src.First = 0, 1
	}
	src.Last = src.First + w.rng.Uint64N(4)
	if w.rng.IntN(2) == 0 {
		src.Row = weir.Row{Partitions: twinPartitions, From: 1 + w.rng.Uint64N(src.Last)}
	}
	if w.append(Append{Topic: key.Topic, Partition: key.Partition, Batch: w.records(nil), Source: &src}) == nil {
		w.marks[mk] = max(w.marks[mk], src.Last)
	}
}

func (w *twins) retire() {
	n := w.rng.IntN(2)
	for _, l := range append(w.many[:], w.one) {
		must(l.Retire(w.t.Context(), fmt.Sprint("g", n), buffer(w.buffer[n])))
	}
	if w.rng.IntN(4) > 0 {
		w.buffer[n]++
	}
}

// produce appends of a producer what follows, or something again, or leaves a gap.
func (w *twins) produce(key state.Place, id int64) {
	pk := state.ProducerKey{Place: key, ID: id}
	if old := w.sent[pk]; old != nil && w.rng.IntN(5) == 0 {
		_ = w.append(Append{Topic: key.Topic, Partition: key.Partition, Batch: bytes.Clone(old)})
		return
	}
	sequence := w.next[pk]
	if w.rng.IntN(8) == 0 {
		sequence += 1 + w.rng.Int32N(3)
	}
	batch := w.records(func(b *record.Builder) { b.SetProducer(id, w.epochs[id], sequence) })
	if w.rng.IntN(2) == 0 || w.open[id] != nil {
		batch = recordtest.InTransaction(batch)
	}
	sent, count, transactional := record.Batch(bytes.Clone(batch)), int32(batch.Count()), batch.Transactional()
	if w.append(Append{Topic: key.Topic, Partition: key.Partition, Batch: batch}) != nil {
		return
	}
	w.next[pk], w.sent[pk] = sequence+count, sent
	if transactional {
		if w.open[id] == nil {
			w.open[id] = make(map[state.Place]bool)
		}
		w.open[id][key] = true
	}
}

// end ends a transaction, in the second cluster shard by shard.
func (w *twins) end(id int64) {
	if w.open[id] == nil {
		return
	}
	end := TransactionEnd{Producer: id, Epoch: w.epochs[id], Commit: w.rng.IntN(2) == 0}
	if w.rng.IntN(3) == 0 {
		end.Epoch++
		w.epochs[id]++
		for pk := range w.next {
			if pk.ID == id {
				delete(w.next, pk)
				delete(w.sent, pk)
			}
		}
	}
	places := slices.SortedFunc(maps.Keys(w.open[id]), func(a, b state.Place) int {
		return cmp.Or(bytes.Compare(a.Topic[:], b.Topic[:]), cmp.Compare(a.Partition, b.Partition))
	})
	delete(w.open, id)
	end.Partitions = places
	must(w.one.ProposeAll(w.t.Context(), nil, &end))
	for shard, l := range w.many {
		some := end
		some.Partitions = slices.DeleteFunc(slices.Clone(places), func(key state.Place) bool { return w.where[key] != shard })
		if len(some.Partitions) > 0 {
			must(l.ProposeAll(w.t.Context(), nil, &some))
		}
	}
}

func (w *twins) trim(key state.Place) {
	start, end, err := w.one.Bounds(key.Topic, key.Partition)
	must(err)
	offset := start + w.rng.Int64N(end-start+1)
	x, err := w.one.DeleteRecords(w.t.Context(), key.Topic, key.Partition, offset)
	must(err)
	if y, err := w.at(key).DeleteRecords(w.t.Context(), key.Topic, key.Partition, offset); x != y || err != nil {
		w.t.Fatalf("%v begins at %d, and where it moves at %d, %v", key, x, y, err)
	}
}

// move moves a partition, with all others in its slice and perhaps more, to a shard that is
// not the first.
func (w *twins) move(key state.Place) {
	from := w.where[key]
	to := 1 + w.rng.IntN(twinShards-1)
	if to == from {
		return
	}
	m := weir.Move{ID: weir.MoveID{byte(w.rng.Uint32()), byte(w.rng.Uint32()), byte(w.moves), 1}, From: uint32(from), To: uint32(to)}
	m.Slices.Add(key.SliceOf())
	for range w.rng.IntN(3) {
		if other := w.place(); w.where[other] == from {
			m.Slices.Add(other.SliceOf())
		}
	}
	if w.rng.IntN(5) == 0 { // given up
		must(w.many[from].Separate(w.t.Context(), m.Slices))
		must(w.many[from].Stop(w.t.Context(), m))
		e, err := w.many[from].Export(w.t.Context(), m)
		must(err)
		must(w.many[to].Import(w.t.Context(), m, e))
		if r := <-send(w.many[from], Append{Topic: key.Topic, Partition: key.Partition, Batch: recordtest.Batch("x")}); !errors.Is(r.err, ErrMoving) {
			w.t.Fatalf("an append where slices are stopped gets %+v", r)
		}
		if moved, err := w.many[from].Void(w.t.Context(), m); moved || err != nil {
			w.t.Fatal(moved, err)
		}
		must(w.many[to].Cancel(w.t.Context(), m))
		return
	}
	for _, topic := range w.topics {
		for p := range int32(twinPartitions) {
			x := state.Place{Topic: topic.ID, Partition: p}
			if m.Slices.Has(x.SliceOf()) && w.where[x] == from {
				w.leaders[x] = max(w.leaders[x], w.many[from].LeaderEpoch(x.Topic, x.Partition))
				w.where[x] = to
			}
		}
	}
	moved(w.t, w.many[from], w.many[to], m)
	w.moves++
	for x, leader := range w.leaders {
		if w.where[x] == to && m.Slices.Has(x.SliceOf()) && w.at(x).LeaderEpoch(x.Topic, x.Partition) <= leader {
			w.t.Fatalf("%v: leader epoch %d after %d", x, w.at(x).LeaderEpoch(x.Topic, x.Partition), leader)
		}
	}
	for _, topic := range w.topics {
		if _, found := w.many[to].TopicByID(topic.ID); !found { // nothing of it had records
			must(w.many[to].OpenTopic(w.t.Context(), topic, w.many[0].feed.at))
		}
	}
	slices, _ := w.many[0].Map()
	for slice := range m.Slices.All() {
		slices[slice] = uint32(to)
	}
	must(w.many[0].SetMap(w.t.Context(), slices, twinShards))
	w.now.Add(2 * overtaking.Milliseconds())
}

// read is what readers get of a partition.
type read struct {
	start, end, stable int64
	records            map[int64]kv
	markers            map[int64]bool // whether they commit
	aborted            []state.Aborted
	producers          []state.ProducerState
}

func (w *twins) read(l *Log, key state.Place) (x read) {
	var err error
	x.start, x.end, err = l.Bounds(key.Topic, key.Partition)
	if err == nil {
		x.stable, err = l.Stable(key.Topic, key.Partition)
	}
	if err == nil {
		x.producers, err = l.Producers(key.Topic, key.Partition)
	}
	must(err)
	x.records, x.markers = make(map[int64]kv), make(map[int64]bool)
	for offset := x.start; offset < x.end; {
		f, err := l.Fetch(w.t.Context(), key.Topic, key.Partition, offset, 8<<10)
		if err != nil || len(f.Batches) == 0 {
			w.t.Fatalf("%v: %d batches at offset %d of %d, %v", key, len(f.Batches), offset, x.end, err)
		}
		for _, raw := range f.Batches {
			b := record.Batch(raw)
			if b.Control() {
				m, err := b.Marker()
				must(err)
				x.markers[b.BaseOffset()] = m.Commit
			} else {
				must(b.Each(1<<24, func(r *record.Record) error {
					if r.Offset >= offset {
						x.records[r.Offset] = kv{string(r.Key), string(r.Value), r.Timestamp}
					}
					return nil
				}))
			}
			offset = b.NextOffset()
		}
	}
	for offset := x.start; offset < x.stable; {
		f, err := l.FetchCommitted(w.t.Context(), key.Topic, key.Partition, offset, 8<<10)
		if must(err); len(f.Batches) == 0 {
			break
		}
		for _, a := range f.Aborted {
			if !slices.Contains(x.aborted, a) {
				x.aborted = append(x.aborted, a)
			}
		}
		offset = record.Batch(f.Batches[len(f.Batches)-1]).NextOffset()
	}
	return x
}

// compare compares all partitions, and what is known of gateways. If settled, both have
// been compacted to the end.
func (w *twins) compare(settled bool) {
	if settled {
		// What compaction keeps of the end of a partition, and of open transactions, is a
		// matter of when it was there.
		for id := range int64(4) {
			w.end(id)
		}
		for _, topic := range w.topics {
			for p := range int32(twinPartitions) {
				must(w.append(Append{Topic: topic.ID, Partition: p, Batch: keyed(record.None, kv{"last", fmt.Sprint(w.moves), 1})}))
			}
		}
		for _, l := range append(w.many[:], w.one) {
			must(l.Separate(w.t.Context(), weir.SliceSet{}))
			maintained(w.t, l)
			maintained(w.t, l)
		}
	}
	for i, topic := range w.topics {
		for p := range int32(twinPartitions) {
			key := state.Place{Topic: topic.ID, Partition: p}
			x, y := w.read(w.one, key), w.read(w.at(key), key)
			if x.start != y.start || x.end != y.end || x.stable != y.stable || !slices.Equal(x.producers, y.producers) {
				w.t.Fatalf("%v: %d to %d, stable %d, producers %+v\nwhere it moves %d to %d, stable %d, producers %+v", key, x.start, x.end, x.stable, x.producers, y.start, y.end, y.stable, y.producers)
			}
			if settled || i == 1 {
				if !maps.Equal(x.records, y.records) || !maps.Equal(x.markers, y.markers) || !slices.Equal(x.aborted, y.aborted) {
					w.t.Fatalf("%v: %d records, markers %v, aborted %v\nwhere it moves %d records, markers %v, aborted %v", key, len(x.records), x.markers, x.aborted, len(y.records), y.markers, y.aborted)
				}
			}
			for shard, l := range w.many {
				if _, _, err := l.Bounds(key.Topic, p); w.leaders[key] > 0 && shard != w.where[key] && !errors.Is(err, ErrMoved) && !errors.Is(err, ErrUnknownTopic) {
					if _, end, _ := l.Bounds(key.Topic, p); end > 0 {
						w.t.Fatalf("%v is in shard %d, and shard %d has it, too: %v", key, w.where[key], shard, err)
					}
				}
			}
		}
	}
	for n := range w.buffer {
		w.compareGateway(fmt.Sprint("g", n))
	}
}

// compareGateway compares the marks of a gateway, and the state of its buffers.
func (w *twins) compareGateway(name string) {
	set := func(logs ...*Log) map[weir.Mark]int {
		all := make(map[weir.Mark]int)
		for _, l := range logs {
			marks, _ := l.Marks(name)
			for _, mark := range marks {
				all[mark]++
			}
		}
		return all
	}
	got, want := set(w.many[:]...), set(w.one)
	_, rows := w.one.Marks(name)
	if !maps.Equal(got, want) {
		w.t.Fatalf("%s: marks %v, and where they move %v", name, want, got)
	}
	for _, row := range rows {
		found := false
		for _, l := range w.many {
			_, some := l.Marks(name)
			found = found || slices.Contains(some, row)
		}
		if !found {
			w.t.Fatalf("%s: row %+v is in no shard", name, row)
		}
	}
	for counter := range w.buffer[0] + w.buffer[1] + 1 {
		want := w.one.BufferState(name, buffer(counter))
		for _, l := range w.many {
			if got := l.BufferState(name, buffer(counter)); want == weir.BufferRetired && got != want || got == weir.BufferRetired && want != got {
				w.t.Fatalf("%s: buffer %d is %v, and in a shard %v", name, counter, want, got)
			}
		}
	}
}
