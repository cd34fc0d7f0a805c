package commitlog

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record/recordtest"
	"github.com/weirmq/weir/storage/storagetest"
	"github.com/weirmq/weir/storage/weir"
)

var seeds = flag.Int("seeds", 150, "random schedules of TestRandomSchedules")

// TestRandomSchedules drives gateways, idempotent producers and plain writers
// against a log on a bucket that fails in every way, with takeovers at any
// moment, and compares the log with what each of them was told.
func TestRandomSchedules(t *testing.T) {
	for seed := range uint64(*seeds) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, seed)
				for range 150 {
					w.step()
				}
				w.finish()
			})
		})
	}
}

const (
	worldPartitions = 3
	worldStreams    = 3
	worldProducers  = 2
)

// world is one schedule. Only the test's goroutine touches it, but for answers.
type world struct {
	t      *testing.T
	rng    *rand.Rand
	bucket *mem.Bucket
	faults []*storagetest.Faults // one for each owner there was
	logs   []*Log
	topic  state.Topic

	senders   []*sender
	producers []*idempotent
	plain     map[string]error // by value; nil: durable
	asked     map[string]bool  // plain values without an answer yet
	proposals int
	answered  map[string]int     // how often a proposal was answered, by value
	bases     map[string][]int64 // of proposals that are durable, by value
	commands  *recorder          // of the newest owner

	mu      sync.Mutex
	answers []func() // guarded by mu; run by the test's goroutine
}

// sender is one stream of a gateway in one partition, with the sequences that
// belong there.
type sender struct {
	stream    weir.Stream
	partition int32
	sequences []uint64 // ascending; holes belong to other partitions
	sent      int      // of them handed over, as it believes
	acked     uint64
}

// idempotent is a Kafka producer with up to five batches in flight.
type idempotent struct {
	id          int64
	partition   int32
	next, acked int32 // sequences: next to send, all below acked are durable
	total       int32
	bases       map[int32]int64 // of acked batches
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{t: t, rng: rand.New(rand.NewPCG(seed, 1)), bucket: mem.New(), plain: map[string]error{}, asked: map[string]bool{}, answered: map[string]int{}, bases: map[string][]int64{}}
	w.takeOver(0)
	topic, err := w.log().CreateTopic(t.Context(), "t", worldPartitions, nil)
	if err != nil {
		t.Fatal(err)
	}
	w.topic = topic
	for s := range worldStreams {
		for p := range int32(worldPartitions) {
			w.senders = append(w.senders, &sender{stream: *stream(fmt.Sprint("g", s%2), uint32(s)), partition: p})
		}
	}
	for seq := uint64(1); seq < 40; seq++ {
		for s := range worldStreams {
			to := w.senders[s*worldPartitions+w.rng.IntN(worldPartitions)]
			to.sequences = append(to.sequences, seq)
		}
	}
	for i := range worldProducers {
		w.producers = append(w.producers, &idempotent{id: int64(i + 1), partition: int32(i), total: 30, bases: map[int32]int64{}})
	}
	return w
}

func (w *world) log() *Log { return w.logs[len(w.logs)-1] }

// takeOver makes a new process the owner while the old one still runs.
func (w *world) takeOver(trouble float64) {
	f := storagetest.NewFaults(w.bucket, w.rng.Uint64())
	f.Random(storagetest.Odds{
		Fail: trouble, Applied: trouble, Late: trouble, Again: trouble, Land: 0.1,
		Before: 20 * time.Millisecond, After: 20 * time.Millisecond,
	})
	for {
		w.commands = &recorder{kinds: []uint16{130}}
		l, err := Open(w.t.Context(), options(f, with(w.commands), func(o *Options) {
			o.Depth = 1 + w.rng.IntN(4)
			o.TailBytes = int64(w.rng.IntN(20_000))
			o.Linger = time.Duration(w.rng.IntN(2)) * 10 * time.Millisecond
		}))
		if errors.Is(err, storagetest.ErrInjected) {
			continue // before anything was claimed
		}
		if err != nil {
			w.t.Fatal(err)
		}
		w.logs, w.faults = append(w.logs, l), append(w.faults, f)
		break
	}
	// What the new owner does not have, it must be sent again.
	for _, s := range w.senders {
		w.rewind(s, w.log().durableMark(state.MarkKey{Stream: s.stream, Place: state.Place{Topic: w.topic.ID, Partition: s.partition}}))
	}
	for _, p := range w.producers {
		p.next = p.acked
	}
}

func (w *world) rewind(s *sender, mark uint64) {
	s.sent = 0
	for s.sent < len(s.sequences) && s.sequences[s.sent] <= mark {
		s.sent++
	}
	if mark < s.acked {
		w.t.Fatalf("stream %v partition %d: mark %d, but %d was acknowledged", s.stream, s.partition, mark, s.acked)
	}
	s.acked = mark
}

