package state

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/weirmq/weir/storage/crc"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/weir"
)

// bodyVersion is the first byte of the body of every entry here.
const bodyVersion = 1

// MaxName is the longest gateway id, topic name or configuration key.
const MaxName = 1<<16 - 1

// minSource and maxSource are the bytes that a source takes in a run, without
// the gateway's id.
const (
	minSource = 1 + 12 + 1 + 5
	MaxSource = 3 + 12 + 1 + 4*10 + 5
)

// outsideCRC is how many bytes at the front of a batch its own CRC leaves
// uncovered: base offset, length, leader epoch, magic and the CRC itself.
const outsideCRC = 21

// RunFixed is the size of the head of a run without its sources.
const RunFixed = 45

// Run is the batches that one slot brought to one partition.
type Run struct {
	Topic     weir.TopicID
	Partition int32
	Base      int64 // offset of the first record
	Epoch     int32 // of the owner that wrote it
	Batches   int
	Sources   []Source // one for each append of a gateway, in the order of the batches
	Data      []byte   // the batches, one after the other
	dataAt    int      // where data begins in the body
}

// AppendRunHead encodes everything of r but its data; the checksum stays empty
// until SealRun. Each source has Prev < First <= Last.
func AppendRunHead(p []byte, r *Run) []byte {
	p = append(p, bodyVersion, 0, 0, 0, 0)
	p = append(p, r.Topic[:]...)
	p = binary.BigEndian.AppendUint32(p, uint32(r.Partition))
	p = binary.BigEndian.AppendUint64(p, uint64(r.Base))
	p = binary.BigEndian.AppendUint32(p, uint32(r.Epoch))
	p = binary.BigEndian.AppendUint32(p, uint32(r.Batches))
	p = binary.BigEndian.AppendUint32(p, uint32(len(r.Sources)))
	for i := range r.Sources {
		s := &r.Sources[i]
		p = binary.AppendUvarint(p, uint64(len(s.Stream.Gateway)))
		p = append(p, s.Stream.Gateway...)
		p = append(p, s.Stream.Buffer[:]...)
		p = append(p, byte(s.Stream.Lane))
		p = binary.AppendUvarint(p, s.Prev)
		p = binary.AppendUvarint(p, s.First-s.Prev)
		p = binary.AppendUvarint(p, s.Last-s.First)
		p = binary.AppendUvarint(p, uint64(s.Row.Partitions))
		p = binary.AppendUvarint(p, s.Row.From)
	}
	return p
}

// SealRun writes the checksum of a finished body whose data begins at dataAt.
func SealRun(body []byte, dataAt int) error {
	sum, err := runChecksum(body, dataAt)
	binary.BigEndian.PutUint32(body[1:], sum)
	return err
}

// runChecksum covers what no batch's CRC does: the head of the run and the
// first bytes of each batch.
func runChecksum(body []byte, dataAt int) (uint32, error) {
	sum := crc.Update(0, body[5:dataAt])
	for rest := body[dataAt:]; len(rest) > 0; {
		b, next, err := record.Next(rest)
		if err != nil {
			return 0, err
		}
		sum = crc.Update(sum, b[:outsideCRC])
		rest = next
	}
	return sum, nil
}

// DecodeRun decodes the body of a run and proves that it agrees with itself: its
// checksum, the number of batches, offsets without a hole, one epoch. It does not check
// the batches' own CRCs, since the slot has a CRC over all of it; readers of a part of
// a slot must check them. The result aliases body.
func DecodeRun(body []byte) (*Run, error) {
	r, want, err := decodeRunHead(body)
	if err != nil {
		return nil, err
	}
	sum, err := runChecksum(body, r.dataAt)
	if err != nil {
		return nil, fmt.Errorf("%w: run entry: %w", ErrCorrupt, err)
	}
	if sum != want {
		return nil, fmt.Errorf("%w: run entry: checksum over what lies outside the batches' CRCs does not match", ErrCorrupt)
	}
	batches, _, err := CutRun(r.Data, r.Base, r.Epoch)
	if err != nil {
		return nil, err
	}
	if len(batches) != r.Batches || r.Batches == 0 {
		return nil, fmt.Errorf("%w: run entry: %d batches instead of %d", ErrCorrupt, len(batches), r.Batches)
	}
	return r, nil
}

// decodeRunHead decodes a run without proving it.
func decodeRunHead(body []byte) (r *Run, sum uint32, err error) {
	d, err := newDecoder("run", body)
	if err != nil {
		return nil, 0, err
	}
	sum = d.Uint32()
	r = &Run{Topic: d.ID(), Partition: int32(d.Uint32()), Base: int64(d.Uint64()), Epoch: int32(d.Uint32())}
	r.Batches = int(d.Uint32())
	r.Sources = make([]Source, d.count(d.Uint32(), minSource))
	for i := range r.Sources {
		s := &r.Sources[i]
		s.Stream.Gateway = d.name()
		s.Stream.Buffer = d.bufferID()
		s.Stream.Lane = weir.Lane(d.Byte())
		s.Prev = d.Uvarint()
		s.First = s.Prev + d.Uvarint()
		s.Last = s.First + d.Uvarint()
		partitions := d.Uvarint()
		s.Row = weir.Row{Partitions: int32(partitions), From: d.Uvarint()}
		if s.First <= s.Prev || s.Last < s.First || partitions > MaxPartitions || !s.Maps(r.Partition) {
			d.Fail()
		}
	}
	r.dataAt = len(body) - d.Len()
	r.Data = d.Rest()
	if d.Bad() || r.Base < 0 || r.Partition < 0 || r.Epoch < 0 {
		return nil, 0, d.corrupt("its head is cut off, or its numbers are out of range")
	}
	return r, sum, nil
}

