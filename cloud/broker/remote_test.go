package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/machine"
	"github.com/weirmq/weir/cloud/shard"
	"github.com/weirmq/weir/cloud/share"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/record/recordtest"
	"github.com/weirmq/weir/storage/weir"
)

// errCut ends a question of a test.
var errCut = errors.New("connection is cut")

// pair is two nodes: a has the catalogue and shard 1, b has shard 2. The records of a topic
// are asked for at a.
type pair struct {
	t       *testing.T
	bucket  *mem.Bucket
	a, b    *Broker
	records *Records // of a
	there   *Records // of b
	log     *commitlog.Log
	second  *shard.Shard
	topic   Topic
	far     []int32 // its partitions in shard 2

	patience time.Duration // for what must come
	mu       sync.Mutex
	cut      func(what string) (before, after bool)            // whether the question, or the answer, is lost
	change   func(what string, question, answer []byte) []byte // of answers; nil: none
}

func newPair(t *testing.T, m Mutations) *pair {
	t.Helper()
	p := &pair{t: t, bucket: mem.New(), a: threeShards(t, "a"), b: threeShards(t, "b"), patience: time.Minute, cut: func(string) (bool, bool) { return false, false }}
	p.records = NewRecords(p.a, RecordsOptions{Mutations: m, Ask: func(ctx context.Context, node Node, what string, question []byte) ([]byte, error) {
		if node.Name != "b" {
			t.Errorf("node %q is asked", node.Name)
		}
		p.mu.Lock()
		before, after := p.cut(what)
		change := p.change
		p.mu.Unlock()
		if before {
			return nil, errCut
		}
		answer, err := p.there.Answer(ctx, what, question)
		if after {
			return nil, errCut
		}
		if change != nil && err == nil {
			answer = change(what, question, answer)
		}
		return answer, err
	}, Follow: func(ctx context.Context, _ Node, id uint32, tell func([]byte) error) error {
		return p.there.Tell(ctx, id, tell)
	}})
	p.there = NewRecords(p.b, RecordsOptions{})
	t.Cleanup(func() {
		if err := errors.Join(p.records.Close(), p.there.Close()); err != nil {
			t.Error(err)
		}
	})
	p.log = leadShard(t, p.a, p.bucket, 0, nil)
	leadShard(t, p.a, p.bucket, 1, topicsOf(p.a))
	topic, err := p.a.CreateTopic(t.Context(), "t", 6, nil)
	if err != nil {
		t.Fatal(err)
	}
	p.topic = topic
	p.second = p.serve(p.b)
	p.open(p.topic, 2)
	p.a.Follow(2, p.b.Self(), "")
	p.b.Follow(0, p.a.Self(), "")
	p.b.Follow(1, p.a.Self(), "")
	for i := range topic.Partitions {
		if p.a.RouteOf(weir.SliceOf(topic.ID, i)) == 2 {
			p.far = append(p.far, i)
		}
	}
	return p
}

// serve makes a node the owner of shard 2.
func (p *pair) serve(b *Broker) *shard.Shard {
	p.t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	topics := &machine.Topics{All: p.log.Topics, ByID: p.log.TopicByID}
	o := shard.Options{Log: quiet, Part: shard.Data, Topics: topics}
	o.Txns.Shard, o.Txns.Shards = 2, b.TransactionShards()
	s := shard.New(o)
	if err := s.Open(p.t.Context(), commitlog.Options{Bucket: p.bucket, Shard: 2, Shards: 3, Node: b.Self().Name, Log: quiet}); err != nil {
		p.t.Fatal(err)
	}
	b.Lead(s)
	p.t.Cleanup(func() { _ = s.Close() }) // it may have been closed, or fenced, before
	return s
}

// open makes the topic of shard 2 what it is at a slot of the catalogue.
func (p *pair) open(topic Topic, slot uint64) {
	p.t.Helper()
	if err := p.second.Log.OpenTopic(p.t.Context(), topic, journal.Position{Epoch: 1, Slot: slot}); err != nil {
		p.t.Fatal(err)
	}
}

