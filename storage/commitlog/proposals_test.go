package commitlog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/record/recordtest"
	"github.com/weirmq/weir/storage/weir"
)

// proposal appends a value to each of some partitions, with the command "value" and the
// command "value at [bases]".
func proposal(topic weir.TopicID, value string, partitions ...int32) Proposal {
	p := Proposal{
		Commands:   []Command{{130, []byte(value)}},
		Based:      func(bases []int64) []Command { return []Command{{130, fmt.Append(nil, value, " at ", bases)}} },
		BasedBytes: Command{130, make([]byte, len(value)+100)}.Size(),
	}
	for _, partition := range partitions {
		p.Appends = append(p.Appends, Append{Topic: topic, Partition: partition, Batch: recordtest.Batch(value)})
	}
	return p
}

// proposed is the answer to a proposal.
type proposed struct {
	bases []int64
	err   error
}

func submit(l *Log, p Proposal) <-chan proposed {
	answer := make(chan proposed, 2) // a second answer shows up as one too many
	l.Submit(p, func(bases []int64, err error) { answer <- proposed{bases, err} })
	return answer
}

// watcher is a recorder that looks at a partition of the log for each command.
type watcher struct {
	recorder
	log   *Log
	topic weir.TopicID
	ends  []int64 // of partition 0, for each command
}

func (r *watcher) Apply(kind uint16, body []byte) error {
	if r.log != nil {
		_, end, err := r.log.Bounds(r.topic, 0)
		must(err)
		r.ends = append(r.ends, end)
	}
	return r.recorder.Apply(kind, body)
}

// TestProposal: batches, commands and the end of a transaction are one slot. The commands
// find the batches, and the answer comes when all is applied.
func TestProposal(t *testing.T) {
	b := mem.New()
	m := &watcher{recorder: recorder{kinds: []uint16{130}}}
	l := open(t, b, with(m))
	topic := createTopic(t, l, "t", 3)
	appended(t, l, Append{Topic: topic.ID, Partition: 1, Batch: recordtest.Batch("before", "it")})
	appended(t, l, Append{Topic: topic.ID, Partition: 2, Batch: recordtest.Transactional(7, 0, 0, "tx")})
	m.log, m.topic = l, topic.ID
	p := proposal(topic.ID, "a", 0, 1, 0)
	p.Appends = append(p.Appends, Append{Topic: topic.ID, Batch: recordtest.Batch("b", "c")}, Append{Topic: topic.ID, Batch: recordtest.Batch("d")})
	p.End = finish(topic.ID, 0, true, 2)
	before := l.Acked()
	got := <-submit(l, p)
	if want := []int64{0, 2, 1, 2, 4}; got.err != nil || !slices.Equal(got.bases, want) {
		t.Fatalf("%v, want bases %v", got, want)
	}
	if want := []string{"130:a", "130:a at [0 2 1 2 4]"}; !slices.Equal(m.got, want) || !slices.Equal(m.ends, []int64{5, 5}) {
		t.Errorf("applied %q, partition 0 ended at %d", m.got, m.ends)
	}
	if now := l.Acked(); now.Slot != before.Slot+1 {
		t.Errorf("slots up to %v, before it %v", now, before)
	}
	stableIs(t, l, topic.ID, 2, 2)
	must(l.Close())
	again := &recorder{kinds: []uint16{130}}
	l = open(t, b, with(again))
	if !slices.Equal(again.got, m.got) {
		t.Errorf("recovery applied %q", again.got)
	}
	for partition, want := range [][]string{{"a", "a", "b", "c", "d"}, {"before", "it", "a"}} {
		if got := readAll(t, l, topic.ID, int32(partition)); !slices.Equal(got, want) {
			t.Errorf("partition %d has %q", partition, got)
		}
	}
	sound(t, b)
}