// CutRun cuts the data of a run into its batches and proves that they are at
// their offsets, one behind the other from base, with the epoch of the owner
// that wrote them. next is the offset behind the last one.
func CutRun(data []byte, base int64, epoch int32) (batches []record.Batch, next int64, err error) {
	next = base
	for len(data) > 0 {
		b, rest, err := record.Next(data)
		switch {
		case err != nil:
			return nil, 0, fmt.Errorf("%w: batch at offset %d: %w", ErrCorrupt, next, err)
		case b.BaseOffset() != next:
			return nil, 0, fmt.Errorf("%w: batch at offset %d says it is at %d", ErrCorrupt, next, b.BaseOffset())
		case b.LeaderEpoch() != epoch:
			return nil, 0, fmt.Errorf("%w: batch at offset %d has leader epoch %d, not %d", ErrCorrupt, next, b.LeaderEpoch(), epoch)
		case !b.Dense():
			return nil, 0, fmt.Errorf("%w: batch at offset %d has %d records for %d+1 offsets", ErrCorrupt, next, b.Count(), b.LastOffsetDelta())
		}
		batches, next, data = append(batches, b), b.NextOffset(), rest
	}
	return batches, next, nil
}

// EncodeTopicCreated says that a topic was created.
func EncodeTopicCreated(t Topic) []byte {
	p := append([]byte{bodyVersion}, t.ID[:]...)
	p = binary.BigEndian.AppendUint32(p, uint32(t.Partitions))
	p = binary.BigEndian.AppendUint64(p, uint64(t.Created))
	p = appendString(p, t.Name)
	return appendConfigs(p, t.Configs)
}

// appendConfigs writes settings in the order of their keys.
func appendConfigs(p []byte, configs map[string]string) []byte {
	p = binary.BigEndian.AppendUint16(p, uint16(len(configs)))
	for _, key := range slices.Sorted(maps.Keys(configs)) {
		p = appendString(p, key)
		p = appendString(p, configs[key])
	}
	return p
}

func decodeTopicCreated(body []byte) (Topic, error) {
	d, err := newDecoder("topic-created", body)
	if err != nil {
		return Topic{}, err
	}
	t := Topic{ID: d.ID(), Partitions: int32(d.Uint32()), Created: int64(d.Uint64()), Name: d.text()}
	t.Configs = d.configs()
	return t, d.end()
}

// EncodeTopicDeleted says that a topic was deleted.
func EncodeTopicDeleted(id weir.TopicID) []byte { return append([]byte{bodyVersion}, id[:]...) }

func decodeTopicDeleted(body []byte) (weir.TopicID, error) {
	d, err := newDecoder("topic-deleted", body)
	if err != nil {
		return weir.TopicID{}, err
	}
	id := d.ID()
	return id, d.end()
}

// EncodeTopicGrown says how many partitions a topic has from now on.
func EncodeTopicGrown(id weir.TopicID, partitions int32) []byte {
	return binary.BigEndian.AppendUint32(append([]byte{bodyVersion}, id[:]...), uint32(partitions))
}

func decodeTopicGrown(body []byte) (id weir.TopicID, partitions int32, err error) {
	d, err := newDecoder("topic-grown", body)
	if err != nil {
		return weir.TopicID{}, 0, err
	}
	id, partitions = d.ID(), int32(d.Uint32())
	return id, partitions, d.end()
}

// EncodeTopicAltered says what the settings of a topic are, all of them.
func EncodeTopicAltered(id weir.TopicID, configs map[string]string) []byte {
	return appendConfigs(append([]byte{bodyVersion}, id[:]...), configs)
}

func decodeTopicAltered(body []byte) (id weir.TopicID, configs map[string]string, err error) {
	d, err := newDecoder("topic-altered", body)
	if err != nil {
		return weir.TopicID{}, nil, err
	}
	id, configs = d.ID(), d.configs()
	return id, configs, d.end()
}

// EncodeBufferRetired says that a buffer was fully delivered.
func EncodeBufferRetired(gateway string, buffer weir.BufferID) []byte {
	return appendString(append([]byte{bodyVersion}, buffer[:]...), gateway)
}

func decodeBufferRetired(body []byte) (gateway string, buffer weir.BufferID, err error) {
	d, err := newDecoder("buffer-retired", body)
	if err != nil {
		return "", weir.BufferID{}, err
	}
	buffer, gateway = d.bufferID(), d.text()
	return gateway, buffer, d.end()
}

// EncodeProducerIDs says that all ids below next may have been given out.
func EncodeProducerIDs(next uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{bodyVersion}, next)
}

func decodeProducerIDs(body []byte) (next uint64, err error) {
	d, err := newDecoder("producer-ids", body)
	if err != nil {
		return 0, err
	}
	next = d.Uint64()
	return next, d.end()
}

// appendString writes a string of at most maxName bytes.
func appendString(p []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(p, uint16(len(s))), s...)
}

// MaxInflated bounds what the records of one batch may inflate to.
const MaxInflated = 64 << 20