func (p *pair) cuts(cut func(what string) (before, after bool)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = cut
}

// append appends at a, and returns where the answer comes.
func (p *pair) append(partition int32, values ...string) <-chan appended {
	answer := make(chan appended, 1)
	p.records.Append(p.t.Context(), Append{Topic: p.topic.ID, Partition: partition, Batch: recordtest.Batch(values...)}, func(base int64, err error) { answer <- appended{base, err} })
	return answer
}

// values are what is in a partition, as a reads it.
func (p *pair) values(partition int32) (all []string) {
	p.t.Helper()
	for next := int64(0); ; {
		f, err := p.records.FetchCommitted(p.t.Context(), p.topic.ID, partition, next, 1000)
		if err != nil {
			p.t.Fatal(err)
		}
		if len(f.Batches) == 0 {
			return all
		}
		for _, data := range f.Batches {
			b := record.Batch(data)
			if err := errors.Join(b.Verify(), b.Each(1<<20, func(r *record.Record) error {
				all = append(all, string(r.Value))
				return nil
			})); err != nil {
				p.t.Fatal(err)
			}
			next = b.NextOffset()
		}
	}
}

// TestRemote: what calls of Broker say of a partition, Records say of one that another node
// leads.
func TestRemote(t *testing.T) {
	p := newPair(t, Mutations{})
	at := p.far[0]
	for i := range 3 {
		if a := <-p.append(at, fmt.Sprint(i), "x"); a.err != nil || a.base != int64(2*i) {
			t.Fatalf("batch %d is at %d: %v", i, a.base, a.err)
		}
	}
	if got := p.values(at); !slices.Equal(got, []string{"0", "x", "1", "x", "2", "x"}) {
		t.Errorf("the partition has %q", got)
	}
	places := []Place{{Topic: p.topic.ID, Partition: at}, {Topic: weir.TopicID{1}, Partition: 0}, {Topic: p.topic.ID, Partition: at + 1}}
	all := p.records.Ranges(t.Context(), places)
	if x := all[0]; x.Err != nil || x.Start != 0 || x.End != 6 || x.Stable != 6 || x.Bytes <= 0 {
		t.Errorf("the partition is %+v", x)
	}
	if !errors.Is(all[1].Err, ErrUnknownTopic) || all[2].Err != nil || all[2].End != 0 {
		t.Errorf("a partition that is not there is %+v, an empty one here %+v", all[1], all[2])
	}
	f, err := p.records.Fetch(t.Context(), p.topic.ID, at, 7, 1000)
	if !errors.Is(err, ErrOffsetOutOfRange) || f.End != 6 {
		t.Errorf("behind the end: %+v, %v", f, err)
	}
	want, wantTime, err := p.b.OffsetByTime(t.Context(), p.topic.ID, at, 0)
	if err != nil {
		t.Fatal(err)
	}
	if got, ts, err := p.records.OffsetByTime(t.Context(), p.topic.ID, at, 0); err != nil || got != want || ts != wantTime {
		t.Errorf("by time: %d %d, want %d %d: %v", got, ts, want, wantTime, err)
	}
	damaged := recordtest.Batch("x")
	damaged[len(damaged)-1]++
	refusal := make(chan error, 1)
	p.records.Append(t.Context(), Append{Topic: p.topic.ID, Partition: at, Batch: damaged}, func(_ int64, err error) { refusal <- err })
	if err := <-refusal; !errors.Is(err, ErrCorrupt) {
		t.Errorf("a damaged batch: %v", err)
	}
}

// TestRemoteOnce: batches are in their partition once, in order, however many questions and
// answers are lost, and when the shard moves to this node.
func TestRemoteOnce(t *testing.T) {
	if err := remoteOnce(newPair(t, Mutations{})); err != nil {
		t.Error(err)
	}
}

