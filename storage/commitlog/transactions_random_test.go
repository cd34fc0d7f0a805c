package commitlog

import (
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
)

// TestRandomTransactions runs random lives of topics that many transactional
// producers write to, against a model of who committed what.
func TestRandomTransactions(t *testing.T) {
	for range storagetest.Rounds(40) {
		seed := rand.Uint64()
		t.Run(fmt.Sprint(seed), func(t *testing.T) { randomTransactions(t, seed) })
	}
}

const marketPartitions = 2

// sold are the keys. Those of markers are among them.
var sold = []string{"a", "b", "c", "d", "e", "f", "g", "h", "\x00\x00\x00\x00", "\x00\x00\x00\x01"}

// market is one such life.
type market struct {
	t     *testing.T
	rng   *rand.Rand
	l     *Log
	topic state.Topic
	now   clock

	compacted bool
	sellers   []*seller
	told      [marketPartitions][]*told // by offset; nil: a marker
	starts    [marketPartitions]int64
	readers   [marketPartitions]consumer // read on all the time
}

// seller is a transactional producer, with its coordinator.
type seller struct {
	id    int64
	epoch int16
	next  [marketPartitions]int32
	deal  *deal
	where map[int32]bool            // partitions of the deal
	last  [marketPartitions]*repeat // the last batch
}

// repeat is a batch that may be sent again.
type repeat struct {
	batch record.Batch
	base  int64
}

// deal is a transaction.
type deal struct{ ended, committed bool }

// told is a record: its content, and its transaction, nil if it has none.
type told struct {
	kv
	deal *deal
}

func randomTransactions(t *testing.T, seed uint64) {
	b := mem.New()
	m := &market{t: t, rng: rand.New(rand.NewPCG(seed, 3)), compacted: seed%2 == 0}
	m.now.Store(1_000_000_000)
	adopt := []int{0, 1, 300}[m.rng.IntN(3)]
	upkeep := func(o *Options) { tiny(o); o.Upkeep.Adopt = adopt; o.Now, o.Upkeep.Keys = m.now.time, 1+m.rng.IntN(60) }
	f := storagetest.NewFaults(b, seed)
	m.l = open(t, f, upkeep)
	if m.compacted {
		m.topic = createCompacted(t, m.l, "t", marketPartitions, "min.cleanable.dirty.ratio", "0", "delete.retention.ms", "1000000000000")
	} else {
		m.topic = createTopic(t, m.l, "t", marketPartitions)
	}
	for i := range 4 {
		m.sellers = append(m.sellers, &seller{id: int64(i), where: map[int32]bool{}})
	}
	for range 150 {
		m.now.Add(m.rng.Int64N(300))
		s := m.sellers[m.rng.IntN(len(m.sellers))]
		switch n := m.rng.IntN(100); {
		case n < 50:
			m.sell(s, m.rng.Int32N(marketPartitions))
		case n < 55:
			m.plain(m.rng.Int32N(marketPartitions))
		case n < 62:
			m.again(s, m.rng.Int32N(marketPartitions))
		case n < 82:
			m.end(s)
		case n < 90:
			maintained(t, m.l)
		case n < 93:
			m.delete(m.rng.Int32N(marketPartitions))
		case n < 97:
			if m.rng.IntN(2) == 0 {
				must(m.l.Close())
			}
			_ = f.Close() // a kill
			f = storagetest.NewFaults(b, seed)
			m.l = open(t, f, upkeep)
		default:
			m.audit()
		}
	}
	for _, s := range m.sellers {
		m.end(s)
	}
	m.audit()
	maintained(t, m.l)
	m.audit()
	_ = f.Close()
	m.l = open(t, b, upkeep)
	m.audit()
	if m.compacted {
		m.settled()
	}
	sound(t, b)
	must(checkpointIsReplay(b))
}

func (m *market) some() (record.Builder, []kv) {
	var all []kv
	b := record.NewBuilder(record.Codec(m.rng.IntN(5)))
	for range 1 + m.rng.IntN(4) {
		r := kv{sold[m.rng.IntN(len(sold))], fmt.Sprint("v", m.rng.Uint32(), strings.Repeat("x", m.rng.IntN(800))), m.rng.Int64N(1 << 41)}
		must(b.Append(r.record()))
		all = append(all, r)
	}
	return *b, all
}

