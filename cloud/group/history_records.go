package group

import (
	"encoding/binary"
	"math"

	"github.com/weirmq/weir/storage/weir"
)

// Record is one record of the offsets topic, as Kafka writes it.
type Record struct {
	At    int64 // offset
	Time  int64 // ms since 1970
	Key   []byte
	Value []byte // nil: what the key names is no more
}

// The versions of keys and values that are written: those that all readers know.
const (
	commitKeyVersion   = 1
	commitValueVersion = 3
	groupKeyVersion    = 2
	groupValueVersion  = 3
)

// minRecord is the least that a record takes in a batch, in bytes; maxRecords is how
// many are looked up at once.
const (
	minRecord  = 32
	maxRecords = 10_000
)

// maxDescription is the largest description of a group, in bytes: beyond it, nothing
// is said of what its members subscribe to and have.
const maxDescription = 512 << 10

// History returns records of a partition of the offsets topic from an offset on, in
// their order, about maxBytes of them and at least one if there is any, and the
// offset of the next record. Offsets between records may be empty, as in any
// compacted topic; at the last one there is always a record, for readers who wait
// for it.
func (c *Coordinator) History(partition int32, from int64, maxBytes int) ([]Record, int64, error) {
	limit := min(maxBytes/minRecord, maxRecords) + 1
	for {
		list, next, err := c.changesFrom(partition, from, limit)
		if err != nil {
			return nil, 0, err
		}
		whole := len(list) < limit
		names := c.topicNames()
		records, size := make([]Record, 0, len(list)), 0
		for i := range list {
			r, ok := list[i].record(names)
			if !ok {
				continue
			}
			if size += minRecord + len(r.Key) + len(r.Value); size > maxBytes && len(records) > 0 {
				return records, next, nil
			}
			records = append(records, r)
		}
		if whole && from < next && (len(records) == 0 || records[len(records)-1].At < next-1) {
			records = append(records, c.placeholder(list, next-1))
		}
		if whole || len(records) > 0 {
			return records, next, nil
		}
		from = list[len(list)-1].at + 1 // none of these means anything any more
	}
}

// placeholder is what stands at the last offset when nothing else is left there: a
// group without a name is no more.
func (c *Coordinator) placeholder(list []change, at int64) Record {
	r := Record{At: at, Key: groupKey("")}
	if len(list) > 0 {
		r.Time = list[len(list)-1].time
	}
	return r
}

// topicNames returns a function that finds the name of a topic.
func (c *Coordinator) topicNames() func(id [16]byte) string {
	c.mu.Lock()
	log := c.log
	c.mu.Unlock()
	known := make(map[[16]byte]string)
	return func(id [16]byte) string {
		name, ok := known[id]
		if !ok && log != nil {
			t, _ := log.TopicByID(weir.TopicID(id))
			name, known[id] = t.Name, t.Name
		}
		return name
	}
}

// record encodes a change. Without the name of its topic, or when it has a newer one
// already, there is nothing to encode.
func (x *change) record(topicName func([16]byte) string) (r Record, ok bool) {
	r = Record{At: x.at, Time: x.time}
	switch x.kind {
	case committed, removed:
		topic := x.topic
		if topic == "" {
			topic = topicName(x.Topic)
		}
		if topic == "" {
			return r, false
		}
		if r.Key = commitKey(x.group, topic, x.Index); x.kind == committed {
			r.Value = x.Offset.value()
		}
	case described:
		if x.value == nil {
			return r, false
		}
		r.Key, r.Value = groupKey(x.group), x.value
	case deleted:
		r.Key = groupKey(x.group)
	}
	return r, true
}

func commitKey(group, topic string, partition int32) []byte {
	b := binary.BigEndian.AppendUint16(nil, commitKeyVersion)
	b = appendText(appendText(b, group), topic)
	return binary.BigEndian.AppendUint32(b, uint32(partition))
}

func (o *Offset) value() []byte {
	b := binary.BigEndian.AppendUint16(nil, commitValueVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(o.Offset))
	b = binary.BigEndian.AppendUint32(b, uint32(o.LeaderEpoch))
	b = appendText(b, o.Metadata)
	return binary.BigEndian.AppendUint64(b, uint64(o.CommittedAt))
}

func groupKey(group string) []byte {
	return appendText(binary.BigEndian.AppendUint16(nil, groupKeyVersion), group)
}

// encodeDescription is what the offsets topic says of the members of a classic group.
func (g *group) encodeDescription(time int64) []byte {
	size := 0
	for _, m := range g.members {
		size += len(m.metadata(g.protocol)) + len(m.assignment)
	}
	b := binary.BigEndian.AppendUint16(nil, groupValueVersion)
	b = appendText(b, g.protocolType)
	b = binary.BigEndian.AppendUint32(b, uint32(g.generation))
	b = appendNullable(appendNullable(b, g.protocol), g.leader)
	b = binary.BigEndian.AppendUint64(b, uint64(time))
	b = binary.BigEndian.AppendUint32(b, uint32(len(g.members)))
	for _, m := range g.inOrder() {
		b = appendNullable(appendText(b, m.id), m.instance)
		b = appendText(appendText(b, m.clientID), m.clientHost)
		b = binary.BigEndian.AppendUint32(b, uint32(min(m.rebalance.Milliseconds(), math.MaxInt32)))
		b = binary.BigEndian.AppendUint32(b, uint32(min(m.session.Milliseconds(), math.MaxInt32)))
		subscription, assignment := m.metadata(g.protocol), m.assignment
		if size > maxDescription {
			subscription, assignment = nil, nil
		}
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(subscription))), subscription...)
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(assignment))), assignment...)
	}
	return b
}

// appendText appends a string of the protocol's older encoding: 2 bytes of length
// before it.
func appendText(b []byte, s string) []byte {
	s = s[:min(len(s), math.MaxInt16)]
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

// appendNullable appends a string, or null if it is empty.
func appendNullable(b []byte, s string) []byte {
	if s == "" {
		return binary.BigEndian.AppendUint16(b, math.MaxUint16)
	}
	return appendText(b, s)
}
