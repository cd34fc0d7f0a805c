package kafka

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/access"
	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/quota"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/weir"
)

// routeHere opens a door with route=here at a node, which reaches the other one.
func (p *twoOwners) routeHere(d *door, o Options) *door {
	p.t.Helper()
	o.Listeners = []Listener{{Name: "here", Here: true}}
	o.Owner, o.Records = d.o.Owner, d.o.Records
	o.Relay = func(_ context.Context, to broker.Node, hello Tunnel) (io.ReadWriteCloser, error) {
		owner := map[string]*door{"a": p.a, "b": p.b}[to.Name]
		near, far := net.Pipe()
		if owner == nil {
			return nil, errors.New("no such node")
		}
		p.tunnels.Go(func() {
			if err := owner.ServeTunnel(hello, far); err != nil {
				_ = far.Close()
			}
		})
		if from := p.frozen.Load(); from != nil && to.Name == "a" {
			p.deaf.Add(1)
			return frozen{near, from}, nil
		}
		if to.Name == "a" {
			p.opened.Add(1)
			return stalling{near, p}, nil
		}
		return near, nil
	}
	here := serve(p.t, o, access.Options{Users: p.users(d), Quotas: p.quotas(d)}, p.here[d.broker.Self().Name], d.broker)
	p.t.Cleanup(func() {
		if err := here.Close(); err != nil {
			p.t.Error(err)
		}
		if err := <-here.served; err != nil {
			p.t.Error(err)
		}
		p.tunnels.Wait()
	})
	return here
}

