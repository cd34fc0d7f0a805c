package commitlog

import (
	"fmt"

	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/crc"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/record"
)

// slot is one slot of the journal on its way: its entries, and the answers that wait
// for them.
type slot struct {
	number  uint64 // 1, 2, 3 … of this Log; not the journal's
	entries []journal.Entry
	memory  *memory            // of seal: where the entries are laid out
	alone   bool               // it is written even if it has no entries
	answers []func(lost error) // called in order when the slot is durable (nil) or lost
}

// builder turns requests into a slot. Admission, under Log.mu, decides about each
// request and assigns offsets; seal then does the slow part.
type builder struct {
	log  *Log
	spec *speculation
	slot *slot

	runs map[state.Place]*draft
}

// draft is a run before it is encoded.
type draft struct {
	at    int // of its entry in the slot
	run   state.Run
	items []item
}

// item is a batch in a draft. The offset of its first record is fixed when it
// is added: merging keeps records and their order.
type item struct {
	batch      record.Batch
	appendTime bool
}

func newBuilder(l *Log, number uint64) *builder {
	l.spec.slot = number
	return &builder{log: l, spec: l.spec, slot: &slot{number: number}, runs: make(map[state.Place]*draft)}
}

// put adds an entry.
func (b *builder) put(kind uint16, body []byte) {
	b.slot.entries = append(b.slot.entries, journal.Entry{Kind: kind, Body: body})
}

// take adds a batch to the run of its partition. The run stands where its first batch
// was put, so a later batch moves ahead of the entries that were put in between.
// Admission has made sure that none of these is about its partition or its buffer.
func (b *builder) take(key state.Place, a Append, done func(int64, error)) {
	base := b.spec.end(key)
	d := b.add(key, a.Batch, a.AppendTime)
	if a.Source != nil {
		d.run.Sources = append(d.run.Sources, *a.Source)
	}
	b.answer(done, base, nil)
}

// add gives a batch the next offsets of its partition.
func (b *builder) add(key state.Place, batch record.Batch, appendTime bool) *draft {
	base := b.spec.end(key)
	b.spec.ends.set(b.spec.slot, key, base+int64(batch.Count()))
	d := b.runs[key]
	if d == nil {
		d = &draft{at: len(b.slot.entries), run: state.Run{Topic: key.Topic, Partition: key.Partition, Base: base, Epoch: b.spec.leaderEpoch(key, b.log.epoch)}}
		b.put(state.KindRun, nil)
		b.runs[key] = d
	}
	d.items = append(d.items, item{batch, appendTime})
	return d
}

// seal finishes the entries: small batches are merged, and everything is copied into one
// piece of memory, as it will lie in the slot's object. The journal writes it from there,
// and the tail cache keeps it.
func (b *builder) seal() error {
	now := b.log.now().UnixMilli()
	drafts := make(map[int]*draft, len(b.runs)) // by entry
	size := 0
	for _, d := range b.runs {
		d.items = merge(d.items)
		drafts[d.at] = d
		size += d.size()
	}
	for i := range b.slot.entries {
		size += len(b.slot.entries[i].Body)
	}
	m := newMemory(b.log.slots, journal.Room+len(b.slot.entries)*journal.EntryRoom+size)
	p := m.laid.Bytes[:journal.Room]
	for i := range b.slot.entries {
		e := &b.slot.entries[i]
		at := len(p) + journal.EntryRoom
		p = p[:at]
		if d := drafts[i]; d != nil {
			var err error
			if p, e.Sum, err = d.encode(p, now); err != nil {
				return fmt.Errorf("encode run of partition %d of topic %v: %w", d.run.Partition, d.run.Topic, err)
			}
			e.Summed = true
		} else {
			p = append(p, e.Body...)
		}
		e.Body = p[at:len(p):len(p)]
	}
	m.laid.Bytes = p
	b.slot.memory = m
	return nil
}

// size returns how many bytes encode appends at most.
func (d *draft) size() int {
	size := state.RunFixed + len(d.run.Sources)*state.MaxSource
	for i := range d.run.Sources {
		size += len(d.run.Sources[i].Stream.Gateway)
	}
	for _, it := range d.items {
		size += len(it.batch)
	}
	return size
}

// encode appends the body of the run's entry to p, and returns its CRC32C. now is the time
// of the append in milliseconds. The batches have been verified, so the sum is computed
// from their own CRCs.
func (d *draft) encode(p []byte, now int64) (_ []byte, sum uint32, err error) {
	start := len(p)
	d.run.Batches = len(d.items)
	p = state.AppendRunHead(p, &d.run)
	dataAt, next := len(p)-start, d.run.Base
	for _, it := range d.items {
		at := len(p)
		p = append(p, it.batch...)
		b := record.Batch(p[at:])
		b.SetBaseOffset(next)
		b.SetLeaderEpoch(d.run.Epoch)
		if it.appendTime {
			b.SetLogAppendTime(now)
		}
		next = b.NextOffset()
	}
	body := p[start:]
	if err := state.SealRun(body, dataAt); err != nil {
		return nil, 0, err
	}
	sum = crc.Sum(body[:dataAt])
	rest := body[dataAt:]
	for _, it := range d.items {
		sum = record.ExtendCRC(sum, record.Batch(rest[:len(it.batch)]))
		rest = rest[len(it.batch):]
	}
	return p, sum, nil
}

// merge joins small neighbours, so that few records from many gateways become batches
// worth compressing. What cannot be merged stays as it is.
func merge(items []item) []item {
	var merged []item
	for len(items) > 0 {
		var batches []record.Batch
		first := items[0].appendTime
		for len(items) > 0 && items[0].appendTime == first {
			batches, items = append(batches, items[0].batch), items[1:]
		}
		for _, b := range record.MergeSmall(batches) {
			merged = append(merged, item{b, first})
		}
	}
	return merged
}
