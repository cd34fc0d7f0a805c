package queue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/cloud/queue/routing"
	"github.com/weirmq/weir/cloud/queue/state"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/weir"
)

// TestReaderSchedules has a durable reader publish what is in two partitions, with owners
// that come and go at any moment, on a bucket that fails in every way. In the end each
// record is in the queue once, and in order, up to the position.
func TestReaderSchedules(t *testing.T) {
	for seed := range uint64(*seeds) {
		for _, fault := range readerSchedule(t, seed, Mutations{}) {
			t.Fatalf("seed %d: %s", seed, fault)
		}
	}
}

const readerName = "r"

// partitions that the reader reads; records are numbers from 0 on.
var readerPartitions = []state.Partition{{Topic: weir.TopicID{7}}, {Topic: weir.TopicID{7}, Partition: 3}}

// reader publishes as one owner of the shard, as long as this answers.
type reader struct {
	o      *owner
	next   map[state.Partition]int64
	flying bool
	ended  bool
}

func readerSchedule(t *testing.T, seed uint64, m Mutations) (faults []string) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, rng: rand.New(rand.NewPCG(seed, 3)), bucket: twoShards(t), fast: seed%2 == 0, shard: uint32(seed / 2 % 2), mutations: m, tracks: map[string]*track{}}
		defer func() {
			w.end()
			faults = w.faults
			if cause := recover(); cause != nil && cause != any(w) {
				panic(cause)
			}
		}()
		w.takeOver(0)
		for _, q := range []string{"a", "b"} {
			w.owner().declare(q, nil)
			if err := w.owner().Bind(w.ctx(), DefaultVhost, routing.Binding{Source: "amq.topic", Destination: q, Key: "#"}); err != nil {
				w.fatalf("%v", err)
			}
		}
		var readers []*reader
		for range 100 {
			if w.owner().ended() || w.rng.IntN(10) == 0 {
				w.takeOver([]float64{0, 0.01, 0.03}[w.rng.IntN(3)])
			}
			if len(readers) == 0 || readers[len(readers)-1].o != w.owner() {
				if r := w.reader(); r != nil {
					readers = append(readers, r)
				}
			}
			for _, r := range readers { // former owners try, too
				if !r.flying && !r.ended && w.rng.IntN(2) == 0 {
					w.read(r)
				}
			}
			if w.rng.IntN(4) == 0 {
				w.owners[w.rng.IntN(len(w.owners))].faults.LandOne()
			}
			time.Sleep(time.Duration(w.rng.IntN(30)) * time.Millisecond)
			w.hear()
		}
		w.fast = true // for what looks
		w.takeOver(0)
		w.once()
	})
	return faults
}

// reader begins to read as the newest owner; nil if this has ended.
func (w *world) reader() *reader {
	r := &reader{o: w.owner(), next: map[state.Partition]int64{}}
	all, err := r.o.Positions(w.ctx(), DefaultVhost, readerName)
	if err != nil {
		if !r.o.ended() {
			w.fatalf("%v", err)
		}
		return nil
	}
	for _, p := range all {
		r.next[p.Partition] = p.Offset
	}
	return r
}

// read publishes the next records of both partitions: in one slot, or, when some are
// large, in several. Now and then a record is for nobody.
func (w *world) read(r *reader) {
	var work Work
	for range 1 + w.rng.IntN(6) {
		p := readerPartitions[w.rng.IntN(len(readerPartitions))]
		n := r.next[p]
		r.next[p]++
		body := fmt.Appendf(nil, "%d/%d", p.Partition, n)
		if w.rng.IntN(25) == 0 {
			body = append(body, bytes.Repeat([]byte{' '}, parcelBytes/2)...)
		}
		work.Publications = append(work.Publications, Publication{Exchange: "amq.topic", Key: "k", Body: body})
		work.Positions = append(work.Positions, Position{Reader: readerName, Position: state.Position{Partition: p, Offset: n + 1}, After: len(work.Publications)})
	}
	r.flying = true
	w.async(func() func() {
		answer := make(chan error, 1)
		r.o.Submit(DefaultVhost, work, func(outcomes []error, err error) { answer <- errors.Join(append(outcomes, err)...) })
		err := <-answer
		return func() {
			r.flying, r.ended = false, err != nil
			w.failed(r.o, err)
		}
	})
}

