package cloud

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/amqp091"
	"github.com/weirmq/weir/cloud/amqp091/wire"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/console"
	"github.com/weirmq/weir/cloud/group"
	"github.com/weirmq/weir/cloud/listener"
	"github.com/weirmq/weir/cloud/queue"
	"github.com/weirmq/weir/cloud/queue/state"
	"github.com/weirmq/weir/cloud/split"
	"github.com/weirmq/weir/cloud/txn"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/record/recordtest"
	"github.com/weirmq/weir/storage/weir"
)

// everywhere calls do at the nodes, again until one of them does not say that it is not the
// owner.
func everywhere[T any](t *testing.T, do func(r running) (T, error), nodes ...running) T {
	t.Helper()
	for late := time.Now().Add(20 * time.Second); ; {
		var err error
		for _, r := range nodes {
			var got T
			if got, err = do(r); err == nil {
				return got
			}
			if !errors.Is(err, broker.ErrNotOwner) && !errors.Is(err, group.ErrClosed) && !errors.Is(err, group.ErrUnavailable) && !errors.Is(err, txn.ErrClosed) && !errors.Is(err, txn.ErrUnavailable) && !errors.Is(err, txn.ErrConcurrent) {
				t.Fatal(err)
			}
		}
		if time.Now().After(late) {
			t.Fatal(err)
		}
	}
}

// produce appends a record.
func (r running) produce(topic weir.TopicID, partition int32, value string) (int64, error) {
	type answer struct {
		base int64
		err  error
	}
	answers := make(chan answer, 1)
	r.broker.Append(broker.Append{Topic: topic, Partition: partition, Batch: recordtest.Batch(value)}, func(base int64, err error) { answers <- answer{base, err} })
	a := <-answers
	return a.base, a.err
}

// read returns the values of a partition.
func (r running) read(topic weir.TopicID, partition int32) (values []string, err error) {
	for at := int64(0); ; {
		f, err := r.broker.Fetch(context.Background(), topic, partition, at, 1<<20)
		if err != nil || len(f.Batches) == 0 {
			return values, err
		}
		for _, b := range f.Batches {
			at = record.Batch(b).NextOffset()
			err := record.Batch(b).Each(1<<20, func(x *record.Record) error {
				values = append(values, string(x.Value))
				return nil
			})
			if err != nil {
				return nil, err
			}
		}
		f.Lease.Release()
	}
}

// commit commits an offset of a group.
func (r running) commit(name string, topic weir.TopicID, offset int64) (struct{}, error) {
	groups, err := r.broker.Groups(name)
	if err != nil {
		return struct{}{}, err
	}
	_, err = groups.Commit(context.Background(), group.CommitRequest{Group: name, Generation: -1, Offsets: []group.Offset{{Partition: group.Partition{Topic: topic}, Offset: offset}}})
	return struct{}{}, err
}

// committed returns the offset of a group, -1 if it has none.
func (r running) committed(name string) (int64, error) {
	groups, err := r.broker.Groups(name)
	if err != nil {
		return 0, err
	}
	all, err := groups.Offsets(name, nil)
	if err != nil || len(all) == 0 {
		return -1, err
	}
	return all[0].Offset, nil
}

// begin returns a producer of a transactional id.
func (r running) begin(id string) (txn.Producer, error) {
	txns, err := r.broker.Transactions(id)
	if err != nil {
		return txn.NoProducer, err
	}
	return txns.InitProducerID(context.Background(), txn.InitRequest{ID: id, Timeout: time.Minute})
}

