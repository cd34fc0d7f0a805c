package record

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/weirmq/weir/storage/crc"
)

// HeaderSize is the number of bytes before the records of a batch.
const HeaderSize = 61

// Where the fields of a batch header begin. Bytes before crcFrom, the CRC
// itself among them, are not covered by the CRC.
const (
	atBaseOffset      = 0
	atLength          = 8
	atLeaderEpoch     = 12
	atMagic           = 16
	atCRC             = 17
	crcFrom           = 21
	atAttributes      = 21
	atLastOffsetDelta = 23
	atBaseTimestamp   = 27
	atMaxTimestamp    = 35
	atProducerID      = 43
	atProducerEpoch   = 51
	atBaseSequence    = 53
	atCount           = 57
)

// lengthFrom is where the bytes begin that the length field counts.
const lengthFrom = 12

const magic = 2

// Bits of the attributes. The others are reserved, or are written by a
// compacting broker (KIP-534), and are left as they are.
const (
	codecMask         = 0x07
	logAppendTimeFlag = 0x08
	transactionalFlag = 0x10
	controlFlag       = 0x20
)

// Errors of this package, to be tested with errors.Is.
var (
	// ErrShort: the bytes end inside the batch; more of them may complete it.
	ErrShort = errors.New("short record batch")

	// ErrCorrupt: the bytes are not a batch, or not one that a Kafka client
	// could read, or their CRC does not match.
	ErrCorrupt = errors.New("corrupt record batch")

	// ErrMagic: a batch of another version (Kafka's before 0.11, or a future
	// one).
	ErrMagic = errors.New("record batch version is not 2")

	// ErrTooLarge: the batch exceeds the caller's cap, or what the format can express.
	// The batch itself may be sound.
	ErrTooLarge = errors.New("record batch too large")

	// ErrEmpty: a batch without records cannot be built.
	ErrEmpty = errors.New("record batch without records")
)

// Batch is the bytes of exactly one RecordBatch v2, as on the wire and at
// rest. It comes from Next, Builder.Build or MergeSmall; on other bytes Verify,
// Each, VerifyRecords and Admit return errors, while the accessors need
// HeaderSize bytes.
type Batch []byte

// Next cuts the first batch off p; b and rest alias p. It looks at length and
// version only: call Verify before believing anything else.
//
// Errors: ErrShort when p ends inside the batch (or is empty), ErrMagic,
// ErrCorrupt when the length cannot be that of a batch. On an error rest is p.
func Next(p []byte) (b Batch, rest []byte, err error) {
	if len(p) < lengthFrom {
		return nil, p, ErrShort
	}
	length := int32(binary.BigEndian.Uint32(p[atLength:]))
	if length <= atMagic-lengthFrom {
		return nil, p, fmt.Errorf("%w: length field is %d", ErrCorrupt, length)
	}
	if len(p) <= atMagic {
		return nil, p, ErrShort
	}
	// The version comes first: an old message set may be shorter than a header of
	// version 2, and must get ErrMagic.
	if m := p[atMagic]; m != magic {
		return nil, p, fmt.Errorf("%w: it is %d", ErrMagic, m)
	}
	if length < HeaderSize-lengthFrom {
		return nil, p, fmt.Errorf("%w: length field is %d", ErrCorrupt, length)
	}
	// In 64 bits: on a 32-bit machine the sum may not fit an int.
	size := int64(length) + lengthFrom
	if int64(len(p)) < size {
		return nil, p, ErrShort
	}
	return Batch(p[:size:size]), p[size:], nil
}

// BaseOffset is the offset of the first record that the batch had before compaction.
// The CRC does not cover it.
func (b Batch) BaseOffset() int64 { return int64(binary.BigEndian.Uint64(b[atBaseOffset:])) }

// SetBaseOffset places the batch in a partition, in place.
func (b Batch) SetBaseOffset(offset int64) {
	binary.BigEndian.PutUint64(b[atBaseOffset:], uint64(offset))
}

// LeaderEpoch is the epoch of the owner that placed the batch, -1 before that
// (KIP-320). The CRC does not cover it.
func (b Batch) LeaderEpoch() int32 { return int32(binary.BigEndian.Uint32(b[atLeaderEpoch:])) }

// SetLeaderEpoch notes which owner placed the batch, in place.
func (b Batch) SetLeaderEpoch(epoch int32) {
	binary.BigEndian.PutUint32(b[atLeaderEpoch:], uint32(epoch))
}

// LastOffsetDelta is the distance from the base offset to the last offset
// that the batch takes up, compacted records included.
func (b Batch) LastOffsetDelta() int32 {
	return int32(binary.BigEndian.Uint32(b[atLastOffsetDelta:]))
}

// NextOffset is the first offset after the batch.
func (b Batch) NextOffset() int64 { return b.BaseOffset() + int64(b.LastOffsetDelta()) + 1 }

// Dense reports whether the batch is long enough to have a header, and has a record at
// each of its offsets.
func (b Batch) Dense() bool {
	return len(b) >= HeaderSize && b.Count() > 0 && b.LastOffsetDelta() == b.Count()-1
}

// Count is the number of records in the batch. Compaction can make it smaller
// than LastOffsetDelta()+1, down to 0.
func (b Batch) Count() int32 { return int32(binary.BigEndian.Uint32(b[atCount:])) }