func remoteOnce(p *pair) error {
	p.t.Helper()
	const batches = 30
	asked := 0
	p.cuts(func(what string) (before, after bool) {
		if what == askAppend {
			asked++
			return asked%4 == 1, asked%4 == 2
		}
		return false, false
	})
	var answers []<-chan appended
	for i := range batches {
		if i == batches/2 {
			if a := <-answers[0]; a.err != nil {
				return a.err
			}
			answers = answers[1:]
			p.b.Follow(2, Node{}, "")
			if err := p.second.Close(); err != nil {
				return err
			}
			p.a.Follow(2, Node{}, "")
			p.second = p.serve(p.a)
		}
		for _, at := range p.far[:2] {
			answers = append(answers, p.append(at, strconv.Itoa(i)))
		}
	}
	for _, answer := range answers {
		if a := <-answer; a.err != nil {
			return a.err
		}
	}
	for _, at := range p.far[:2] {
		got := p.values(at)
		for i := range batches {
			if len(got) != batches || got[i] != strconv.Itoa(i) {
				return fmt.Errorf("partition %d has %q", at, got)
			}
		}
	}
	return nil
}

// TestRemoteRefused: after a batch that is durable, though its answer was lost and it was
// refused when it was sent again, the next one is stored.
func TestRemoteRefused(t *testing.T) {
	if err := remoteRefused(newPair(t, Mutations{})); err != nil {
		t.Error(err)
	}
}

func remoteRefused(p *pair) error {
	at := p.far[0]
	lost := make(chan struct{})
	once := false
	p.cuts(func(what string) (before, after bool) {
		if what != askAppend || once {
			return false, false
		}
		once = true
		close(lost)
		return false, true
	})
	first := p.append(at, string(make([]byte, 3000)))
	<-lost
	until(p.t, "the batch is durable", func() bool {
		_, end, err := p.b.Bounds(p.topic.ID, at)
		return err == nil && end == 1
	})
	smaller := p.topic
	smaller.Configs = map[string]string{"max.message.bytes": "2000"}
	p.open(smaller, 3)
	second := p.append(at, "next")
	if a := <-first; a.err != nil && !errors.Is(a.err, ErrTooLarge) {
		return a.err
	}
	if a := <-second; a.err != nil {
		return a.err
	}
	if got := p.values(at); len(got) != 2 || got[1] != "next" {
		return fmt.Errorf("the partition has %d records", len(got))
	}
	return nil
}

// TestRemoteContext: a call whose context ends is answered, and what was sent by then is
// there once.
func TestRemoteContext(t *testing.T) {
	p := newPair(t, Mutations{})
	at := p.far[0]
	asked, cut := make(chan struct{}), true
	p.cuts(func(what string) (before, after bool) {
		if what == askAppend && cut {
			select {
			case asked <- struct{}{}:
			default:
			}
			return false, true
		}
		return false, false
	})
	ctx, cancel := context.WithCancel(t.Context())
	answer := make(chan error, 1)
	p.records.Append(ctx, Append{Topic: p.topic.ID, Partition: at, Batch: recordtest.Batch("1")}, func(_ int64, err error) { answer <- err })
	<-asked
	cancel()
	if err := <-answer; !errors.Is(err, ErrNoLeader) || !errors.Is(err, context.Canceled) {
		t.Errorf("a batch whose context ends: %v", err)
	}
	p.cuts(func(string) (bool, bool) { return false, false })
	if a := <-p.append(at, "2"); a.err != nil {
		t.Fatal(a.err)
	}
	if got := p.values(at); !slices.Equal(got, []string{"1", "2"}) {
		t.Errorf("the partition has %q", got)
	}
}

