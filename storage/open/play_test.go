package open_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/commitlog/check"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/commitlog/upkeep"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/storagetest"
	"github.com/weirmq/weir/storage/weir"
)

// neverMade is the problem of a row that tests nothing.
const neverMade = "the call was never made"

// play is one row. A first owner writes and does the log's upkeep, a second one
// takes over and writes, a third one takes over and does both. Then the first two
// try to go on, what was late arrives, and an auditor becomes the owner. The
// faulty call is the first one's or the second one's. If it falls asleep at it, it
// wakes when the third one has done its work.
type play struct {
	row    row
	bucket storage.Bucket // without faults
	asleep chan struct{}  // closed when the one that made the call sleeps
	wake   chan struct{}  // closed when it wakes

	mu       sync.Mutex
	said     map[string]bool  // guarded by mu; what the owners have come to
	hit      []string         // guarded by mu; keys of the faulty call
	records  map[string]error // guarded by mu; by value; nil: durable
	entries  map[string]error // guarded by mu; the same for the machine's
	dropped  error            // guarded by mu; of the topic that is deleted
	clusters map[string]bool  // guarded by mu; ids
	problems []string         // guarded by mu
}

// perform plays a row on an empty bucket and returns what is wrong afterwards.
func perform(b storage.Bucket, r row) []string {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	p := &play{
		row: r, bucket: b, asleep: make(chan struct{}), wake: make(chan struct{}), said: map[string]bool{},
		records: map[string]error{}, entries: map[string]error{}, dropped: errOpen, clusters: map[string]bool{},
	}
	first, second, third := p.enter(1), p.enter(2), p.enter(3)
	p.start(first, func() { first.found(ctx) })
	p.start(second, func() { second.write(ctx) })
	p.start(third, func() { third.keep(ctx) })
	close(p.wake)
	for _, o := range []*owner{first, second, third} {
		close(o.leave)
		<-o.gone
	}
	first.way.Land()
	second.way.Land()
	if p.hit == nil {
		return []string{neverMade}
	}
	p.audit(ctx)
	return p.problems
}

var errOpen = errors.New("no answer yet")

// enter makes an owner and its way to the bucket.
func (p *play) enter(no int) *owner {
	o := &owner{p: p, no: no, paused: make(chan struct{}), leave: make(chan struct{}), gone: make(chan struct{})}
	below := p.bucket
	if p.row.lied {
		below = liar{below, p, no}
	}
	o.way = storagetest.NewFaults(below, uint64(no))
	if no == p.row.step.owner && !p.row.lied {
		o.way.Plan(p.plan)
	}
	return o
}

// start lets an owner act until it has come to its pause, or sleeps.
func (p *play) start(o *owner, act func()) {
	go func() {
		defer close(o.gone)
		act()
	}()
	asleep := p.asleep
	if o.no != p.row.step.owner {
		asleep = nil
	}
	select {
	case <-o.paused:
	case <-o.gone:
	case <-asleep:
	}
}

// say notes that the play has come to a point, from which on a step counts.
func (p *play) say(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.said[what] = true
}

// strikes says whether this is the call of the row, which it is once.
func (p *play) strikes(verb storagetest.Verb, keys []string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.row.step
	if p.hit != nil || s.since != "" && !p.said[s.since] || !s.is(verb, keys) {
		return false
	}
	p.hit = keys
	return true
}

// plan is the fate of the calls of the row's owner. A process that sleeps makes
// no call: those that it would make next wait until it wakes.
func (p *play) plan(c storagetest.Call) storagetest.Outcome {
	if p.strikes(c.Verb, c.Keys) {
		return storagetest.Outcome{Fate: p.row.fate}
	}
	p.mu.Lock()
	struck := p.hit != nil
	p.mu.Unlock()
	if struck && p.row.sleeps {
		<-p.wake
	}
	return storagetest.Outcome{}
}

