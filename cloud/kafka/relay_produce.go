package kafka

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/storage/record"
)

// errLost ends the connection of an idempotent producer when it is not known what an owner
// has done with its batches: no later batch may overtake them. When the producer connects
// again, it sends all of them again, in order.
var errLost = errors.New("an owner is gone with batches of this producer")

// away is the part of a Produce for another node.
type away struct {
	to     broker.Node
	places []placeOf
	strict bool // one of the batches has a producer id
}

// placeOf is a partition in a produceRequest.
type placeOf struct{ topic, part int }

// add adds a partition.
func (a *away) add(at placeOf, p *producedPart) {
	a.places = append(a.places, at)
	a.strict = a.strict || record.Batch(p.records).ProducerID() >= 0
}

// awayFor returns the part for a node.
func awayFor(all []*away, to broker.Node) (*away, []*away) {
	for _, a := range all {
		if a.to.Name == to.Name {
			return a, all
		}
	}
	a := &away{to: to}
	return a, append(all, a)
}

// encode writes the request for the owner. The batches are not copied. acks 0 becomes 1, so
// that a failure is heard of.
func (a *away) encode(q *produceRequest, version int16) net.Buffers {
	w := writer{flexible: version >= flexibleProduce}
	var all net.Buffers
	if q.id == "" {
		w.null()
	} else {
		w.string(q.id)
	}
	acks := q.acks
	if acks == 0 {
		acks = 1
	}
	w.int16(acks)
	w.int32(q.timeout)
	topics := 0
	for i, at := range a.places {
		if i == 0 || at.topic != a.places[i-1].topic {
			topics++
		}
	}
	w.length(topics)
	for i := 0; i < len(a.places); {
		t := &q.topics[a.places[i].topic]
		n := i
		for n < len(a.places) && a.places[n].topic == a.places[i].topic {
			n++
		}
		if version >= idProduce {
			w.p = append(w.p, t.id[:]...)
		} else {
			w.string(t.name)
		}
		w.length(n - i)
		for ; i < n; i++ {
			p := &t.parts[a.places[i].part]
			w.int32(p.index)
			w.length(len(p.records))
			all = append(all, w.p, p.records)
			w.p = nil
			w.tags()
		}
		w.tags()
	}
	w.tags()
	return append(all, w.p)
}

// null writes a null string.
func (w *writer) null() {
	if w.flexible {
		w.p = append(w.p, 0)
		return
	}
	w.p = binary.BigEndian.AppendUint16(w.p, 0xffff)
}

// produceAway passes a part of a Produce on. done is called when the results are in the
// request's partitions.
func (r *request) produceAway(a *away, q *produceRequest, done func()) {
	x := r.exchangeOf(a.encode(q, r.version))
	x.done = func(body []byte, err error) {
		resp := kmsg.NewPtrProduceResponse()
		resp.Version = r.version
		if err == nil {
			err = guarded(resp.ReadFrom, body)
		}
		if err != nil && a.strict {
			r.conn.cancel(fmt.Errorf("%w: %w", errLost, errGone))
		}
		a.take(q, resp, err)
		r.throttledLater(resp.ThrottleMillis)
		done()
	}
	r.conn.relay.to(a.to).send(x)
}

// take stores the results of an owner.
func (a *away) take(q *produceRequest, resp *kmsg.ProduceResponse, err error) {
	type key struct {
		name      string
		id        [16]byte
		partition int32
	}
	found := make(map[key]*kmsg.ProduceResponseTopicPartition)
	for i := range resp.Topics {
		t := &resp.Topics[i]
		for j := range t.Partitions {
			found[key{t.Topic, t.TopicID, t.Partitions[j].Partition}] = &t.Partitions[j]
		}
	}
	for _, at := range a.places {
		t := &q.topics[at.topic]
		p := &t.parts[at.part]
		p.records = nil
		if p.away = found[key{t.name, t.id, p.index}]; p.away == nil {
			p.err = errors.Join(broker.ErrNotOwner, err)
			continue
		}
		p.err = coded(p.away.ErrorCode)
	}
}

// directHere completes what an owner says of the leader of a partition: it is this node, as
// far as the client knows.
func (r *request) directHere(resp *kmsg.ProduceResponse, p *kmsg.ProduceResponseTopicPartition) {
	if here := r.conn.here; here != nil && p.CurrentLeader.LeaderID == here.id && len(resp.Brokers) == 0 {
		b := kmsg.NewProduceResponseBroker()
		b.NodeID, b.Host, b.Port = here.id, here.host, here.port
		resp.Brokers = append(resp.Brokers, b)
	}
}

// writable finds a topic that the client may write to. A node that passes batches on knows
// the topics that the cluster has, whether or not it leads any partition.
func (r *request) writable(ctx context.Context, t *producedTopic, byID bool) (broker.Topic, error) {
	if r.conn.relay == nil {
		return r.topic(kmsg.ACLOperationWrite, t.name, t.id, byID)
	}
	if _, err := r.located(ctx, t.name, t.id, byID); err != nil && !errors.Is(err, broker.ErrUnknownTopic) {
		return broker.Topic{}, err
	}
	topic, err := r.inCopy(kmsg.ACLOperationWrite, t.name, t.id, byID)
	if err == nil && topic.ID == broker.OffsetsTopicID() {
		err = errInternalTopic
	}
	return topic, err
}