// once compares the queues with the positions.
func (w *world) once() {
	all, err := w.owner().Positions(w.ctx(), DefaultVhost, readerName)
	if err != nil {
		w.fatalf("%v", err)
	}
	want := make(map[string]int64)
	for _, p := range all {
		want[fmt.Sprint(p.Partition.Partition)] = p.Offset
	}
	for _, q := range []string{"a", "b"} {
		next := make(map[string]int64)
		for from := int64(0); ; {
			some, err := w.owner().Peek(context.Background(), DefaultVhost, q, "", from, 1000)
			if err != nil {
				w.fatalf("%v", err)
			}
			if len(some) == 0 {
				break
			}
			for _, d := range some {
				from = d.ID + 1
				partition, number, _ := strings.Cut(strings.TrimRight(string(d.Body), " "), "/")
				if number != fmt.Sprint(next[partition]) {
					w.errorf("queue %s: record %s of partition %s, want %d", q, number, partition, next[partition])
					return
				}
				next[partition]++
			}
		}
		for partition, n := range want {
			if next[partition] != n {
				w.errorf("queue %s has %d records of partition %s, whose position is %d", q, next[partition], partition, n)
			}
		}
	}
}

// TestPositions: a Work has positions without publications, and of what nobody takes; -1
// forgets a partition; a new owner knows them.
func TestPositions(t *testing.T) {
	bucket := mem.New()
	s := serve(t, bucket)
	at := func(topic byte, offset int64, after int) Position {
		return Position{readerName, state.Position{Partition: state.Partition{Topic: weir.TopicID{topic}}, Offset: offset}, after}
	}
	for _, w := range []Work{
		{Positions: []Position{at(1, 5, 0), at(2, 6, 0), at(3, 7, 0), at(3, 8, 0)}},
		{Publications: []Publication{{Exchange: "amq.topic", Key: "nobody"}}, Positions: []Position{at(1, 9, 1)}},
		{Positions: []Position{at(2, -1, 0), {Reader: "other", Position: state.Position{Offset: 1}}}},
	} {
		if _, err := s.submit(w); err != nil {
			t.Fatal(err)
		}
	}
	s.end()
	s = serve(t, bucket)
	got, err := s.Positions(t.Context(), DefaultVhost, readerName)
	if want := []state.Position{at(1, 9, 0).Position, at(3, 8, 0).Position}; err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("positions %v, %v, want %v", got, err, want)
	}
	if _, err := s.Positions(t.Context(), "none", readerName); !errors.Is(err, ErrNoVhost) {
		t.Errorf("positions in a vhost that is not there: %v", err)
	}
}

// TestHooks: what is submitted before a binding comes before it in the log; a hook can
// refuse it; and each declaration is told of before its answer.
func TestHooks(t *testing.T) {
	s := serve(t, mem.New())
	s.declare("q", nil)
	no := errors.New("no")
	declared, answered := 0, 0
	s.Hook(Hooks{
		Binding: func(_ context.Context, vhost string, b *routing.Binding, reads bool) (func(), error) {
			if reads == (b.Key == "only") {
				t.Errorf("binding %s: reads %v", b.Key, reads)
			}
			if bound, _, err := s.IsSource(vhost, b.Source); bound || err != nil || s.MayReach(vhost, b.Source, "a.b") {
				t.Errorf("before the binding: bound %v, %v", bound, err)
			}
			if b.Key == "no" {
				return nil, no
			}
			return func() { answered++ }, nil
		},
		Declared: func(vhost string) {
			if declared++; len(s.wishes[vhost].flying) == 0 {
				t.Error("the answer comes before the hook")
			}
		},
	})
	if err := s.Bind(t.Context(), DefaultVhost, routing.Binding{Source: "amq.topic", Destination: "q", Key: "no"}); !errors.Is(err, no) || declared != 0 {
		t.Errorf("a binding that is refused: %v", err)
	}
	if err := s.Bind(t.Context(), DefaultVhost, routing.Binding{Source: "amq.topic", Destination: "q", Key: "a.*"}); err != nil {
		t.Error(err)
	}
	if err := s.BindOnly(t.Context(), DefaultVhost, routing.Binding{Source: "amq.fanout", Destination: "q", Key: "only"}); err != nil {
		t.Error(err)
	}
	if bound, _, err := s.IsSource(DefaultVhost, "amq.topic"); !bound || err != nil || declared != 2 || answered != 2 {
		t.Errorf("after the binding: bound %v, %v; %d declared, %d answered", bound, err, declared, answered)
	}
	if !s.MayReach(DefaultVhost, "amq.topic", "a.b") || s.MayReach(DefaultVhost, "amq.topic", "b") {
		t.Error("it is not known what may reach the queue")
	}
	if _, _, err := s.IsSource("none", "amq.topic"); !errors.Is(err, ErrNoVhost) {
		t.Errorf("a vhost that is not there: %v", err)
	}
}