// returned is told of each call of the row's owner that is over. With the faulty
// one it falls asleep: what that has done is done before others act.
func (p *play) returned(verb storagetest.Verb, keys []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.row.sleeps || p.row.step.verb != verb || !slices.Equal(keys, p.hit) {
		return
	}
	select {
	case <-p.asleep: // it was sent again
	default:
		close(p.asleep)
	}
}

// sleeper is the way of the row's owner.
type sleeper struct {
	*storagetest.Faults
	p *play
}

func (s sleeper) Create(ctx context.Context, key string, body []byte) error {
	defer s.p.returned(storagetest.Create, []string{key})
	return s.Faults.Create(ctx, key, body)
}

func (s sleeper) Delete(ctx context.Context, keys ...string) error {
	defer s.p.returned(storagetest.Delete, keys)
	return s.Faults.Delete(ctx, keys...)
}

// liar says that the row's call is done and does nothing. One Delete that is not
// done would be made good by the next owner, so it does none of them.
type liar struct {
	storage.Bucket
	p  *play
	no int // of the owner
}

func (l liar) Unwrap() storage.Bucket { return l.Bucket }

func (l liar) Create(ctx context.Context, key string, body []byte) error {
	if l.no == l.p.row.step.owner && l.p.strikes(storagetest.Create, []string{key}) {
		return nil
	}
	return l.Bucket.Create(ctx, key, body)
}

func (l liar) Delete(ctx context.Context, keys ...string) error {
	if l.p.strikes(storagetest.Delete, keys) || l.p.row.step.is(storagetest.Delete, keys) {
		return nil
	}
	return l.Bucket.Delete(ctx, keys...)
}

func (p *play) problem(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.problems = append(p.problems, fmt.Sprintf(format, args...))
}

// audit takes the log over once more, compares it with what was promised, lets
// the upkeep finish what it has to, and checks the bytes at rest.
func (p *play) audit(ctx context.Context) {
	o := p.enter(4)
	if o.open(ctx); o.log == nil {
		return
	}
	if len(p.clusters) != 1 {
		p.problem("several clusters: %v", p.clusters)
	}
	p.balance(ctx, o, "at the end")
	o.append(ctx, "a")
	for _, value := range []string{"b", "c"} {
		o.maintain(ctx)
		o.append(ctx, value)
	}
	p.balance(ctx, o, "after the last upkeep")
	if err := o.log.Close(); err != nil {
		p.problem("close: %v", err)
	}
	if p.row.step.verb == storagetest.Delete {
		p.gone(ctx)
	}
	// Nobody but a reader who was there all the time would miss it.
	if p.row.step.name == "tombstone" {
		if _, err := p.bucket.Get(ctx, p.hit[0], 0, 0); err != nil {
			p.problem("%s is not there: %v", p.hit[0], err)
		}
	}
	report, err := check.Check(ctx, p.bucket, nil)
	if err != nil {
		p.problem("check: %v", err)
	}
	for _, problem := range report.Problems {
		p.problem("check: %s", problem)
	}
}

// gone says that what the faulty call was about is not there.
func (p *play) gone(ctx context.Context) {
	p.mu.Lock()
	keys := p.hit
	p.mu.Unlock()
	for _, key := range keys {
		if _, err := p.bucket.Get(ctx, key, 0, 0); !errors.Is(err, fs.ErrNotExist) {
			p.problem("%s was to be deleted: %v", key, err)
		}
	}
}

// balance compares the promises with what an owner has: what was answered with
// success is there exactly once, the rest at most once.
func (p *play) balance(ctx context.Context, o *owner, when string) {
	p.mu.Lock()
	dropped := p.dropped
	p.mu.Unlock()
	if _, there := o.log.Topic("short"); there && dropped == nil {
		p.problem("%s: the topic that was deleted is there", when)
	}
	stored := o.values(ctx)
	once := func(what string, all []string, answers map[string]error) {
		for value, err := range answers {
			n := 0
			for _, v := range all {
				if v == value {
					n++
				}
			}
			if n > 1 || n == 0 && err == nil {
				p.problem("%s: %s %s is there %d times, the answer was %v", when, what, value, n, err)
			}
		}
		for _, v := range all {
			if _, known := answers[v]; !known {
				p.problem("%s: %s %s is there and was never sent", when, what, v)
			}
		}
	}
	p.mu.Lock()
	records, entries := maps.Clone(p.records), maps.Clone(p.entries)
	p.mu.Unlock()
	once("record", stored, records)
	once("entry", o.machine.got, entries)
}