// TestRemoteAway: while the node that leads a partition does not answer, reads end with an
// error, and what waits for it is bounded.
func TestRemoteAway(t *testing.T) {
	p := newPair(t, Mutations{})
	p.cuts(func(string) (bool, bool) { return true, false })
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := p.records.FetchCommitted(ctx, p.topic.ID, p.far[0], 0, 1); !errors.Is(err, ErrNoLeader) || errors.Is(err, ErrNotOwner) {
		t.Errorf("a read: %v", err)
	}
	refused := 0
	value := string(make([]byte, 1<<20))
	var answers []<-chan appended
	for range maxAway>>21 + 2 { // a shard may have half
		answers = append(answers, p.append(p.far[0], value))
	}
	for _, answer := range answers {
		select {
		case a := <-answer:
			if refused++; !errors.Is(a.err, ErrNoLeader) {
				t.Errorf("a batch too many: %v", a.err)
			}
		default:
		}
	}
	if refused < 2 || refused > 4 {
		t.Errorf("%d batches are refused", refused)
	}
}

// TestFollow: a reader of all partitions hears of those at other nodes, and of what was
// there when it began.
func TestFollow(t *testing.T) {
	if err := followed(newPair(t, Mutations{})); err != nil {
		t.Error(err)
	}
}

func followed(p *pair) error {
	if a := <-p.append(p.far[0], "before"); a.err != nil {
		return a.err
	}
	g := commitlog.NewGrowth()
	stop, err := p.records.Notify(g)
	if err != nil {
		return err
	}
	defer stop()
	watched := p.records.Watch(p.topic.ID, p.far[0])
	hears := func(partition int32) error {
		late := time.After(p.patience)
		for {
			select {
			case <-g.C():
				if slices.Contains(g.Take(nil), Place{Topic: p.topic.ID, Partition: partition}) {
					return nil
				}
			case <-late:
				return fmt.Errorf("partition %d has grown, and the reader does not hear of it", partition)
			}
		}
	}
	if err := hears(p.far[0]); err != nil {
		return err
	}
	<-watched // the stream has begun
	if a := <-p.append(p.far[1], "later"); a.err != nil {
		return a.err
	}
	if err := hears(p.far[1]); err != nil {
		return err
	}
	watched = p.records.Watch(p.topic.ID, p.far[1])
	if a := <-p.append(p.far[1], "last"); a.err != nil {
		return a.err
	}
	<-watched
	near := (p.far[0] + 1) % p.topic.Partitions
	answer := make(chan error, 1)
	p.records.Append(p.t.Context(), Append{Topic: p.topic.ID, Partition: near, Batch: recordtest.Batch("here")}, func(_ int64, err error) { answer <- err })
	if err := <-answer; err != nil {
		return err
	}
	return hears(near)
}

// TestFollowMoved: when slices move to a shard that had none, readers of all partitions hear
// of those there.
func TestFollowMoved(t *testing.T) {
	p := newPair(t, Mutations{})
	was, count := p.a.Map()
	var one weir.Map
	for i := range one {
		one[i] = 1
	}
	p.a.SetMap(one, count)
	g := commitlog.NewGrowth()
	stop, err := p.records.Notify(g)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	p.a.SetMap(was, count)
	if a := <-p.append(p.far[0], "moved"); a.err != nil {
		t.Fatal(a.err)
	}
	for heard := false; !heard; {
		<-g.C()
		heard = slices.Contains(g.Take(nil), Place{Topic: p.topic.ID, Partition: p.far[0]})
	}
}