func (m *market) note(p int32, d *deal, all []kv) {
	for _, r := range all {
		m.told[p] = append(m.told[p], &told{r, d})
	}
}

// sell sends a batch of a transaction, which begins with it if none is open.
func (m *market) sell(s *seller, p int32) {
	b, all := m.some()
	b.SetProducer(s.id, s.epoch, s.next[p])
	batch, err := b.Build()
	must(err)
	if s.deal == nil {
		s.deal = &deal{}
	}
	base := appended(m.t, m.l, Append{Topic: m.topic.ID, Partition: p, Batch: recordtest.InTransaction(batch)})
	if base != int64(len(m.told[p])) {
		m.t.Fatalf("base %d instead of %d", base, len(m.told[p]))
	}
	s.last[p] = &repeat{slices.Clone(batch), base}
	s.next[p] += int32(len(all))
	s.where[p] = true
	m.note(p, s.deal, all)
}

func (m *market) plain(p int32) {
	b, all := m.some()
	batch, err := b.Build()
	must(err)
	appended(m.t, m.l, Append{Topic: m.topic.ID, Partition: p, Batch: batch})
	m.note(p, nil, all)
}

// again sends the last batch once more: it is a duplicate, or fenced.
func (m *market) again(s *seller, p int32) {
	if s.last[p] == nil {
		return
	}
	batch := slices.Clone(s.last[p].batch)
	fenced := batch.ProducerEpoch() < s.epoch
	r := <-send(m.l, Append{Topic: m.topic.ID, Partition: p, Batch: batch})
	if fenced && !errors.Is(r.err, state.ErrProducerFenced) || !fenced && (r.err != nil || r.base != s.last[p].base) {
		m.t.Fatalf("the last batch again: %+v, want %d or fenced: %v", r, s.last[p].base, fenced)
	}
}

// end ends a transaction in its partitions, and in others at times.
func (m *market) end(s *seller) {
	commit := m.rng.IntN(2) == 0
	end := &TransactionEnd{Producer: s.id, Epoch: s.epoch, Commit: commit}
	for p := range int32(marketPartitions) {
		if s.where[p] || m.rng.IntN(8) == 0 {
			end.Partitions = append(end.Partitions, state.Place{Topic: m.topic.ID, Partition: p})
		}
	}
	bumps := m.rng.IntN(2) == 0
	if bumps {
		end.Epoch++
		for p := range s.last { // without a marker the old epoch is not fenced
			if !slices.Contains(end.Partitions, state.Place{Topic: m.topic.ID, Partition: int32(p)}) {
				s.last[p] = nil
			}
		}
	}
	must(m.l.ProposeAll(m.t.Context(), nil, end))
	for _, place := range end.Partitions {
		m.told[place.Partition] = append(m.told[place.Partition], nil)
	}
	if s.deal != nil {
		*s.deal = deal{ended: true, committed: commit}
	}
	s.deal = nil
	clear(s.where)
	if bumps {
		s.epoch++
		s.next = [marketPartitions]int32{}
	}
}

// stable is what the last stable offset must be.
func (m *market) stable(p int32) int64 {
	for offset, r := range m.told[p] {
		if r != nil && r.deal != nil && !r.deal.ended {
			return int64(offset)
		}
	}
	return int64(len(m.told[p]))
}

func (m *market) delete(p int32) {
	asked := m.rng.Int64N(int64(len(m.told[p])) + 1)
	m.starts[p] = max(m.starts[p], min(asked, m.stable(p)))
	start, err := m.l.DeleteRecords(m.t.Context(), m.topic.ID, p, asked)
	if err != nil || start != m.starts[p] {
		m.t.Fatalf("begins at %d, want %d, %v", start, m.starts[p], err)
	}
}

// due is what a consumer must see from an offset on.
func (m *market) due(p int32, from int64) map[int64]kv {
	all := map[int64]kv{}
	for offset := from; offset < m.stable(p); offset++ {
		if r := m.told[p][offset]; r != nil && (r.deal == nil || r.deal.committed) {
			all[offset] = r.kv
		}
	}
	return all
}

