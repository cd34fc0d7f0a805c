package sender

import (
	"fmt"

	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/wire"
)

// A batch is compressed if it is at least this large. Below, zstd does not save as much
// as its own frame takes.
const (
	compressBytes   = 512
	compressRecords = 16
)

// packer turns parcels into frames. It is used by one lane.
type packer struct {
	plain, packed *record.Builder
	maxBatch      int // the largest batch that the node takes
}

func newPacker(maxBatch int, plain bool) *packer {
	codec := record.Zstd
	if plain {
		codec = record.None
	}
	return &packer{plain: record.NewBuilder(record.None), packed: record.NewBuilder(codec), maxBatch: maxBatch}
}

// frame packs c, which row has mapped, for a lane of a buffer. An error is caused by
// one of the records.
func (p *packer) frame(id weir.BufferID, lane weir.Lane, row weir.Row, c *parcel) (wire.Frame, error) {
	if c.ranges != nil {
		return &wire.Gap{
			Buffer: id, Lane: lane, Topic: c.key.topic, Partition: c.key.partition,
			Round: c.round, Row: row, Prev: c.prev, Ranges: c.ranges, Count: c.count, Exact: c.exact, Of: c.of, Cause: c.cause,
		}, nil
	}
	b := p.plain
	if c.n >= compressRecords || c.bytes-c.n*entryOverhead > compressBytes {
		b = p.packed
	}
	b.Reset()
	for i := range c.records {
		if err := b.Append(&c.records[i]); err != nil {
			return nil, fmt.Errorf("pack record %d of %d: %w", i+1, c.n, err)
		}
	}
	batch, err := b.Build()
	if err != nil {
		return nil, fmt.Errorf("pack %d records: %w", c.n, err)
	}
	if len(batch) > p.maxBatch {
		return nil, fmt.Errorf("batch of %d bytes, the cloud takes %d: %w", len(batch), p.maxBatch, record.ErrTooLarge)
	}
	return &wire.Append{
		Buffer: id, Lane: lane, Topic: c.key.topic, Partition: c.key.partition,
		Round: c.round, Row: row, Prev: c.prev, First: c.first, Last: c.last, Kind: wire.KindBatch, Batch: batch,
	}, nil
}