// TestHere: clients of one address use partitions and groups of all nodes, and see one
// node.
func TestHere(t *testing.T) {
	p := newTwoOwners(t)
	for i, d := range []*door{p.routeHere(p.a, Options{}), p.routeHere(p.b, Options{})} {
		topic := fmt.Sprint("t", i)
		cl := d.client(t, kgo.DefaultProduceTopic(topic), kgo.RecordPartitioner(kgo.ManualPartitioner()))
		admin := kadm.NewClient(cl)
		if _, err := admin.CreateTopic(t.Context(), 6, 1, nil, topic); err != nil {
			t.Fatal(err)
		}
		m, err := admin.Metadata(within30s(t), topic)
		if err != nil || len(m.Brokers) != 1 || m.Controller != hereID || net.JoinHostPort(m.Brokers[0].Host, fmt.Sprint(m.Brokers[0].Port)) != d.addr {
			t.Fatalf("nodes %+v, controller %d, %v", m.Brokers, m.Controller, err)
		}
		for _, part := range m.Topics[topic].Partitions {
			if part.Leader != hereID || part.LeaderEpoch < 0 {
				t.Errorf("partition %d is led by node %d in epoch %d", part.Partition, part.Leader, part.LeaderEpoch)
			}
		}
		const count = 60
		for i := range count {
			cl.Produce(t.Context(), &kgo.Record{Partition: int32(i % 6), Value: fmt.Append(nil, i)}, func(_ *kgo.Record, err error) {
				if err != nil {
					t.Error(err)
				}
			})
		}
		if err := cl.Flush(within30s(t)); err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, name := range []string{"g1", "g2", "g3"} {
			names = append(names, fmt.Sprint(name, topic))
			reader := d.client(t, kgo.ConsumerGroup(names[len(names)-1]), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
			poll(t, reader, count)
			if err := reader.CommitUncommittedOffsets(within30s(t)); err != nil {
				t.Fatal(err)
			}
		}
		groups, err := admin.ListGroups(within30s(t))
		if err != nil || len(groups) != 3*(i+1) {
			t.Errorf("groups %v, %v", groups, err)
		}
		lags, err := admin.Lag(within30s(t), names...)
		if err != nil {
			t.Fatal(err)
		}
		for name, lag := range lags {
			if lag.Error() != nil || lag.Lag.Total() != 0 || len(lag.Lag[topic]) != 6 {
				t.Errorf("group %s: %v, lag %d", name, lag.Error(), lag.Lag.Total())
			}
		}
	}
}

// TestHereEveryVersion: every version of everything has an answer through a node that
// passes it on, which decodes, to the last byte.
func TestHereEveryVersion(t *testing.T) {
	p := newTwoOwners(t)
	topic, err := p.a.broker.CreateTopic(t.Context(), "a", 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	p.copy(p.b.broker)
	d := p.routeHere(p.b, Options{})
	for _, q := range examples(t, topic) {
		a := d.api(q.Key())
		for v := max(a.min, oldest(a.key)); v <= a.max; v++ {
			d.answersWhole(t, q, v)
		}
	}
}

// spreadTopic returns a door with route=here at node b, and a topic of six partitions: those of node
// a, and those of b.
func spreadTopic(t *testing.T, o Options) (p *twoOwners, d *door, topic broker.Topic, ofA, ofB []int32) {
	p = newTwoOwners(t)
	topic, err := p.a.broker.CreateTopic(t.Context(), "t", 6, nil)
	if err != nil {
		t.Fatal(err)
	}
	p.copy(p.b.broker)
	for i := range topic.Partitions {
		if p.a.broker.RouteOf(weir.SliceOf(topic.ID, i)) == 1 {
			ofA = append(ofA, i)
		} else {
			ofB = append(ofB, i)
		}
	}
	if len(ofA) == 0 || len(ofB) == 0 {
		t.Fatalf("partitions %v and %v", ofA, ofB)
	}
	return p, p.routeHere(p.b, o), topic, ofA, ofB
}

// toPartition is a Produce of one batch.
func toPartition(topic broker.Topic, partition int32, batch record.Batch) *kmsg.ProduceRequest {
	q := produceTo(9, topic, -1, batch)
	q.Topics[0].Partitions[0].Partition = partition
	return q
}

// fromAll is a Fetch of all partitions from their start.
func fromAll(topic broker.Topic, wait time.Duration) *kmsg.FetchRequest {
	q := fetchFrom(12, topic, 0, 0, 0, 0, 0, 0)
	q.MaxWaitMillis = int32(wait.Milliseconds())
	return q
}

// TestHereFetchWaits: a Fetch of several owners is answered when one of them has records,
// however long the others would wait, with what all have. Owners that have answered count
// the records for quotas.
func TestHereFetchWaits(t *testing.T) {
	_, d, topic, ofA, ofB := spreadTopic(t, Options{})
	for _, at := range []int32{ofA[0], ofB[0], ofA[0]} {
		reader := d.dial(t)
		whole := fromAll(topic, 20*time.Millisecond)
		before := bytesIn(ask[*kmsg.FetchResponse](reader, whole))
		reader.send(behindThese(fromAll(topic, 5*time.Minute), before))
		writer := d.dial(t)
		if code := ask[*kmsg.ProduceResponse](writer, toPartition(topic, at, batchOf(t, record.None, "x"))).Topics[0].Partitions[0].ErrorCode; code != 0 {
			t.Fatalf("produce: error %d", code)
		}
		got := receiveAs(reader, reader.id, &kmsg.FetchResponse{Version: 12})
		if bytesIn(got)[at] == 0 || len(got.Topics[0].Partitions) != 6 {
			t.Errorf("%+v", got)
		}
	}
}

// bytesIn returns the bytes of records in an answer, by partition.
func bytesIn(resp *kmsg.FetchResponse) map[int32]int {
	all := make(map[int32]int)
	for _, p := range resp.Topics[0].Partitions {
		all[p.Partition] = len(p.RecordBatches)
	}
	return all
}

// behindThese makes a Fetch begin behind the record of each partition that has one.
func behindThese(q *kmsg.FetchRequest, has map[int32]int) *kmsg.FetchRequest {
	size := 0
	for _, n := range has {
		if n > 0 && (size == 0 || n < size) {
			size = n
		}
	}
	for i := range q.Topics[0].Partitions {
		p := &q.Topics[0].Partitions[i]
		if n := has[p.Partition]; n > 0 {
			p.FetchOffset = int64(n / size)
		}
	}
	return q
}

// frozen is the tunnel to a node that takes requests and does not answer.
type frozen struct {
	io.ReadWriteCloser
	from io.Reader
}

func (f frozen) Read(p []byte) (int, error) { return f.from.Read(p) }

// freeze makes node a take requests of tunnels that begin now, and not answer. lose ends
// them.
func (p *twoOwners) freeze() (lose func()) {
	r, w := io.Pipe()
	p.frozen.Store(r)
	return func() {
		p.frozen.Store(nil)
		w.Close()
	}
}

// TestHereOwnerIsLate: an owner that does not answer a Fetch keeps nobody from the records
// of the others.
func TestHereOwnerIsLate(t *testing.T) {
	p, d, topic, ofA, ofB := spreadTopic(t, Options{LateTime: 10 * time.Millisecond})
	w := d.dial(t)
	ask[*kmsg.ProduceResponse](w, toPartition(topic, ofB[0], batchOf(t, record.None, "x")))
	defer p.freeze()()
	got := ask[*kmsg.FetchResponse](d.dial(t), fromAll(topic, 10*time.Millisecond))
	for _, part := range got.Topics[0].Partitions {
		want := int16(0)
		if slices.Contains(ofA, part.Partition) {
			want = kerr.NotLeaderForPartition.Code
		}
		if part.ErrorCode != want || len(part.RecordBatches) > 0 != (part.Partition == ofB[0]) {
			t.Errorf("partition %d: error %d, %d bytes", part.Partition, part.ErrorCode, len(part.RecordBatches))
		}
	}
}

// TestHereOwnerIsLost: when an owner is gone with batches that were not answered, an
// idempotent producer loses its connection, so that no later batch overtakes them. Another
// one is told to repeat them.
func TestHereOwnerIsLost(t *testing.T) {
	p, d, topic, ofA, ofB := spreadTopic(t, Options{})
	lose := p.freeze()
	plain, idempotent := d.dial(t), d.dial(t)
	plain.send(toPartition(topic, ofA[0], batchOf(t, record.None, "x")))
	idempotent.send(toPartition(topic, ofA[0], sequenced(t, 1, 0, 0)))
	eventually(t, func() bool { return p.deaf.Load() == 2 })
	lose()
	got := receiveAs(plain, 1, &kmsg.ProduceResponse{Version: 9}).Topics[0].Partitions[0]
	if got.ErrorCode != kerr.NotLeaderForPartition.Code {
		t.Errorf("%+v", got)
	}
	idempotent.closed()
	for _, at := range []int32{ofA[0], ofB[0]} { // the connection that is left goes on
		if got := ask[*kmsg.ProduceResponse](plain, toPartition(topic, at, batchOf(t, record.None, "y"))).Topics[0].Partitions[0]; got.ErrorCode != 0 {
			t.Errorf("%+v", got)
		}
	}
}

// users and quotas are those of the catalogue, if a node owns it.
func (p *twoOwners) users(d *door) func() *auth.Auth {
	if d != p.a {
		return nil
	}
	return func() *auth.Auth { return p.catalogue.Users }
}

func (p *twoOwners) quotas(d *door) func() *quota.Quotas {
	if d != p.a {
		return nil
	}
	return func() *quota.Quotas { return p.catalogue.Quotas }
}
