package kafka

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/access"
	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/group"
	"github.com/weirmq/weir/cloud/login"
	"github.com/weirmq/weir/cloud/machine"
	"github.com/weirmq/weir/cloud/quota"
	"github.com/weirmq/weir/cloud/settings"
	"github.com/weirmq/weir/cloud/shard"
	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/weir"
)

// twoOwners is two nodes of a cluster of three shards: a has the catalogue and shard 1, b has
// shard 2 and a copy of the catalogue, which is made anew when it is asked for.
type twoOwners struct {
	t         testing.TB
	a, b      *door
	here      map[string]net.Listener // further ones of a and b, for route=here
	tunnels   sync.WaitGroup
	deaf      atomic.Int32                  // tunnels that got that
	opened    atomic.Int32                  // tunnels to node a
	stalled   atomic.Pointer[chan struct{}] // until it is closed, what node a answers is on its way; nil: it arrives
	frozen    atomic.Pointer[io.PipeReader] // what node a answers in tunnels that begin now; nil: the truth
	catalogue *shard.Shard
	asked     int                              // of a, for clients of b
	super     string                           // principal that may do everything
	told      atomic.Pointer[journal.Position] // up to which an answer of a waited for others the last time
	copying   sync.Mutex                       // held while a copy is made and set: none replaces a newer one
	copies    atomic.Int32
}

func newTwoOwners(t testing.TB) *twoOwners { return newTwoOwnersWith(t, "User:root", false) }