// If a part of a proposal is refused, nothing of it is stored, and the log goes on.
func TestProposalRefused(t *testing.T) {
	b := mem.New()
	m := &recorder{kinds: []uint16{130}}
	l := open(t, b, with(m), func(o *Options) { o.SlotBytes = 64 << 10 })
	topic := createTopic(t, l, "t", 2)
	appended(t, l, Append{Topic: topic.ID, Partition: 1, Batch: recordtest.Transactional(7, 3, 0, "tx")})
	damaged := recordtest.Batch("x")
	damaged[len(damaged)-1]++
	large := strings.Repeat("x", 30<<10)
	for name, c := range map[string]struct {
		change func(*Proposal)
		err    error
	}{
		"topic":     {func(p *Proposal) { p.Appends[1].Topic = weir.TopicID{1} }, ErrUnknownTopic},
		"partition": {func(p *Proposal) { p.Appends[1].Partition = 2 }, ErrUnknownTopic},
		"damaged":   {func(p *Proposal) { p.Appends[1].Batch = damaged }, state.ErrCorrupt},
		"gateway":   {func(p *Proposal) { p.Appends[1].Source = source("g", 1, 0, 1, 1) }, ErrUnsupported},
		"producer":  {func(p *Proposal) { p.Appends[1].Batch = recordtest.Produced(7, 3, 1, "x") }, ErrUnsupported},
		"marker":    {func(p *Proposal) { p.Appends[1].Batch = record.NewMarker(7, 3, record.Marker{}, 0) }, ErrUnsupported},
		"kind":      {func(p *Proposal) { p.Commands[0].Kind = 99 }, state.ErrFormat},
		"fenced":    {func(p *Proposal) { p.End = finish(topic.ID, 2, true, 1) }, state.ErrProducerFenced},
		"large": {func(p *Proposal) {
			p.Appends[0].Batch, p.Appends[1].Batch, p.Commands[0].Body = recordtest.Batch(large), recordtest.Batch(large), make([]byte, 8<<10)
		}, ErrTooLarge},
		"large commands": {func(p *Proposal) { p.BasedBytes = 64 << 10 }, ErrTooLarge},
		"larger commands": {func(p *Proposal) {
			p.Based = func([]int64) []Command { return []Command{{130, make([]byte, p.BasedBytes)}} }
		}, ErrTooLarge},
		"kind of commands": {func(p *Proposal) { p.Based = func([]int64) []Command { return []Command{{99, nil}} } }, state.ErrFormat},
	} {
		p := proposal(topic.ID, "x", 0, 1)
		c.change(&p)
		if r := <-submit(l, p); !errors.Is(r.err, c.err) || r.bases != nil {
			t.Errorf("%s: %v, want %v", name, r, c.err)
		}
	}
	if len(m.got) > 0 {
		t.Errorf("applied %q", m.got)
	}
	if r := <-submit(l, proposal(topic.ID, "y", 0, 1)); r.err != nil || !slices.Equal(r.bases, []int64{0, 1}) {
		t.Error(r)
	}
	must(l.Close())
	if r := <-submit(l, proposal(topic.ID, "z", 0)); !errors.Is(r.err, ErrClosed) {
		t.Error(r)
	}
	sound(t, b)
}

// Appends and proposals of one goroutine keep their order, also while slots are in flight.
// A proposal behind the end of its topic is refused.
func TestProposalsInFlight(t *testing.T) { synctest.Test(t, proposalsInFlight) }

func proposalsInFlight(t *testing.T) {
	b := mem.New()
	g := newGate(b)
	m := &recorder{kinds: []uint16{130}}
	l := open(t, g, with(m), func(o *Options) { o.Depth = 3 })
	topic, other := createTopic(t, l, "t", 1), createTopic(t, l, "u", 1)
	release := g.hold()
	var want []string
	var all []<-chan proposed
	var singles []<-chan result
	for i := range 12 {
		value := fmt.Sprint(i)
		p := proposal(topic.ID, value, 0)
		if i%3 == 0 {
			p.Appends[0].Batch = full()
			value = strings.Repeat("x", leaveBytes)
		}
		all = append(all, submit(l, p))
		synctest.Wait()
		singles = append(singles, send(l, Append{Topic: topic.ID, Batch: recordtest.Batch("single")}))
		want = append(want, value, "single")
	}
	gone := make(chan error, 1)
	go func() { gone <- l.DeleteTopic(t.Context(), other.ID) }()
	synctest.Wait()
	behind := submit(l, proposal(other.ID, "behind", 0))
	synctest.Wait()
	for i, a := range all {
		if len(a) > 0 || len(singles[i]) > 0 || len(behind) > 0 {
			t.Fatalf("answer %d is early", i)
		}
	}
	release()
	for i, a := range all {
		if r := <-a; r.err != nil || !slices.Equal(r.bases, []int64{int64(2 * i)}) {
			t.Errorf("proposal %d: %v", i, r)
		}
		if r := <-singles[i]; r.err != nil || r.base != int64(2*i+1) {
			t.Errorf("append %d: %v", i, r)
		}
	}
	must(<-gone)
	if r := <-behind; !errors.Is(r.err, ErrUnknownTopic) {
		t.Error(r)
	}
	for i := range all {
		if command := fmt.Sprintf("130:%d at [%d]", i, 2*i); m.got[2*i+1] != command {
			t.Errorf("%q instead of %q", m.got[2*i+1], command)
		}
	}
	if got := readAll(t, l, topic.ID, 0); !slices.Equal(got, want) {
		t.Errorf("%d values, want %d", len(got), len(want))
	}
	sound(t, b)
}