// splits splits the shards, and waits until that is over.
func (r running) splits(t *testing.T, data int) console.Split {
	t.Helper()
	s, err := r.split(t.Context(), data, false)
	for late := time.Now().Add(time.Minute); err == nil && s.Running; time.Sleep(10 * time.Millisecond) {
		if s, err = r.splitState(); time.Now().After(late) {
			t.Fatalf("it is not over: %+v", s)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestSplit: a cluster of one shard gets four with data, and then eight. Everything is there,
// at any node that has it, and goes on.
func TestSplit(t *testing.T) {
	bucket := mem.New()
	first, second := startPair(t, bucket)
	topic, err := first.broker.CreateTopic(t.Context(), "t", 16, nil)
	if err != nil {
		t.Fatal(err)
	}
	const groups = 30
	var producers [groups]txn.Producer
	for p := range int32(16) {
		everywhere(t, func(r running) (int64, error) { return r.produce(topic.ID, p, fmt.Sprint("before ", p)) }, first)
	}
	for i := range groups {
		everywhere(t, func(r running) (struct{}, error) { return r.commit(fmt.Sprint("g", i), topic.ID, int64(i)) }, first)
		producers[i] = everywhere(t, func(r running) (txn.Producer, error) { return r.begin(fmt.Sprint("id", i)) }, first)
	}
	for round, data := range []int{4, 8} {
		nodes := []running{first, second}
		dry, err := first.split(t.Context(), data, true)
		if err != nil || len(dry.Moves) != 4 || dry.Running {
			t.Fatalf("%+v, %v", dry, err)
		}
		if _, err := second.split(t.Context(), data, false); !errors.Is(err, broker.ErrNotOwner) {
			t.Errorf("a node without the catalogue splits shards: %v", err)
		}
		if s := first.splits(t, data); s.Error != "" || s.Running {
			t.Fatalf("%+v", s)
		}
		if _, err := first.split(t.Context(), data, false); !errors.Is(err, split.ErrShards) {
			t.Errorf("it is split into as many as there are: %v", err)
		}
		m, shards := first.broker.Map()
		for slice, shard := range m {
			if (shard == 0) != (weir.Slice(slice) == weir.SliceOfVhost("/")) || shards != data+1 {
				t.Fatalf("slice %d is in shard %d of %d", slice, shard, shards)
			}
		}
		for p := range int32(16) {
			everywhere(t, func(r running) (int64, error) { return r.produce(topic.ID, p, fmt.Sprint("after ", data)) }, nodes...)
			got := everywhere(t, func(r running) ([]string, error) { return r.read(topic.ID, p) }, nodes...)
			if len(got) != 2+round || got[0] != fmt.Sprint("before ", p) || got[1] != "after 4" {
				t.Errorf("partition %d has %v", p, got)
			}
		}
		for i := range groups {
			if got := everywhere(t, func(r running) (int64, error) { return r.committed(fmt.Sprint("g", i)) }, nodes...); got != int64(i) {
				t.Errorf("group %d is at %d", i, got)
			}
			p := everywhere(t, func(r running) (txn.Producer, error) { return r.begin(fmt.Sprint("id", i)) }, nodes...)
			if p.ID != producers[i].ID || p.Epoch != producers[i].Epoch+1+int16(round) {
				t.Errorf("transactional id %d: %+v, and it was %+v", i, p, producers[i])
			}
		}
	}
}

// TestSplitInterrupted: the owner ends in the middle of a move. Before the entry that decides,
// the next owner has the slices, and they can move again; after it, they are in the new
// shard, and clients get there.
func TestSplitInterrupted(t *testing.T) {
	for what, decided := range map[string]bool{"before it is decided": false, "after that": true} {
		t.Run(what, func(t *testing.T) {
			bucket := mem.New()
			first, second := startPair(t, bucket)
			topic, err := first.broker.CreateTopic(t.Context(), "t", 4, nil)
			if err != nil {
				t.Fatal(err)
			}
			for p := range int32(4) {
				everywhere(t, func(r running) (int64, error) { return r.produce(topic.ID, p, "a") }, first)
				everywhere(t, func(r running) (struct{}, error) { return r.commit(fmt.Sprint("g", p), topic.ID, 7) }, first)
			}
			steps, err := split.Plan(weir.FirstMap(1), 1, 1024, weir.SliceSet{})
			if err != nil {
				t.Fatal(err)
			}
			m := weir.Move{ID: weir.MoveID{1}, To: 1}
			for _, s := range steps[:1000] { // nearly all of them
				m.Slices = m.Slices.With(s.Slices)
			}
			first.begins(t, m, decided)
			first.stop()
			<-first.ended
			second.says(t, "leading")
			eventually(t, "the first node is gone", func() bool { return len(second.manager.Members()) == 0 })
			if decided {
				eventually(t, "the move is finished", func() bool {
					for slice := range m.Slices.All() {
						if second.broker.RouteOf(slice) != 1 {
							return false
						}
					}
					return true
				})
				eventually(t, "it is forgotten", func() bool {
					out, _ := second.shards.get(0).Log.Moves()
					return len(out) == 0
				})
			} else if s := second.splits(t, 3); s.Error != "" {
				t.Fatalf("%+v", s)
			}
			for p := range int32(4) {
				everywhere(t, func(r running) (int64, error) { return r.produce(topic.ID, p, "b") }, second)
				if got := everywhere(t, func(r running) ([]string, error) { return r.read(topic.ID, p) }, second); fmt.Sprint(got) != "[a b]" {
					t.Errorf("partition %d has %v", p, got)
				}
				if at := everywhere(t, func(r running) (int64, error) { return r.committed(fmt.Sprint("g", p)) }, second); at != 7 {
					t.Errorf("group %d is at %d", p, at)
				}
			}
			report := second.shards.get(1).Log
			if _, in := report.Moves(); len(in) > 0 {
				t.Errorf("the new shard does not know of %d moves whether they were made", len(in))
			}
		})
	}
}

// begins moves slices of shard 0 up to the entry that decides, which is written if decided is
// set.
func (r running) begins(t *testing.T, m weir.Move, decided bool) {
	t.Helper()
	to, _, err := r.newShard(t.Context(), m.To)
	if err != nil {
		t.Fatal(err)
	}
	from := r.shards.get(0)
	err = from.Log.Separate(t.Context(), m.Slices)
	if err == nil && decided {
		err = carry(t.Context(), from, to, m)
	} else if err == nil {
		err = from.Log.Stop(t.Context(), m)
		e, failed := from.Log.Export(t.Context(), m)
		if err = errors.Join(err, failed); err == nil {
			err = to.Log.Import(t.Context(), m, e)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestSplitOfFormerOwner: a split that ends after its owner has got the catalogue again, and
// has begun another one, does not change what is told of that.
func TestSplitOfFormerOwner(t *testing.T) {
	n := startNode(t, mem.New(), "first")
	n.says(t, "ready")
	own := n.shards.get(0)
	n.splitter.owner, n.splitter.state = own, &console.Split{Running: true, Data: 4}
	old := &console.Split{Running: true, Data: 2}
	n.playSplit(own, []split.Step{{From: 7, To: 8}}, old) // no node has shard 7
	if got, err := n.splitState(); err != nil || !got.Running || got.Error != "" || old.Running || old.Error == "" {
		t.Errorf("%+v, %v; the former one: %+v", got, err, old)
	}
}

// TestStopped: while slices are stopped, the groups and transactional ids in others go on.
func TestStopped(t *testing.T) {
	n := startNode(t, mem.New(), "first")
	n.says(t, "ready")
	topic, err := n.broker.CreateTopic(t.Context(), "t", 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	m := weir.Move{ID: weir.MoveID{1}, To: 1}
	m.Slices.Add(weir.SliceOfGroup("moves"))
	m.Slices.Add(weir.SliceOfTransaction("moves"))
	log := n.shards.get(0).Log
	if err := errors.Join(log.Separate(t.Context(), m.Slices), log.Stop(t.Context(), m)); err != nil {
		t.Fatal(err)
	}
	for name, stopped := range map[string]bool{"moves": true, "stays": false} {
		if _, err := n.commit(name, topic.ID, 1); (err != nil) != stopped {
			t.Errorf("a commit of group %q: %v", name, err)
		}
		if _, err := n.begin(name); (err != nil) != stopped {
			t.Errorf("a producer of transactional id %q: %v", name, err)
		}
	}
}

// TestSplitWithQueues: a cluster of one shard whose nodes have AMQP clients gets more shards. Its
// vhosts stay where they are with what is in them; new ones come into being in the shards
// that have their slices, and clients get there through any node, even if the owner has no
// listener for them.
func TestSplitWithQueues(t *testing.T) {
	bucket := mem.New()
	first := openNode(t, bucket, "first", t.TempDir(), func(o *Options) {
		o.AMQP = []listener.Settings{{Name: "default", Listen: "127.0.0.1:0", SASL: []string{"PLAIN"}, Guests: true}}
		o.Management = []listener.Settings{{Name: "default", Listen: "127.0.0.1:0", SASL: []string{"PLAIN"}, Guests: true}}
	})
	first.run(t)
	first.says(t, "ready")
	second := startNode(t, bucket, "second")
	second.says(t, "ready")
	settings := state.Settings{Durable: true, TTL: -1, MaxLength: -1, MaxBytes: -1, DeliveryLimit: -1}
	vhosts := []string{"/", "a", "b", "c"}
	old := engineOf(t, first, "/")
	for _, v := range vhosts {
		if err := old.CreateVhost(t.Context(), v); err != nil {
			t.Fatal(err)
		}
		if _, err := old.DeclareQueue(t.Context(), v, "q", settings); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		old.Submit(v, queue.Work{Publications: []queue.Publication{{Key: "q", Body: []byte("of " + v)}}}, func(_ []error, err error) { done <- err })
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	if s := first.splits(t, 4); s.Error != "" {
		t.Fatalf("%+v", s)
	}
	for _, v := range vhosts {
		e := everywhere(t, func(r running) (*queue.Engine, error) { return r.broker.Queues(v) }, first, second)
		if at := first.broker.RouteOf(weir.SliceOfVhost(v)); at != 0 || waiting(t, e, v, "q")["of "+v] != 1 {
			t.Errorf("vhost %s is in shard %d, and has %v", v, at, waiting(t, e, v, "q"))
		}
	}
	fresh := ""
	eventually(t, "the second node has a shard for new vhosts, and the first knows that", func() bool {
		for i := range 32 {
			fresh = fmt.Sprint("new ", i)
			if _, err := second.broker.Queues(fresh); err == nil {
				l, known := first.broker.OwnerOf(first.broker.RouteOf(weir.SliceOfVhost(fresh)))
				return known && l.Name == "second"
			}
		}
		return false
	})
	if err := old.CreateVhost(t.Context(), fresh); !errors.Is(err, queue.ErrClosed) {
		t.Errorf("the shard that had the slice creates the vhost: %v", err)
	}
	if err := engineOf(t, second, fresh).CreateVhost(t.Context(), fresh); err != nil {
		t.Fatal(err)
	}
	if second.amqp.Load() != nil {
		t.Error("a node without --amqp serves it before there are clients")
	}
	stream, err := first.tunnelTo(t.Context(), amqp091.Tunnel{Vhost: fresh, User: "guest", Principal: "User:guest", Guest: true, From: "127.0.0.1:4711", To: "127.0.0.1:5672", FrameMax: 4096, ChannelMax: 10})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	f, err := wire.NewReader(stream).Next()
	if err != nil {
		t.Fatal(err)
	}
	if id, _ := wire.SplitMethod(f.Payload); f.Type != wire.FrameMethod || id != wire.IDConnectionOpenOk {
		t.Errorf("the tunnel begins with frame %d, method %v", f.Type, id)
	}
}

// TestDrainDuringMove: a node is stopped while it moves slices. Before they are stopped, it
// gives the move up; afterwards it ends it. Then it hands its shards over.
func TestDrainDuringMove(t *testing.T) {
	for what, decided := range map[string]bool{"before the slices are stopped": false, "when it is decided": true} {
		t.Run(what, func(t *testing.T) {
			bucket := mem.New()
			drains := func(o *Options) { o.Drain, o.Takeover = 2*time.Minute, 10*time.Second }
			first := openNode(t, bucket, "first", t.TempDir(), drains)
			first.run(t)
			first.says(t, "ready")
			second := openNode(t, bucket, "second", t.TempDir(), drains)
			second.run(t)
			second.says(t, "ready")
			eventually(t, "they know each other", func() bool { return len(first.manager.Members()) == 1 && len(second.manager.Members()) == 1 })
			topic, err := first.broker.CreateTopic(t.Context(), "t", 1, nil)
			if err != nil {
				t.Fatal(err)
			}
			everywhere(t, func(r running) (int64, error) { return r.produce(topic.ID, 0, "a") }, first)
			m := weir.Move{ID: weir.MoveID{1}, To: 2} // not the next one: this node waits for it
			m.Slices.Add(weir.SliceOf(topic.ID, 0))
			if decided {
				m.To = 1
			}
			first.remapping.Lock() // the move is not over before this is unlocked
			moved := make(chan error, 1)
			go func() { moved <- first.moveSlices(context.Background(), m) }()
			if decided {
				log := first.shards.get(0).Log
				eventually(t, "the move is decided", func() bool { out, _ := log.Moves(); return len(out) == 1 })
			} else {
				first.says(t, "slices begin to move to a new shard: records are separated, clients notice nothing yet")
			}
			first.stop()
			eventually(t, "the first node drains", first.manager.Draining)
			first.remapping.Unlock()
			if err := <-moved; decided && err != nil || !decided && !errors.Is(err, cluster.ErrDrains) {
				t.Errorf("the move ends with %v", err)
			}
			<-first.ended
			if err := *first.err; err != nil {
				t.Errorf("the first node ended with %v", err)
			}
			shards := 1
			if decided {
				shards = 2
			}
			eventually(t, "the second node has all shards", func() bool { return len(second.shards.all()) == shards })
			for _, own := range second.shards.all() {
				if out, in := own.Log.Moves(); !own.claim.Handed || len(out)+len(in) > 0 {
					t.Errorf("shard %d: %+v, moves that are not over: %v, %v", own.ID, own.claim, out, in)
				}
			}
			everywhere(t, func(r running) (int64, error) { return r.produce(topic.ID, 0, "b") }, second)
			if got := everywhere(t, func(r running) ([]string, error) { return r.read(topic.ID, 0) }, second); fmt.Sprint(got) != "[a b]" {
				t.Errorf("the partition has %v", got)
			}
		})
	}
}
