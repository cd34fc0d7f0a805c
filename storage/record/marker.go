package record

import (
	"encoding/binary"
	"fmt"
)

// Marker is what a control batch says: how a transaction of its producer ended
// (KIP-98).
type Marker struct {
	Commit           bool  // else it was aborted
	CoordinatorEpoch int32 // of the transaction coordinator that ended it
}

// What the record of a marker has in its key and its value: a version, 0, each,
// and then what it says.
const (
	markerKeySize   = 2 + 2
	markerValueSize = 2 + 4

	markerAbort  = 0
	markerCommit = 1
)

// NewMarker builds a control batch: base offset 0, leader epoch -1, one record at
// time ms (milliseconds since 1970), and no sequence.
func NewMarker(producer int64, epoch int16, m Marker, ms int64) Batch {
	var key [markerKeySize]byte
	var value [markerValueSize]byte
	if m.Commit {
		binary.BigEndian.PutUint16(key[2:], markerCommit)
	}
	binary.BigEndian.PutUint32(value[2:], uint32(m.CoordinatorEpoch))
	b := NewBuilder(None)
	b.SetProducer(producer, epoch, -1)
	err := b.Append(&Record{Timestamp: ms, Key: key[:], Value: value[:]})
	batch, built := b.Build()
	if err != nil || built != nil {
		panic(fmt.Sprint("a marker cannot be built: ", err, built)) // it is always the same size
	}
	binary.BigEndian.PutUint16(batch[atAttributes:], transactionalFlag|controlFlag)
	batch.seal()
	return batch
}

// Marker returns what a control batch says. It accepts only what NewMarker builds, with
// any base offset and leader epoch, and does not look at the CRC.
//
// Errors: ErrCorrupt.
func (b Batch) Marker() (m Marker, err error) {
	if err := b.VerifyHeader(); err != nil {
		return m, fmt.Errorf("%w: marker: %w", ErrCorrupt, err)
	}
	if b.attributes() != transactionalFlag|controlFlag || b.Count() != 1 || b.LastOffsetDelta() != 0 ||
		b.ProducerID() < 0 || b.ProducerEpoch() < 0 || b.BaseSequence() != -1 {
		return m, fmt.Errorf("%w: it is not the marker of a transaction", ErrCorrupt)
	}
	err = b.Each(HeaderSize, func(r *Record) error {
		if len(r.Key) != markerKeySize || len(r.Value) != markerValueSize || len(r.Headers) > 0 {
			return fmt.Errorf("%w: marker with a key of %d bytes and a value of %d", ErrCorrupt, len(r.Key), len(r.Value))
		}
		version, kind := binary.BigEndian.Uint16(r.Key), binary.BigEndian.Uint16(r.Key[2:])
		if version != 0 || kind != markerAbort && kind != markerCommit || binary.BigEndian.Uint16(r.Value) != 0 {
			return fmt.Errorf("%w: marker of version %d and type %d", ErrCorrupt, version, kind)
		}
		m = Marker{Commit: kind == markerCommit, CoordinatorEpoch: int32(binary.BigEndian.Uint32(r.Value[2:]))}
		return nil
	})
	return m, err
}
