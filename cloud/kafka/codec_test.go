package kafka

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/storage/crc"
	"github.com/weirmq/weir/storage/record"
)

// seal writes the CRC of a batch that a test has changed.
func seal(p []byte) {
	binary.BigEndian.PutUint32(p[17:], crc.Sum(p[21:]))
}

// The hand-made decoder reads what kmsg writes.
func TestReadProduce(t *testing.T) {
	for v := int16(firstProduce); v <= 13; v++ {
		q := kmsg.NewPtrProduceRequest()
		q.Version, q.Acks, q.TransactionID = v, -1, kmsg.StringPtr("tx")
		for i := range byte(3) {
			rt := kmsg.NewProduceRequestTopic()
			rt.Topic, rt.TopicID = string('a'+rune(i)), [16]byte{i}
			for j := range int32(i) {
				rp := kmsg.NewProduceRequestTopicPartition()
				rp.Partition, rp.Records = j, bytes.Repeat([]byte{i}, 300*int(j))
				rp.UnknownTags.Set(5, []byte("tag"))
				rt.Partitions = append(rt.Partitions, rp)
			}
			q.Topics = append(q.Topics, rt)
		}
		p := q.AppendTo(nil)
		got, err := readProduce(p, v)
		if err != nil || got.acks != -1 || len(got.topics) != 3 {
			t.Fatalf("v%d: %+v, %v", v, got, err)
		}
		for i, rt := range q.Topics {
			gt := got.topics[i]
			if v >= 13 && gt.id != rt.TopicID || v < 13 && gt.name != rt.Topic || len(gt.parts) != len(rt.Partitions) {
				t.Fatalf("v%d: topic %+v, want %+v", v, gt, rt)
			}
			for j, rp := range rt.Partitions {
				if gp := gt.parts[j]; gp.index != rp.Partition || !bytes.Equal(gp.records, rp.Records) {
					t.Fatalf("v%d: partition %+v, want %+v", v, gp, rp)
				}
			}
		}
		for n := range p {
			if _, err := readProduce(p[:n], v); err == nil {
				t.Fatalf("v%d: %d of %d bytes are enough", v, n, len(p))
			}
		}
	}
}

func TestReadProduceLimits(t *testing.T) {
	q := kmsg.NewPtrProduceRequest()
	q.Version = 9
	rt := kmsg.NewProduceRequestTopic()
	rt.Partitions = make([]kmsg.ProduceRequestTopicPartition, maxProducedParts/2)
	q.Topics = []kmsg.ProduceRequestTopic{rt, rt}
	if _, err := readProduce(q.AppendTo(nil), 9); err != nil {
		t.Errorf("as many as allowed: %v", err)
	}
	q.Topics = append(q.Topics, rt)
	if _, err := readProduce(q.AppendTo(nil), 9); !errors.Is(err, errTooMany) {
		t.Errorf("more than allowed: %v", err)
	}
}

func FuzzReadProduce(f *testing.F) {
	for _, v := range []int16{3, 9, 13} {
		q := produceTo(v, broker.Topic{Name: "a", ID: [16]byte{1}}, -1, batchOf(f, record.None, "x", "y"), batchOf(f, record.LZ4, "z"))
		f.Add(q.AppendTo(nil), v)
	}
	f.Fuzz(func(t *testing.T, p []byte, version int16) {
		got, err := readProduce(p, version)
		if err != nil {
			return
		}
		for i := range got.topics {
			for j := range got.topics[i].parts {
				part := &got.topics[i].parts[j]
				if err := part.check(got.acks, version); err == nil {
					_ = record.Batch(part.records).VerifyRecords(1 << 20)
				}
			}
		}
	})
}
