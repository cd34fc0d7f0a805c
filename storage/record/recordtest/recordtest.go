// Package recordtest builds small record batches for tests.
package recordtest

import (
	"encoding/binary"
	"fmt"

	"github.com/weirmq/weir/storage/crc"
	"github.com/weirmq/weir/storage/record"
)

// Batch builds an uncompressed batch with one record for each value, all of
// them at time 1000.
func Batch(values ...string) record.Batch { return Build(record.NewBuilder(record.None), values...) }

// Produced is a batch of an idempotent producer.
func Produced(id int64, epoch int16, sequence int32, values ...string) record.Batch {
	b := record.NewBuilder(record.None)
	b.SetProducer(id, epoch, sequence)
	return Build(b, values...)
}

// Transactional is a batch of a transaction.
func Transactional(id int64, epoch int16, sequence int32, values ...string) record.Batch {
	return InTransaction(Produced(id, epoch, sequence, values...))
}

// InTransaction makes a producer's batch one of a transaction.
func InTransaction(b record.Batch) record.Batch {
	SetFlag(b, 0x10)
	return b
}

// Timed builds a batch with one record for each time; its value is the time.
func Timed(times ...int64) record.Batch {
	b := record.NewBuilder(record.None)
	for _, ts := range times {
		must(b.Append(&record.Record{Timestamp: ts, Value: fmt.Append(nil, ts)}))
	}
	out, err := b.Build()
	must(err)
	return out
}

// Build finishes a batch with one record for each value, all of them at time 1000.
func Build(b *record.Builder, values ...string) record.Batch {
	for _, v := range values {
		must(b.Append(&record.Record{Timestamp: 1000, Value: []byte(v)}))
	}
	out, err := b.Build()
	must(err)
	return out
}

// SetFlag sets a bit of a batch's attributes.
func SetFlag(b record.Batch, bit byte) {
	b[22] |= bit
	Reseal(b)
}

// Reseal makes the CRC of a batch match again.
func Reseal(b record.Batch) {
	binary.BigEndian.PutUint32(b[17:], crc.Sum(b[21:]))
}

// must is for what cannot fail.
func must(err error) {
	if err != nil {
		panic(err)
	}
}