func (w *world) step() {
	switch n := w.rng.IntN(100); {
	case n < 40:
		w.stepSender(w.senders[w.rng.IntN(len(w.senders))])
	case n < 60:
		w.stepProducer(w.producers[w.rng.IntN(len(w.producers))])
	case n < 66:
		w.stepPlain()
	case n < 72:
		w.stepProposal()
	case n < 95:
		time.Sleep(time.Duration(w.rng.IntN(30)) * time.Millisecond)
	case n < 97:
		w.takeOver([]float64{0, 0.02, 0.1}[w.rng.IntN(3)])
	default:
		w.faults[w.rng.IntN(len(w.faults))].LandOne()
	}
	w.hear()
}

// hear takes the answers that have come.
func (w *world) hear() {
	synctest.Wait()
	w.mu.Lock()
	answers := w.answers
	w.answers = nil
	w.mu.Unlock()
	for _, answer := range answers {
		answer()
	}
}

// append hands a batch to one of the logs: mostly to the owner, at times to a former
// owner that does not know yet that it lost the shard.
func (w *world) append(a Append, answer func(l *Log, base int64, err error)) {
	l := w.log()
	if w.rng.IntN(20) == 0 {
		l = w.logs[w.rng.IntN(len(w.logs))]
	}
	a.Topic = w.topic.ID
	answered := false
	l.Append(a, func(base int64, err error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if answered {
			w.t.Error("answered twice")
		}
		answered = true
		w.answers = append(w.answers, func() { answer(l, base, err) })
	})
}

// stepSender sends what comes next in a stream, or, now and then, what came
// before, or what comes too early.
func (w *world) stepSender(s *sender) {
	from := s.sent
	switch n := w.rng.IntN(10); {
	case n == 0:
		from = w.rng.IntN(len(s.sequences) + 1)
	case n == 1:
		from = max(0, from-2)
	}
	to := min(len(s.sequences), from+1+w.rng.IntN(3))
	if from >= to {
		return
	}
	src := &state.Source{Stream: s.stream, First: s.sequences[from], Last: s.sequences[to-1]}
	if from > 0 {
		src.Prev = s.sequences[from-1]
	}
	var values []string
	for _, seq := range s.sequences[from:to] {
		values = append(values, fmt.Sprintf("%s.%d/%d", s.stream.Gateway, s.stream.Buffer.Counter(), seq))
	}
	if from == s.sent {
		s.sent = to
	}
	w.append(Append{Partition: s.partition, Batch: recordtest.Batch(values...), Source: src}, func(l *Log, _ int64, err error) {
		var refused *RefusedError
		switch {
		case err == nil:
			s.acked = max(s.acked, src.Last)
		case errors.As(err, &refused):
			if refused.Reason != ReasonSequence {
				w.t.Errorf("refused: %v", err)
			}
			if l == w.log() {
				w.rewind(s, max(refused.Mark, s.acked))
			}
		case !ended(err):
			w.t.Errorf("sender: %v", err)
		}
	})
}

func (w *world) stepProducer(p *idempotent) {
	sequence := p.next
	if w.rng.IntN(5) == 0 && p.next > p.acked {
		sequence = p.acked // an impatient retry
	}
	if sequence >= p.total || sequence-p.acked >= 5 /* that can be told from a duplicate */ {
		return
	}
	p.next = max(p.next, sequence+1)
	w.append(Append{Partition: p.partition, Batch: recordtest.Produced(p.id, 0, sequence, fmt.Sprintf("p%d/%d", p.id, sequence))}, func(l *Log, base int64, err error) {
		switch {
		case err == nil:
			if old, ok := p.bases[sequence]; ok && old != base {
				w.t.Errorf("producer %d sequence %d is at %d and %d", p.id, sequence, old, base)
			}
			p.bases[sequence] = base
			for _, ok := p.bases[p.acked]; ok; _, ok = p.bases[p.acked] {
				p.acked++
			}
			p.next = max(p.next, p.acked)
		case errors.Is(err, state.ErrOutOfOrderSequence), errors.Is(err, state.ErrUnknownProducer):
			if l == w.log() {
				p.next = p.acked // what came before went to another log
			}
		case !ended(err):
			w.t.Errorf("producer: %v", err)
		}
	})
}

func (w *world) stepPlain() {
	value := fmt.Sprintf("plain/%d", len(w.plain)+len(w.asked))
	w.asked[value] = true
	w.append(Append{Partition: w.rng.Int32N(worldPartitions), Batch: recordtest.Batch(value)}, func(_ *Log, _ int64, err error) {
		delete(w.asked, value)
		if w.plain[value] = err; err != nil && !ended(err) {
			w.t.Errorf("plain: %v", err)
		}
	})
}