// TestProposalFaults spoils each call of a life with proposals in turn, as TestFaultMatrix
// does: a proposal is there with all of its parts, or with none. Its slots are rewritten
// in one life, and serve as segments in another.
func TestProposalFaults(t *testing.T) {
	for name, upkeep := range map[string]func(*Options){"rewritten": tiny, "adopted": adopting} {
		t.Run(name, func(t *testing.T) {
			spoilEach(t, 15, func(b storage.Bucket) audit {
				answers := liveProposals(b, upkeep)
				return func(t *testing.T, b storage.Bucket, land func()) { auditProposals(t, b, upkeep, land, answers) }
			})
		})
	}
}

// liveProposals makes proposals, each of which ends a transaction, and returns the
// answers. It gives up at the first error of another kind.
func liveProposals(b storage.Bucket, upkeep func(*Options)) (answers []error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	l, err := Open(ctx, options(b, upkeep, with(&recorder{kinds: []uint16{130}})))
	if err != nil {
		return nil
	}
	defer l.Close()
	context.AfterFunc(ctx, func() { _ = l.Close() })
	topic, err := l.CreateTopic(ctx, "t", 3, nil)
	if err != nil {
		return nil
	}
	for round := range 2 {
		var waits []<-chan proposed
		for range 3 {
			i := len(answers) + len(waits)
			if r := <-send(l, Append{Topic: topic.ID, Partition: 2, Batch: recordtest.Transactional(7, int16(i), 0, fmt.Sprint(i))}); r.err != nil {
				break
			}
			p := proposal(topic.ID, fmt.Sprint(i), 0, 1, 0)
			p.End = finish(topic.ID, int16(i+1), true, 2)
			waits = append(waits, submit(l, p))
		}
		for _, a := range waits {
			answers = append(answers, (<-a).err)
		}
		if len(waits) < 3 {
			return answers
		}
		for range 2 * round {
			_ = l.Maintain(ctx)
		}
	}
	return answers
}

func auditProposals(t *testing.T, b storage.Bucket, upkeep func(*Options), land func(), answers []error) {
	m := &recorder{kinds: []uint16{130}}
	l, err := Open(within(t, time.Minute), options(b, upkeep, with(m)))
	if err != nil {
		t.Fatal(err)
	}
	land()
	defer func() { must(l.Close()); sound(t, b) }()
	topic, ok := l.Topic("t")
	if !ok {
		return
	}
	for range 2 { // as it was left, and after a pass of the upkeep
		var values [2][]string
		for p := range values {
			values[p] = readAll(t, l, topic.ID, int32(p))
		}
		decided := committed(t, l, topic.ID, 2)
		stored := 0
		for i, err := range answers {
			value := fmt.Sprint(i)
			applied := slices.Contains(m.got, "130:"+value)
			if applied {
				stored++
			} else if err == nil {
				t.Errorf("proposal %d was promised and is gone", i)
			}
			at := slices.IndexFunc(m.got, func(c string) bool { return strings.HasPrefix(c, "130:"+value+" at ") })
			if applied != (at >= 0) || applied != slices.Contains(decided, value) || !applied && (slices.Contains(values[0], value) || slices.Contains(values[1], value)) {
				t.Fatalf("proposal %d is there in part: commands %q, records %q, committed %q", i, m.got, values, decided)
			}
			if !applied {
				continue
			}
			var bases [3]int64
			must(second(fmt.Sscanf(m.got[at], "130:"+value+" at [%d %d %d]", &bases[0], &bases[1], &bases[2])))
			if values[0][bases[0]] != value || values[1][bases[1]] != value || values[0][bases[2]] != value {
				t.Errorf("proposal %d is not at %d of %q", i, bases, values)
			}
		}
		if len(values[0]) != 2*stored || len(values[1]) != stored {
			t.Errorf("%d proposals, %q", stored, values)
		}
		must(l.Maintain(t.Context()))
	}
}