// FuzzRemote: no body makes a node panic or take more memory than it has bytes, and what can
// be decoded is encoded to the same bytes.
func FuzzRemote(f *testing.F) {
	at := Place{Topic: weir.TopicID{7}, Partition: 3}
	batches := []Append{{Topic: at.Topic, Partition: 1, Batch: recordtest.Batch("x")}, {Topic: at.Topic, Partition: 2, Batch: recordtest.Batch("y", "z")}}
	fetched := Fetched{Start: 1, End: 9, Stable: 8, Batches: [][]byte{batches[0].Batch}, Aborted: []Aborted{{Producer: 5, First: 1, Last: 3}}}
	for kind, body := range [][]byte{
		readQuestion{at, 5, 1000, true}.append(nil), appendPlaces(nil, []Place{at, {}}), searchQuestion{at, -1}.append(nil), appendBatches(nil, batches),
		appendFetched(nil, &fetched, nil), appendRanges(nil, []Range{{Start: 1, End: 2, Stable: 2, Bytes: 100}, {Err: ErrUnknownTopic}}, nil),
		appendFound(nil, -1, -1, &NotOwnerError{Node{Name: "c"}}), appendAppended(nil, []appended{{7, nil}, {-1, ErrTooLarge}}),
		shareQuestion{2, "g", &at.Topic}.append(nil), shareBegin{share.Place{Group: "g", Topic: at.Topic, Partition: 3}, 7}.append(nil),
		appendShareOffsets(nil, []share.Offsets{{Place: share.Place{Group: "g", Topic: at.Topic, Partition: 3}, Start: 7, Lag: 2}}, nil),
		appendShareNames(nil, []string{"g", "h"}, nil),
	} {
		f.Add(uint8(kind), body)
	}
	f.Fuzz(func(t *testing.T, kind uint8, body []byte) {
		d, err := newDecoder(body)
		if err != nil {
			return
		}
		var again []byte
		switch kind % 12 {
		case 0:
			q, failed := d.readQuestion()
			if again, err = q.append(nil), failed; q.most == maxRead {
				return // it was cut
			}
		case 1:
			all, failed := d.places()
			again, err = appendPlaces(nil, all), failed
		case 2:
			q, failed := d.searchQuestion()
			again, err = q.append(nil), failed
		case 3:
			all, failed := d.batches()
			again, err = appendBatches(nil, all), failed
		case 4:
			x, failed := d.fetched()
			if again, err = appendFetched(nil, &x, nil), failed; errors.Is(err, errRemote) || err == nil {
				break
			}
			return // an error of the other node
		case 5:
			_, _ = d.ranges(2)
			return
		case 6:
			_, _, _ = d.found()
			return
		case 7:
			_, _ = d.appended(2)
			return
		case 8:
			q, failed := d.shareQuestion()
			again, err = q.append(nil), failed
		case 9:
			q, failed := d.shareBegin()
			again, err = q.append(nil), failed
		case 10:
			_, _ = d.shareOffsets("g")
			return
		case 11:
			_, _ = d.shareNames()
			return
		}
		if err == nil && !slices.Equal(again, body) {
			t.Errorf("%x becomes %x", body, again)
		}
	})
}

// TestRemoteErrors: the errors that callers tell apart are told apart at other nodes.
func TestRemoteErrors(t *testing.T) {
	for _, want := range remoteCodes[1:] {
		d, err := newDecoder(appendError([]byte{remoteVersion}, fmt.Errorf("it is so: %w", want)))
		if err != nil {
			t.Fatal(err)
		}
		if got := d.outcome(); !errors.Is(got, want) || got.Error() != "it is so: "+want.Error() || d.end() != nil {
			t.Errorf("%v becomes %v", want, got)
		}
	}
	elsewhere := &NotOwnerError{Node{Name: "c"}}
	all := []Range{{Start: 1, End: 5, Stable: 4, Bytes: 300}, {Err: elsewhere}}
	d, _ := newDecoder(appendRanges(nil, all, nil))
	got, err := d.ranges(2)
	if err != nil || !reflect.DeepEqual(got[0], all[0]) || !errors.Is(got[1].Err, ErrNotOwner) || got[1].Err.Error() != elsewhere.Error() {
		t.Errorf("%+v becomes %+v: %v", all, got, err)
	}
	d, _ = newDecoder(appendRanges(nil, all, nil))
	if _, err := d.ranges(1); !errors.Is(err, errRemote) {
		t.Errorf("too many ranges: %v", err)
	}
}
