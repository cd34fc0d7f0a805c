package bridge

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/queue"
	"github.com/weirmq/weir/cloud/queue/routing"
	"github.com/weirmq/weir/cloud/shard"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/storagetest"
)

// TestRandomSchedules appends records, makes topics, binds and unbinds queues, with nodes
// that come and go at any moment, on a bucket that fails in every way. A queue that is
// bound still must have each record that matches and became durable after it was bound,
// once, and none that the same node had read before.
func TestRandomSchedules(t *testing.T) {
	n := uint64(60)
	if os.Getenv("WEIR_SOAK") == "1" {
		n *= 100
	}
	due := 0
	for seed := range n {
		synctest.Test(t, func(t *testing.T) {
			s := &random{t: t, rng: rand.New(rand.NewPCG(seed, 5)), bucket: mem.New(), shards: 1 + uint32(seed%2)}
			if s.shards == 2 {
				s.bucket = twoShards(t)
			}
			defer s.end()
			s.takeOver(0)
			for range 80 {
				s.step()
			}
			s.takeOver(0)
			time.Sleep(time.Minute)
			due += s.check()
		})
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	if due == 0 {
		t.Error("no record was due")
	}
}

// random is one schedule.
type random struct {
	t      *testing.T
	rng    *rand.Rand
	bucket *mem.Bucket
	shards uint32
	nodes  []*world
	faults []*storagetest.Faults
	topics []broker.Topic
	puts   []*put
	queues []*bound
	now    int // counts what has happened
}

// put is a record.
type put struct {
	topic     string
	partition int32
	body      string
	durable   int // when that was known; 0: never
	read      int // which node had read it, or was past it; 0: perhaps none
}

// bound is a queue that was bound.
type bound struct {
	name, key string
	topic     string // the only one whose records match; "": all
	since     int    // when the binding was there; 0: perhaps never
	unbound   bool   // or perhaps
	not       map[string]bool
}

func (s *random) node() *world { return s.nodes[len(s.nodes)-1] }

func (s *random) lost() bool {
	return slices.ContainsFunc(s.node().shards, func(s *shard.Shard) bool { return s.Log.Err() != nil })
}

func (s *random) takeOver(trouble float64) {
	if len(s.nodes) > 0 {
		switch s.rng.IntN(3) {
		case 0:
			_ = s.faults[len(s.faults)-1].Close()
		case 1:
			s.node().end()
		}
	}
	for {
		f := storagetest.NewFaults(s.bucket, s.rng.Uint64())
		f.Random(storagetest.Odds{Fail: trouble, Applied: trouble, Late: trouble, Again: trouble, Land: 0.1, Before: 20 * time.Millisecond, After: 20 * time.Millisecond})
		w, err := tryOpen(s.t, f, s.shards)
		if err == nil {
			s.nodes, s.faults = append(s.nodes, w), append(s.faults, f)
			w.Start()
			return
		}
		if !errors.Is(err, storagetest.ErrInjected) {
			s.t.Fatal(err)
		}
	}
}

func (s *random) end() {
	for _, w := range s.nodes {
		w.end()
	}
}

func (s *random) step() {
	if s.lost() {
		s.takeOver(0.01)
	}
	s.now++
	switch n := s.rng.IntN(20); {
	case n < 1 || len(s.topics) == 0:
		name := fmt.Sprint("t", len(s.topics))
		if t, err := s.node().broker.CreateTopic(s.t.Context(), name, 2, nil); err == nil {
			s.topics = append(s.topics, t)
		}
	case n < 9:
		s.put()
	case n < 12:
		s.bind()
	case n < 13:
		s.unbind()
	case n < 16:
		time.Sleep(time.Duration(s.rng.IntN(300)) * time.Millisecond)
	case n < 18:
		s.settle()
	default:
		s.takeOver([]float64{0, 0.01, 0.02}[s.rng.IntN(3)])
	}
}

func (s *random) put() {
	t := s.topics[s.rng.IntN(len(s.topics))]
	partition := int32(s.rng.IntN(2))
	var all []record.Record
	var puts []*put
	for range 1 + s.rng.IntN(3) {
		p := &put{topic: t.Name, partition: partition, body: fmt.Sprint(len(s.puts))}
		s.puts, puts = append(s.puts, p), append(puts, p)
		all = append(all, reading(t.Name+"/d", p.body))
	}
	answer := make(chan error, 1)
	s.node().broker.Append(broker.Append{Topic: t.ID, Partition: partition, Batch: batchOf(s.t, record.None, all...)}, func(_ int64, err error) { answer <- err })
	if <-answer != nil {
		return
	}
	for _, p := range puts {
		p.durable = s.now
	}
}

func (s *random) bind() {
	b := &bound{name: fmt.Sprint("q", len(s.queues)), key: "#", not: make(map[string]bool)}
	if s.rng.IntN(2) == 0 {
		b.topic = s.topics[s.rng.IntN(len(s.topics))].Name
		b.key = b.topic + ".*"
	}
	for _, p := range s.puts {
		b.not[p.body] = p.read == len(s.nodes)
	}
	if _, err := s.node().shard.Queues.DeclareQueue(s.t.Context(), queue.DefaultVhost, b.name, plain()); err != nil {
		return
	}
	s.queues = append(s.queues, b)
	if s.node().shard.Queues.Bind(s.t.Context(), queue.DefaultVhost, routing.Binding{Source: exchange, Destination: b.name, Key: b.key}) == nil {
		b.since = s.now
	}
}

func (s *random) unbind() {
	if len(s.queues) == 0 {
		return
	}
	for _, b := range s.queues {
		if s.rng.IntN(3) > 0 {
			_ = s.node().shard.Queues.Unbind(s.t.Context(), queue.DefaultVhost, routing.Binding{Source: exchange, Destination: b.name, Key: b.key})
			b.unbound = true // perhaps
		}
	}
}

// settle waits until all is read, if it can be.
func (s *random) settle() {
	time.Sleep(5 * time.Second)
	if synctest.Wait(); s.node().Lag() > 0 || s.lost() {
		return
	}
	for _, p := range s.puts {
		if p.durable > 0 {
			p.read = len(s.nodes)
		}
	}
}

// check compares the queues with what was put, and returns how many records were due.
func (s *random) check() (due int) {
	for _, b := range s.queues {
		got := make(map[string]bool)
		last := make(map[string]*put)
		for _, d := range s.node().deliveries(b.name) {
			body := string(d.Body)
			if got[body] {
				s.t.Errorf("queue %s has record %s twice", b.name, body)
			}
			if got[body] = true; b.not[body] {
				s.t.Errorf("queue %s has record %s, which was read before it was bound", b.name, body)
			}
			var n int
			if _, err := fmt.Sscan(body, &n); err != nil {
				s.t.Fatal(err)
			}
			p := s.puts[n]
			if b.topic != "" && p.topic != b.topic {
				s.t.Errorf("queue %s has a record of %s", b.name, p.topic)
			}
			place := fmt.Sprint(p.topic, p.partition)
			if before := last[place]; before != nil && fmt.Sprintf("%9s", before.body) > fmt.Sprintf("%9s", body) {
				s.t.Errorf("queue %s has record %s after %s", b.name, body, before.body)
			}
			last[place] = p
		}
		for _, p := range s.puts {
			if b.since == 0 || b.unbound || p.durable <= b.since || b.topic != "" && b.topic != p.topic {
				continue
			}
			if due++; !got[p.body] {
				s.t.Errorf("queue %s does not have record %s, which became durable at %d; it was bound at %d", b.name, p.body, p.durable, b.since)
			}
		}
	}
	return due
}