// newTwoOwnersWith is newTwoOwners with another principal that may do everything. authorize
// says that others need ACLs.
func newTwoOwnersWith(t testing.TB, super string, authorize bool) *twoOwners {
	t.Helper()
	p, bucket := &twoOwners{t: t, super: super, here: make(map[string]net.Listener)}, mem.New()
	var brokers [2]*broker.Broker
	var records [2]*broker.Records
	var listeners [2]net.Listener
	for i, name := range []string{"a", "b"} {
		listeners[i], p.here[name] = listen(t), listen(t)
		brokers[i] = broker.New(broker.Options{Shards: 3, Partitions: 4, AutoCreate: true,
			Told: func(_ context.Context, at journal.Position) { p.told.Store(&at) },
			Self: broker.Node{ID: int32(7 + i), Name: name, Addresses: cluster.Addresses{
				cluster.Kafka: {"": listeners[i].Addr().String(), "here": p.here[name].Addr().String()}, cluster.Peer: {"": "of " + name}}}})
	}
	for i := range records {
		records[i] = broker.NewRecords(brokers[i], broker.RecordsOptions{Ask: func(ctx context.Context, node broker.Node, what string, question []byte) ([]byte, error) {
			return records[node.ID-7].Answer(ctx, what, question)
		}})
		t.Cleanup(func() {
			if err := records[i].Close(); err != nil {
				t.Error(err)
			}
		})
	}
	a, b := brokers[0], brokers[1]
	p.catalogue = p.lead(a, bucket, 0)
	p.a = serve(t, Options{Records: records[0]}, access.Options{Users: func() *auth.Auth { return p.catalogue.Users }, Quotas: func() *quota.Quotas { return p.catalogue.Quotas }, Authorize: authorize}, listeners[0], a)
	p.b = serve(t, Options{Records: records[1], Owner: &Owner{
		CreateTopic: func(ctx context.Context, who auth.Who, name string) (broker.Topic, int16, error) {
			t, code := p.a.CreateTopic(ctx, who, name)
			return t, code, nil
		},
		NewProducerID: func(ctx context.Context, who auth.Who) (int64, int16, error) {
			id, code := p.a.NewProducerID(ctx, who)
			return id, code, nil
		},
		Perform: func(ctx context.Context, who auth.Who, key, version int16, client string, body []byte) ([]byte, error) {
			p.asked++
			return p.a.Perform(ctx, who, key, version, client, body)
		},
		Refresh: func(context.Context) { p.copy(b) },
	}}, access.Options{}, listeners[1], b)
	b.FollowAt(0, a.Self(), 1, "cluster")
	b.FollowAt(1, a.Self(), 1, "")
	a.FollowAt(2, b.Self(), 1, "")
	p.copy(b)                                  // else b does not know the catalogue when the test begins
	p.inBackground(func(ctx context.Context) { // what changes reaches the copy soon
		for tick := time.NewTicker(20 * time.Millisecond); ctx.Err() == nil; {
			p.copy(b)
			select {
			case <-tick.C:
			case <-ctx.Done():
				tick.Stop()
			}
		}
	})
	for id, of := range map[uint32]*broker.Broker{1: a, 2: b} {
		s := p.lead(of, bucket, id)
		p.inBackground(func(ctx context.Context) {
			of.FollowCatalogue(ctx, s, func(topic string, err error) { t.Errorf("topic %q is not opened: %v", topic, err) })
		})
	}
	t.Cleanup(func() {
		for _, d := range []*door{p.a, p.b} {
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	return p
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// inBackground runs a task of a node until the test ends.
func (p *twoOwners) inBackground(task func(context.Context)) {
	ctx, cancel := context.WithCancel(p.t.Context())
	done := make(chan struct{})
	go func() { defer close(done); task(ctx) }()
	p.t.Cleanup(func() { cancel(); <-done })
}

// lead makes a node the owner of a shard.
func (p *twoOwners) lead(b *broker.Broker, bucket storage.Bucket, id uint32) *shard.Shard {
	quiet := slog.New(slog.DiscardHandler)
	o := shard.Options{Log: quiet, Part: shard.PartOf(id, 3), Users: auth.Options{SuperUsers: []string{p.super}},
		Groups: group.Options{InitialDelay: -1, ConsumerHeartbeat: 100 * time.Millisecond},
		Topics: &machine.Topics{
			All:  func() []broker.Topic { all, _ := b.Topics(); return all },
			ByID: func(id weir.TopicID) (broker.Topic, bool) { return broker.Topic{ID: id}, true },
		}}
	o.Txns.Shard, o.Txns.Shards = id, b.TransactionShards()
	s := shard.New(o)
	if err := s.Open(p.t.Context(), commitlog.Options{Bucket: bucket, Shard: id, Shards: 3, Node: b.Self().Name, Log: quiet}); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		if err := s.Close(); err != nil {
			p.t.Error(err)
		}
	})
	b.Lead(s)
	return s
}

// copy makes the copy of a node anew.
func (p *twoOwners) copy(b *broker.Broker) {
	p.copying.Lock()
	defer p.copying.Unlock()
	topics, err := p.a.broker.Topics()
	if err != nil {
		p.t.Error(err)
	}
	at := p.catalogue.Log.Acked()
	c := &broker.Copy{Owner: "a", Tag: fmt.Sprint(p.copies.Add(1)), Asked: time.Now(), Quotas: quota.New(quota.Options{}), Position: journal.Position{Epoch: at.Epoch, Slot: at.Slot - 1}}
	c.SetTopics(topics)
	if c.Users, err = auth.Copied(p.catalogue.Users.Copy(), auth.Options{SuperUsers: []string{"User:root"}}); err != nil {
		p.t.Error(err)
	}
	if c.Settings, err = settings.Copied(p.catalogue.Settings.Copy()); err != nil {
		p.t.Error(err)
	}
	b.SetCopy(c)
}

// TestTwoOwners: clients of either node find the leader of each partition and the
// coordinator of each group, and use them.
func TestTwoOwners(t *testing.T) {
	p := newTwoOwners(t)
	cl := p.b.client(t, kgo.DefaultProduceTopic("t"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	admin := kadm.NewClient(cl)
	if _, err := admin.CreateTopic(t.Context(), 6, 1, nil, "t"); err != nil {
		t.Fatalf("create a topic through the other node: %v", err)
	}
	for _, d := range []*door{p.a, p.b} {
		m, err := kadm.NewClient(d.client(t)).Metadata(within30s(t), "t")
		if err != nil || len(m.Brokers) != 2 || m.Controller != 7 {
			t.Fatalf("nodes %+v, controller %d, %v", m.Brokers, m.Controller, err)
		}
		for _, part := range m.Topics["t"].Partitions {
			want := int32(6 + d.broker.RouteOf(weir.SliceOf(weir.TopicID(m.Topics["t"].ID), part.Partition)))
			if part.Leader != want {
				t.Errorf("partition %d is led by node %d, want %d", part.Partition, part.Leader, want)
			}
		}
	}
	const count = 60
	for i := range count {
		if err := cl.ProduceSync(within30s(t), &kgo.Record{Partition: int32(i % 6), Value: fmt.Append(nil, i)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"g1", "g2", "g3", "g4"} {
		reader := p.a.client(t, kgo.ConsumerGroup(name), kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		poll(t, reader, count)
		if err := reader.CommitUncommittedOffsets(within30s(t)); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []*door{p.a, p.b} {
		admin := kadm.NewClient(d.client(t))
		groups, err := admin.ListGroups(within30s(t))
		if err != nil || len(groups) != 4 {
			t.Errorf("groups %v, %v", groups, err)
		}
		lags, err := admin.Lag(within30s(t), "g1", "g2", "g3", "g4")
		if err != nil {
			t.Fatal(err)
		}
		for name, lag := range lags {
			if lag.Error() != nil || lag.Lag.Total() != 0 || len(lag.Lag["t"]) != 6 {
				t.Errorf("group %s: %v, lag %d", name, lag.Error(), lag.Lag.Total())
			}
		}
	}
}

// TestNewLeader: the answer for a partition of another node names the node (KIP-951).
func TestNewLeader(t *testing.T) {
	p := newTwoOwners(t)
	topic, err := p.a.broker.CreateTopic(t.Context(), "t", 2, nil)
	if err != nil {
		t.Fatal(err)
	}
	there := int32(0) // the partition of node b
	if p.a.broker.RouteOf(weir.SliceOf(topic.ID, 0)) != 2 {
		there = 1
	}
	cl := p.a.client(t)
	direct, err := cl.Broker(7).RetriableRequest(within30s(t), metadataFor(false, "t"))
	if err != nil || direct == nil {
		t.Fatal(err)
	}
	for _, version := range []int16{11, 12, 15, 16, 17} {
		q := kmsg.NewPtrFetchRequest()
		q.Version, q.MaxBytes, q.ReplicaID = version, 1000, -1
		ft := kmsg.NewFetchRequestTopic()
		ft.Topic, ft.TopicID = "t", topic.ID
		for i := range int32(2) {
			fp := kmsg.NewFetchRequestTopicPartition()
			fp.Partition, fp.PartitionMaxBytes, fp.CurrentLeaderEpoch = i, 1000, -1
			ft.Partitions = append(ft.Partitions, fp)
		}
		q.Topics = append(q.Topics, ft)
		r := &request{api: p.a.api(1), version: version, conn: &conn{s: p.a.Server, listener: &p.a.o.Listeners[0], session: login.Of(login.Anonymous)}}
		r.rights = access.Rights{}
		if !p.a.access.Judge(&r.rights, func(error) {}) {
			t.Fatal("no rights")
		}
		f := fetching{s: p.a.Server, ctx: t.Context(), r: r, q: q, left: 1000}
		body := f.all().AppendTo(nil)
		resp := kmsg.NewPtrFetchResponse()
		resp.SetVersion(version)
		if err := resp.ReadFrom(body); err != nil {
			t.Fatalf("version %d: %v", version, err)
		}
		for _, part := range resp.Topics[0].Partitions {
			leader, want := part.CurrentLeader.LeaderID, int32(-1)
			if part.Partition == there && version >= leaderFetch {
				want = 8
			}
			if leader != want || (part.ErrorCode == kerr.NotLeaderForPartition.Code) != (part.Partition == there) {
				t.Errorf("version %d: partition %d has leader %d, error %d; want %d", version, part.Partition, leader, part.ErrorCode, want)
			}
		}
		if nodes := len(resp.Brokers); (nodes == 1) != (version >= nodesFetch) {
			t.Errorf("version %d: %d nodes", version, nodes)
		} else if nodes == 1 && net.JoinHostPort(resp.Brokers[0].Host, fmt.Sprint(resp.Brokers[0].Port)) != p.b.addr {
			t.Errorf("version %d: %+v", version, resp.Brokers)
		}
	}
	q := kmsg.NewPtrProduceRequest()
	q.Acks = -1
	pt := kmsg.NewProduceRequestTopic()
	pt.Topic, pt.TopicID = "t", topic.ID
	pp := kmsg.NewProduceRequestTopicPartition()
	pp.Partition, pp.Records = there, batchOf(t, record.None, "x")
	pt.Partitions = append(pt.Partitions, pp)
	q.Topics = append(q.Topics, pt)
	got, err := cl.Broker(7).Request(within30s(t), q)
	if err != nil {
		t.Fatal(err)
	}
	resp := got.(*kmsg.ProduceResponse)
	part := resp.Topics[0].Partitions[0]
	if part.ErrorCode != kerr.NotLeaderForPartition.Code || part.CurrentLeader.LeaderID != 8 || len(resp.Brokers) != 1 || resp.Brokers[0].NodeID != 8 {
		t.Errorf("%+v, nodes %+v", part, resp.Brokers)
	}
}

// TestForward: requests about the catalogue are performed by its owner, whichever node
// gets them, as the client of that node.
func TestForward(t *testing.T) {
	p := newTwoOwners(t)
	cl := p.b.client(t)
	node := cl.Broker(8)
	create := kmsg.NewPtrCreateTopicsRequest()
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = "t", 3, 1
	create.Topics = append(create.Topics, topic)
	for _, want := range []int16{0, kerr.TopicAlreadyExists.Code} {
		resp, err := create.RequestWith(within30s(t), node)
		if err != nil || resp.Topics[0].ErrorCode != want {
			t.Errorf("create a topic: %+v, %v; want %d", resp, err, want)
		}
	}
	alter := kmsg.NewPtrIncrementalAlterConfigsRequest()
	res := kmsg.NewIncrementalAlterConfigsRequestResource()
	res.ResourceType, res.ResourceName = kmsg.ConfigResourceTypeTopic, "t"
	config := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
	config.Name, config.Value = "retention.ms", kmsg.StringPtr("5000")
	res.Configs = append(res.Configs, config)
	alter.Resources = append(alter.Resources, res)
	if resp, err := alter.RequestWith(within30s(t), node); err != nil || resp.Resources[0].ErrorCode != 0 {
		t.Errorf("alter a topic: %+v, %v", resp, err)
	}
	if got, err := p.a.broker.Topic("t"); err != nil || got.Configs["retention.ms"] != "5000" || got.Partitions != 3 {
		t.Errorf("%+v, %v", got, err)
	}
	if p.asked != 3 {
		t.Errorf("the owner was asked %d times", p.asked)
	}
	if _, err := p.a.Perform(t.Context(), auth.Who{Principal: "User:x"}, 0, 9, "", nil); err == nil {
		t.Error("a Produce is forwarded")
	}
	if _, err := p.b.Perform(t.Context(), auth.Who{Principal: "User:x"}, 19, 7, "", create.AppendTo(nil)); err == nil {
		t.Error("a node without the catalogue performs what is forwarded")
	}
	if _, err := p.a.Perform(t.Context(), auth.Who{Principal: "User:x"}, 19, 7, "", []byte{1, 2}); err == nil {
		t.Error("garbage is performed")
	}
}
