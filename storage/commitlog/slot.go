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

// seal finishes the entries: small batches are merged, and everything is copied
// into the bodies that the journal, and afterwards the tail cache, keeps.
func (b *builder) seal() error {
	now := b.log.now().UnixMilli()
	for key, d := range b.runs {
		body, sum, err := d.encode(now)
		if err != nil {
			return fmt.Errorf("encode run of partition %d of topic %v: %w", key.Partition, key.Topic, err)
		}
		e := &b.slot.entries[d.at]
		e.Body, e.Sum, e.Summed = body, sum, true
	}
	return nil
}

// encode returns the body of the run's entry and its CRC32C. now is the time of the
// append in milliseconds. The batches have been verified, so the sum is computed from
// their own CRCs.
func (d *draft) encode(now int64) (body []byte, sum uint32, err error) {
	items := merge(d.items)
	d.run.Batches = len(items)
	size := 0
	for _, it := range items {
		size += len(it.batch)
	}
	head := state.RunFixed + len(d.run.Sources)*state.MaxSource
	for i := range d.run.Sources {
		head += len(d.run.Sources[i].Stream.Gateway)
	}
	body = state.AppendRunHead(make([]byte, 0, head+size), &d.run)
	dataAt, next := len(body), d.run.Base
	for _, it := range items {
		at := len(body)
		body = append(body, it.batch...)
		b := record.Batch(body[at:])
		b.SetBaseOffset(next)
		b.SetLeaderEpoch(d.run.Epoch)
		if it.appendTime {
			b.SetLogAppendTime(now)
		}
		next = b.NextOffset()
	}
	if err := state.SealRun(body, dataAt); err != nil {
		return nil, 0, err
	}
	sum = crc.Sum(body[:dataAt])
	rest := body[dataAt:]
	for _, it := range items {
		sum = record.ExtendCRC(sum, record.Batch(rest[:len(it.batch)]))
		rest = rest[len(it.batch):]
	}
	return body, sum, nil
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