// promise notes how a record or entry was answered.
func (p *play) promise(answers map[string]error, value string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	answers[value] = err
}

// owner is a process of the play.
type owner struct {
	p       *play
	no      int
	way     *storagetest.Faults
	log     *commitlog.Log // nil: it did not become the owner
	topic   weir.TopicID
	machine tape
	paused  chan struct{} // closed when it has done its work
	leave   chan struct{} // closed when it may go on
	gone    chan struct{} // closed when it has left
}

func (o *owner) sleeps() bool { return o.p.row.sleeps && o.p.row.step.owner == o.no }

// survives says whether the owner gets through its work: no single fault may
// stop it, but sleep may.
func (o *owner) survives() bool { return !o.sleeps() && !o.p.row.lied }

// open takes the log over, and creates the topic that is kept if it is not there.
func (o *owner) open(ctx context.Context) {
	var b storage.Bucket = o.way
	if o.sleeps() {
		b = sleeper{o.way, o.p}
	}
	l, err := commitlog.Open(ctx, commitlog.Options{
		Bucket: b, Node: fmt.Sprint("node ", o.no), Machines: []state.Machine{&o.machine},
		Upkeep: upkeep.Options{Segment: 32 << 10}, Log: slog.New(slog.DiscardHandler),
	})
	refused := o.no == 1 && o.p.row.step.name == "cluster" && o.p.row.fate == storagetest.Fail
	if err != nil {
		refused = refused || o.sleeps() && errors.Is(err, commitlog.ErrFenced)
		if !refused {
			o.p.problem("owner %d: %v", o.no, err)
		}
		return
	}
	o.log = l
	o.p.mu.Lock()
	o.p.clusters[l.ClusterID()] = true
	o.p.mu.Unlock()
	o.topic = o.create(ctx, "kept")
}

// create returns the id of a topic, which it creates if it is not there.
func (o *owner) create(ctx context.Context, name string) weir.TopicID {
	topic, there := o.log.Topic(name)
	if !there {
		var err error
		topic, err = o.log.CreateTopic(ctx, name, 1, nil)
		o.expect("create topic", err)
	}
	return topic.ID
}

// found is the life of the first owner. Its third pass of upkeep deletes what the
// second one had no use for any more: slots, an older checkpoint, and the segment
// of a topic that is gone.
func (o *owner) found(ctx context.Context) {
	if o.open(ctx); o.log == nil {
		return
	}
	defer o.close()
	short := o.create(ctx, "short")
	<-o.send("", short)
	o.maintain(ctx)
	err := o.log.DeleteTopic(ctx, short)
	o.p.mu.Lock()
	o.p.dropped = err
	o.p.mu.Unlock()
	o.expect("delete topic", err)
	o.p.say("topic deleted")
	o.append(ctx, "a")
	o.maintain(ctx)
	o.p.say("two passes")
	o.append(ctx, "b")
	o.maintain(ctx)
	o.p.say("three passes")

	// A large one leaves while others fly.
	large := strings.Repeat(" ", 256<<10)
	var waits []<-chan error
	for _, value := range []string{"c" + large, "d" + large, "e"} {
		waits = append(waits, o.send(value, o.topic))
	}
	for _, answer := range waits {
		o.expect("append", <-answer)
	}
	o.rest(ctx)
}

// write is the life of the second owner.
func (o *owner) write(ctx context.Context) {
	if o.open(ctx); o.log == nil {
		return
	}
	defer o.close()
	o.append(ctx, "a")
	o.rest(ctx)
}