// BaseTimestamp is what the records' timestamp deltas count from, in
// milliseconds since 1970.
func (b Batch) BaseTimestamp() int64 { return int64(binary.BigEndian.Uint64(b[atBaseTimestamp:])) }

// MaxTimestamp is the largest timestamp of the records in milliseconds since
// 1970, or the time of the append if LogAppendTime.
func (b Batch) MaxTimestamp() int64 { return int64(binary.BigEndian.Uint64(b[atMaxTimestamp:])) }

// ProducerID is the id of an idempotent or transactional producer, else -1.
func (b Batch) ProducerID() int64 { return int64(binary.BigEndian.Uint64(b[atProducerID:])) }

// ProducerEpoch is the epoch that goes with ProducerID, else -1.
func (b Batch) ProducerEpoch() int16 { return int16(binary.BigEndian.Uint16(b[atProducerEpoch:])) }

// BaseSequence is the first record's number in its producer's sequence for
// this partition, else -1.
func (b Batch) BaseSequence() int32 { return int32(binary.BigEndian.Uint32(b[atBaseSequence:])) }

// LastSequence is the last record's number in its producer's sequence, else
// -1. After 2^31-1 comes 0.
func (b Batch) LastSequence() int32 {
	base := b.BaseSequence()
	if base < 0 {
		return -1
	}
	return int32((uint32(base) + uint32(b.LastOffsetDelta())) & math.MaxInt32)
}

func (b Batch) attributes() uint16 { return binary.BigEndian.Uint16(b[atAttributes:]) }

// Codec says how the records are compressed. Verify refuses unknown ones.
func (b Batch) Codec() Codec { return Codec(b.attributes() & codecMask) }

// Transactional reports whether the batch belongs to a transaction (KIP-98).
func (b Batch) Transactional() bool { return b.attributes()&transactionalFlag != 0 }

// Control reports whether the batch holds a transaction marker instead of messages.
// Only a broker may write one.
func (b Batch) Control() bool { return b.attributes()&controlFlag != 0 }

// LogAppendTime reports whether MaxTimestamp, the time of the append, replaces the
// timestamp of every record (KIP-32).
func (b Batch) LogAppendTime() bool { return b.attributes()&logAppendTimeFlag != 0 }

// SetLogAppendTime makes ms the timestamp of the batch and of all of its
// records, in place. It rewrites the CRC, so the batch must have been
// verified before.
func (b Batch) SetLogAppendTime(ms int64) {
	binary.BigEndian.PutUint16(b[atAttributes:], b.attributes()|logAppendTimeFlag)
	b.setMaxTimestamp(ms)
}

// SetProducer makes the batch that of an idempotent producer, in place. It rewrites the CRC,
// so the batch must have been verified before.
func (b Batch) SetProducer(id int64, epoch int16, sequence int32) {
	binary.BigEndian.PutUint64(b[atProducerID:], uint64(id))
	binary.BigEndian.PutUint16(b[atProducerEpoch:], uint16(epoch))
	binary.BigEndian.PutUint32(b[atBaseSequence:], uint32(sequence))
	b.seal()
}

func (b Batch) setMaxTimestamp(ms int64) {
	binary.BigEndian.PutUint64(b[atMaxTimestamp:], uint64(ms))
	b.seal()
}

// seal writes the CRC of a finished batch.
func (b Batch) seal() {
	binary.BigEndian.PutUint32(b[atCRC:], crc.Sum(b[crcFrom:]))
}

// Verify proves that the batch is whole: its header makes sense and its CRC matches. It
// does not look at the records: VerifyRecords does. Base offset and leader epoch lie
// outside the CRC: the caller must compare them with what it stored.
//
// Errors: ErrShort, ErrMagic, ErrCorrupt.
func (b Batch) Verify() error {
	if err := b.VerifyHeader(); err != nil {
		return err
	}
	want := binary.BigEndian.Uint32(b[atCRC:])
	if got := crc.Sum(b[crcFrom:]); got != want {
		return fmt.Errorf("%w: CRC32C is %08x, header says %08x", ErrCorrupt, got, want)
	}
	return nil
}

// VerifyHeader proves what can be proved without the CRC and the records: b is one
// batch, and its header makes sense. It is for callers that have verified all of its
// bytes with a checksum of their own.
//
// Errors: as Verify.
func (b Batch) VerifyHeader() error {
	_, rest, err := Next(b)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return fmt.Errorf("%w: %d bytes behind its end", ErrCorrupt, len(rest))
	}
	if c := b.Codec(); !c.known() {
		return fmt.Errorf("%w: unknown codec %d", ErrCorrupt, c)
	}
	count, last := b.Count(), b.LastOffsetDelta()
	// Compaction leaves holes, hence ≥; it may even leave no record at all,
	// but a batch always took up at least one offset.
	if count < 0 || last < 0 || last < count-1 {
		return fmt.Errorf("%w: %d records in %d+1 offsets", ErrCorrupt, count, last)
	}
	if b.Codec() == None {
		return checkCount(count, len(b)-HeaderSize)
	}
	return nil
}

// checkCount returns an error if size bytes of plain records cannot hold count records.
func checkCount(count int32, size int) error {
	if int64(count)*minRecordSize > int64(size) {
		return fmt.Errorf("%w: %d records in %d bytes", ErrCorrupt, count, size)
	}
	return nil
}