// stepProposal appends a value to two partitions, with commands.
func (w *world) stepProposal() {
	value := fmt.Sprintf("proposal/%d", w.proposals)
	w.proposals++
	first := w.rng.Int32N(worldPartitions)
	w.log().Submit(proposal(w.topic.ID, value, first, w.rng.Int32N(worldPartitions)), func(bases []int64, err error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.answers = append(w.answers, func() {
			w.answered[value]++
			if err == nil {
				w.bases[value] = bases
			} else if !ended(err) {
				w.t.Errorf("proposal: %v", err)
			}
		})
	})
}

// auditProposals finds both values and both commands of a proposal, or none of them.
func (w *world) auditProposals(stored map[string]int) {
	for i := range w.proposals {
		value := fmt.Sprintf("proposal/%d", i)
		var commands []string
		for _, c := range w.commands.got {
			if rest, ok := strings.CutPrefix(c, "130:"+value); ok && (rest == "" || rest[0] == ' ') {
				commands = append(commands, rest)
			}
		}
		bases, durable := w.bases[value]
		there := stored[value] == 2 && len(commands) == 2 && commands[0] == "" && (!durable || commands[1] == fmt.Sprint(" at ", bases))
		nothing := stored[value] == 0 && len(commands) == 0
		if !there && (durable || !nothing) || w.answered[value] != 1 {
			w.t.Errorf("%s is there %d times with %q; answered %d times, with %d", value, stored[value], commands, w.answered[value], bases)
		}
	}
}

// ended reports whether an answer is that of a log that has ended.
func ended(err error) bool { return errors.Is(err, ErrFenced) || errors.Is(err, ErrClosed) }

// finish lets all senders deliver the rest to a healthy owner, and audits.
func (w *world) finish() {
	w.takeOver(0)
	for range 10_000 {
		done := true
		for _, s := range w.senders {
			if len(s.sequences) > 0 && s.acked < s.sequences[len(s.sequences)-1] {
				w.stepSender(s)
				done = false
			}
		}
		for _, p := range w.producers {
			if p.acked < p.total {
				w.stepProducer(p)
				done = false
			}
		}
		time.Sleep(50 * time.Millisecond)
		w.hear()
		if done {
			w.audit()
			return
		}
	}
	w.t.Fatal("the rest is never delivered")
}

func (w *world) audit() {
	owner := w.log()
	for _, l := range w.logs[:len(w.logs)-1] {
		_ = l.Close()
	}
	for _, f := range w.faults {
		f.Land()
	}
	w.hear()
	stored := map[string]int{}
	want := w.expected()
	for p := range int32(worldPartitions) {
		got := map[string][]string{}
		for _, value := range readAll(w.t, owner, w.topic.ID, p) {
			stored[value]++
			who, _, _ := strings.Cut(value, "/")
			got[who] = append(got[who], value)
		}
		delete(got, "plain")
		delete(got, "proposal")
		if !maps.EqualFunc(got, want[p], slices.Equal) {
			w.t.Errorf("partition %d:\n got %v\nwant %v", p, got, want[p])
		}
	}
	for value, err := range w.plain {
		if n := stored[value]; n > 1 || n == 0 && err == nil || n == 1 && errors.Is(err, ErrClosed) {
			w.t.Errorf("%s is there %d times, the answer was %v", value, n, err)
		}
	}
	w.auditProposals(stored)
	if len(w.asked) > 0 {
		w.t.Errorf("%d appends got no answer", len(w.asked))
	}
	for _, p := range w.producers {
		for sequence, base := range p.bases {
			f, err := owner.Fetch(w.t.Context(), w.topic.ID, p.partition, base, 1)
			if err != nil || !strings.Contains(string(f.Batches[0]), fmt.Sprintf("p%d/%d", p.id, sequence)) {
				w.t.Errorf("producer %d sequence %d is not at offset %d: %v", p.id, sequence, base, err)
			}
		}
	}
	must(owner.Close())
	sound(w.t, w.bucket)
}

// expected is what each writer has in each partition, in order.
func (w *world) expected() []map[string][]string {
	want := make([]map[string][]string, worldPartitions)
	for p := range want {
		want[p] = map[string][]string{}
	}
	for _, s := range w.senders {
		who := fmt.Sprintf("%s.%d", s.stream.Gateway, s.stream.Buffer.Counter())
		for _, seq := range s.sequences {
			want[s.partition][who] = append(want[s.partition][who], fmt.Sprintf("%s/%d", who, seq))
		}
	}
	for _, p := range w.producers {
		who := fmt.Sprintf("p%d", p.id)
		for sequence := range p.total {
			want[p.partition][who] = append(want[p.partition][who], fmt.Sprintf("%s/%d", who, sequence))
		}
	}
	return want
}