// keep is the life of the third owner.
func (o *owner) keep(ctx context.Context) {
	if o.open(ctx); o.log == nil {
		return
	}
	defer o.close()
	for _, value := range []string{"a", "b"} {
		o.append(ctx, value)
		o.maintain(ctx)
	}
	o.p.balance(ctx, o, "before anything late arrives")
	if r := o.p.row; r.step.name == "segment" && r.fate == storagetest.Applied && r.sleeps {
		o.p.gone(ctx) // it was stored and never installed
	}
	o.rest(ctx)
}

// rest waits until others have acted, and then tries to go on as if nothing had
// happened.
func (o *owner) rest(ctx context.Context) {
	close(o.paused)
	<-o.leave
	<-o.send("late", o.topic)
	_ = o.log.Propose(ctx, kind, nil)
	_ = o.log.Maintain(ctx)
}

func (o *owner) close() { _ = o.log.Close() } // the log may be lost by now

// expect reports an error of one that ought to get through.
func (o *owner) expect(what string, err error) {
	if err != nil && o.survives() {
		o.p.problem("owner %d: %s: %v", o.no, what, err)
	}
}

// append sends a record and an entry for the machine.
func (o *owner) append(ctx context.Context, value string) {
	o.expect("append", <-o.send(value, o.topic))
	name := fmt.Sprint(o.no, ".", value)
	o.p.promise(o.p.entries, name, errOpen)
	err := o.log.Propose(ctx, kind, []byte(name))
	o.p.promise(o.p.entries, name, err)
	o.expect("propose", err)
}

func (o *owner) maintain(ctx context.Context) { o.expect("maintain", o.log.Maintain(ctx)) }

// send appends a record; of those in the topic that is kept the answer is noted.
func (o *owner) send(value string, topic weir.TopicID) <-chan error {
	value = fmt.Sprint(o.no, ".", value)
	b := record.NewBuilder(record.None)
	err := b.Append(&record.Record{Timestamp: 1000, Value: []byte(value)})
	var batch record.Batch
	if err == nil {
		batch, err = b.Build()
	}
	if err != nil {
		panic(err)
	}
	answer := make(chan error, 1)
	note := func(err error) {
		if topic == o.topic {
			o.p.promise(o.p.records, strings.TrimSpace(value), err)
		}
	}
	note(errOpen)
	o.log.Append(commitlog.Append{Topic: topic, Batch: batch}, func(_ int64, err error) {
		note(err)
		answer <- err
	})
	return answer
}

// values reads the topic that is kept.
func (o *owner) values(ctx context.Context) (all []string) {
	for offset := int64(0); ; {
		f, err := o.log.Fetch(ctx, o.topic, 0, offset, 1<<20)
		if err != nil {
			o.p.problem("fetch offset %d: %v", offset, err)
			return all
		}
		if len(f.Batches) == 0 {
			return all
		}
		for _, raw := range f.Batches {
			err := record.Batch(raw).Each(1<<20, func(r *record.Record) error {
				if r.Offset != offset {
					return fmt.Errorf("offset %d where %d was due", r.Offset, offset)
				}
				offset++
				all = append(all, strings.TrimSpace(string(r.Value)))
				return nil
			})
			if err != nil {
				o.p.problem("read: %v", err)
				return all
			}
		}
	}
}

// kind is that of the machine's entries.
const kind = 100

// tape is a Machine that remembers all that it was given.
type tape struct{ got []string }

func (*tape) Kinds() []uint16 { return []uint16{kind} }

func (t *tape) Apply(_ uint16, body []byte) error {
	if len(body) > 0 {
		t.got = append(t.got, string(body))
	}
	return nil
}

func (t *tape) Snapshot() []byte {
	body, err := json.Marshal(t.got)
	if err != nil {
		panic(err)
	}
	return body
}

func (t *tape) Restore(body []byte) error {
	t.got = nil
	if len(body) == 0 {
		return nil
	}
	return json.Unmarshal(body, &t.got)
}
