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
	Value []byte // nil: what the key names was removed
}

// The versions of keys and values that are written. All readers know them.
const (
	commitKeyVersion   = 1
	commitValueVersion = 3
	groupKeyVersion    = 2
	groupValueVersion  = 3
)

// minRecord is the least number of bytes that a record takes in a batch; maxRecords
// is how many are looked up at once.
const (
	minRecord  = 32
	maxRecords = 10_000
)

// maxDescription is the largest description of a group, in bytes. A larger one leaves
// out the subscriptions and assignments of the members.
const maxDescription = 512 << 10

// History returns records of a partition of the offsets topic from an offset on, in
// order, and the offset of the next record. It returns about maxBytes of records, and
// at least one if there is any. Offsets between records may be empty, as in any
// compacted topic. The last offset always has a record, for readers that wait for it.
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
		from = list[len(list)-1].at + 1 // none of these has a record any more
	}
}

// placeholder returns a record for the last offset when nothing else is left there:
// the removal of a group without a name.
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

// record encodes a change. ok is false if the name of its topic is not known, or if a
// newer change has replaced it.
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

// encodeDescription encodes the members of a classic group for the offsets topic.
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

// appendText appends a string in the protocol's older encoding, after its length in 2
// bytes.
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