// audit reads everything, from the beginning, from the middle and on from where it
// read last.
func (m *market) audit() {
	m.t.Helper()
	for p := range int32(marketPartitions) {
		stableIsFrom(m.t, m.l, m.topic.ID, p, m.starts[p], m.stable(p))
		m.readers[p].next = max(m.readers[p].next, m.starts[p])
		m.reads(&m.readers[p], p)
		for range 3 {
			from := m.starts[p] + m.rng.Int64N(int64(len(m.told[p]))-m.starts[p]+1)
			m.reads(&consumer{next: from}, p)
		}
		m.reads(&consumer{next: m.starts[p]}, p)
	}
}

// reads lets a consumer read on, and compares what it gets.
func (m *market) reads(c *consumer, p int32) {
	m.t.Helper()
	from := c.next
	c.values, c.offsets = nil, nil
	c.read(m.t, m.l, m.topic.ID, p, 1+m.rng.IntN(3000))
	want := m.due(p, from)
	if m.compacted {
		want = latest(want, c.offsets)
	}
	if !slices.IsSorted(c.offsets) || !slices.Equal(c.offsets, slices.Sorted(maps.Keys(want))) {
		m.t.Fatalf("partition %d from %d: offsets %v, want %v", p, from, c.offsets, slices.Sorted(maps.Keys(want)))
	}
	for i, offset := range c.offsets {
		if want[offset].value != c.values[i] {
			m.t.Fatalf("partition %d offset %d: %.40q, want %.40q", p, offset, c.values[i], want[offset].value)
		}
	}
}

// latest leaves out what compaction may have taken away and has: records behind
// which there is one with the same key.
func latest(all map[int64]kv, got []int64) map[int64]kv {
	newest := map[string]int64{}
	for offset, r := range all {
		newest[r.key] = max(newest[r.key], offset)
	}
	left := map[int64]kv{}
	for offset, r := range all {
		if _, there := slices.BinarySearch(got, offset); there || newest[r.key] == offset {
			left[offset] = r
		}
	}
	return left
}

// settled makes passes until all is clean, and finds just the last committed value
// of each key, and the markers of aborts.
func (m *market) settled() {
	for p := range int32(marketPartitions) {
		for range 30 { // enough to be worth it
			r := kv{"more", strings.Repeat("y", 4000), 1}
			appended(m.t, m.l, Append{Topic: m.topic.ID, Partition: p, Batch: keyed(record.None, r)})
			m.told[p] = append(m.told[p], &told{r, nil})
		}
	}
	maintained(m.t, m.l)
	maintained(m.t, m.l)
	for p := range int32(marketPartitions) {
		pieces := m.l.pieces(state.Place{Topic: m.topic.ID, Partition: p})
		if dirty(pieces) < len(pieces) {
			m.t.Errorf("partition %d is not clean", p)
		}
		want := latest(m.due(p, m.starts[p]), nil)
		aborts := 0
		for offset, r := range m.raw(p) {
			if r.key == "" {
				aborts++
				continue
			}
			if want[offset] != r {
				m.t.Errorf("partition %d offset %d has %.40v still", p, offset, r)
			}
			delete(want, offset)
		}
		if len(want) > 0 {
			m.t.Errorf("partition %d has not %.100v", p, want)
		}
		if known := len(m.l.state.Partition(state.Place{Topic: m.topic.ID, Partition: p}).Aborted); known != aborts {
			m.t.Errorf("partition %d has %d markers of aborts, %d are known", p, aborts, known)
		}
	}
	m.audit()
}

// raw is all that is stored of a partition; a marker of an abort has no key.
func (m *market) raw(p int32) map[int64]kv {
	all := map[int64]kv{}
	for next := m.starts[p]; ; {
		f, err := m.l.Fetch(m.t.Context(), m.topic.ID, p, next, 1<<20)
		must(err)
		if len(f.Batches) == 0 {
			return all
		}
		for _, data := range f.Batches {
			b := record.Batch(data)
			if b.Control() {
				if marker, err := b.Marker(); err != nil || marker.Commit {
					m.t.Errorf("partition %d has a marker of a commit at offset %d, %v", p, b.BaseOffset(), err)
				}
			}
			must(b.Each(1<<24, func(r *record.Record) error {
				if r.Offset >= m.starts[p] {
					all[r.Offset] = kv{string(r.Key), string(r.Value), r.Timestamp}
				}
				if b.Control() {
					all[r.Offset] = kv{}
				}
				return nil
			}))
			next = b.NextOffset()
		}
	}
}
