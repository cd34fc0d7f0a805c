package model

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/commitlog/upkeep"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/storagetest"
	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/receiver"
	"github.com/weirmq/weir/sync/uplink"
	"github.com/weirmq/weir/sync/wire"
	"github.com/weirmq/weir/sync/wire/wiretest"
)

// cloudMutations are rules outside the packages under test that a test breaks.
type cloudMutations struct {
	TopicByName bool // an append for a topic that is gone goes to the one that has its name now
	SilentOwner bool // an owner that was fenced does not say so
	Overwrites  bool // the bucket ignores that a name is taken
}

// node is one process of the cloud.
type node struct {
	w      *world
	addr   string
	shard  uint32              // that it owns, or tries to
	entry  *uplink.Door        // nil: not the door of a schedule of several shards
	bucket *storagetest.Faults // its way to the bucket
	recv   *receiver.Receiver  // nil: only an owner of a shard
	stop   context.CancelFunc

	opening atomic.Bool    // it takes its shard over
	gone    sync.WaitGroup // all of its goroutines

	mu    sync.Mutex
	log   *commitlog.Log   // guarded by mu; nil: a standby
	owner *uplink.Owner    // guarded by mu; of log
	links []*wiretest.Link // guarded by mu
	dead  bool             // guarded by mu
}

// startNode starts a process that takes the log over.
func (w *world) startNode(addr string) {
	n := w.newNode(addr)
	recv, err := receiver.New(receiver.Options{
		Attach: n.door().Attach, Resolve: (&shardLog{n}).Resolve, Cluster: func() string { return "c" }, Node: addr, Logger: w.logger, Mutations: w.mutations.receiver,
	})
	if err != nil {
		panic(err)
	}
	n.recv = recv
	ctx, cancel := context.WithCancel(context.Background())
	n.stop = cancel
	w.mu.Lock()
	w.nodes[addr] = n
	w.all = append(w.all, n)
	w.mu.Unlock()
	n.gone.Go(func() { n.lead(ctx) })
}

// newNode makes a process.
func (w *world) newNode(addr string) *node {
	w.nodeNo++
	n := &node{w: w, addr: addr, bucket: storagetest.NewFaults(w.bucket, w.s.seed+uint64(w.nodeNo))}
	n.bucket.Plan(w.plan(n.bucket, rand.New(rand.NewPCG(w.s.seed, uint64(w.nodeNo)))))
	return n
}

// door is where sessions of gateways begin.
func (n *node) door() *uplink.Door {
	if n.w.several() {
		return uplink.NewDoor(uplink.Options{Shards: n.w.shardIDs, ShardOf: n.w.route, Number: n.numberOf, Attach: n.attachTo, Mutations: n.w.mutations.uplink})
	}
	return uplink.NewDoor(uplink.Options{
		Shards:  func() []uint32 { return []uint32{0} },
		ShardOf: func(weir.Slice) uint32 { return 0 },
		Number: func(context.Context, string) (uplink.Number, error) {
			owner, err := n.owning()
			if err != nil {
				return uplink.Number{}, err
			}
			return owner.Number(), nil
		},
		Attach: func(ctx context.Context, _ uint32, gateway string, no uplink.Number, buffers []weir.Buffer, end func(error)) (uplink.Attachment, uplink.Offered, error) {
			owner, err := n.owning()
			if err != nil {
				return nil, uplink.Offered{}, err
			}
			return owner.Attach(ctx, gateway, no, buffers, end)
		},
		Mutations: n.w.mutations.uplink,
	})
}

// owning is owned for the owner of the log.
func (n *node) owning() (*uplink.Owner, error) {
	if _, err := n.owned(); err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.owner, nil
}

// lead is cloud.go in small: take over, serve until the log is lost.
func (n *node) lead(ctx context.Context) {
	n.opening.Store(true)
	log, err := commitlog.Open(ctx, commitlog.Options{
		Bucket: n.bucket, Shard: n.shard, Shards: n.w.shardCount(), Node: n.addr, SlotBytes: 64 << 10, TailBytes: 8 << 10, Window: 2, Upkeep: onCall(n.w.s),
		Log: n.w.slog, Mutations: n.w.mutations.log,
	})
	if err != nil {
		if errors.Is(err, state.ErrCorrupt) || errors.Is(err, state.ErrFormat) {
			n.w.fail(fmt.Errorf("CORRUPT: take over: %w", err))
		}
		n.w.say("node %s does not lead: %v", n.addr, err)
		n.opening.Store(false)
		n.w.forget(n)
		n.handOver()
		return
	}
	n.mu.Lock()
	n.log, n.owner = log, uplink.NewOwner(uint64(log.Epoch()), (&shardLog{n}).calls(), n.w.mutations.uplink)
	n.mu.Unlock()
	n.opening.Store(false)
	n.w.say("node %s leads, epoch %d", n.addr, log.Epoch())
	if n.w.several() && !n.isDead() {
		n.w.led(n)
	}
	select {
	case <-log.Done():
	case <-ctx.Done():
	}
	if err := log.Err(); err != nil && !n.isDead() {
		n.w.say("node %s lost the log: %v", n.addr, err)
		if errors.Is(err, state.ErrCorrupt) {
			n.w.fail(fmt.Errorf("CORRUPT: %w", err))
		}
		n.w.forget(n)
		if !n.w.mutations.cloud.SilentOwner {
			n.handOver()
		}
	}
	if !n.w.mutations.cloud.SilentOwner || ctx.Err() != nil {
		log.Close()
		return
	}
	<-ctx.Done()
	log.Close()
}

// handOver ends the sessions of a process that does not own the log any more, or its
// attachments.
func (n *node) handOver() {
	if !n.w.several() {
		n.recv.Handover(n.w.ownerAddr(n))
		return
	}
	n.w.lost(n)
	if n.owner != nil {
		n.owner.End()
	}
}

// onCall is upkeep that is done only when the schedule says so, into small
// segments.
func onCall(s schedule) upkeep.Options {
	return upkeep.Options{Segment: s.segment, Adopt: s.adopt, Age: 1000 * time.Hour, Grace: 1000 * time.Hour}
}

func (n *node) isDead() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dead
}

// kill is SIGKILL: nothing that the process still does reaches anybody, but
// PUTs that were under way may arrive later.
func (n *node) kill() {
	n.mu.Lock()
	n.dead = true
	links := n.links
	n.links = nil
	n.mu.Unlock()
	n.w.forget(n)
	n.bucket.Close()
	for _, l := range links {
		l.Cut(false)
	}
	n.stop()
	if n.recv != nil {
		n.gone.Go(func() { n.recv.Close() })
	}
}

// owned returns the log if this node believes that it owns it.
func (n *node) owned() (*commitlog.Log, error) {
	n.mu.Lock()
	log := n.log
	n.mu.Unlock()
	if log == nil || log.Err() != nil {
		return nil, &uplink.NotOwnerError{Addr: n.w.ownerAddr(n)}
	}
	return log, nil
}

// leads returns the log of a node that lives and believes that it owns it, else
// nil.
func (n *node) leads() *commitlog.Log {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.log == nil || n.dead || n.log.Err() != nil {
		return nil
	}
	return n.log
}

// forget takes a node out of the list of those that lead or may.
func (w *world) forget(n *node) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.nodes[n.addr] == n {
		delete(w.nodes, n.addr)
	}
}

// ownerAddr is the address of a leader that is not n, "" if none is known.
func (w *world) ownerAddr(n *node) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, other := range w.nodes {
		if other != n {
			return other.addr
		}
	}
	return ""
}

// leader returns the log of the newest leader, nil if there is none.
func (w *world) leader() *commitlog.Log {
	w.mu.Lock()
	all := slices.Clone(w.all)
	w.mu.Unlock()
	var best *commitlog.Log
	for _, n := range all {
		if log := n.leads(); log != nil && (best == nil || log.Epoch() > best.Epoch()) {
			best = log
		}
	}
	return best
}

// plan says what becomes of a node's calls of the bucket.
func (w *world) plan(f *storagetest.Faults, rng *rand.Rand) storagetest.Plan {
	var mu sync.Mutex
	return func(c storagetest.Call) storagetest.Outcome {
		pace, trouble := w.pace(), w.troubled()
		mu.Lock()
		out := storagetest.Outcome{Before: upTo(rng, pace), After: upTo(rng, pace)}
		p := rng.IntN(100)
		mu.Unlock()
		if !trouble {
			return out
		}
		switch {
		case p < 5:
			out.Fate = storagetest.Fail
		case p < 10:
			out.Fate = storagetest.Applied
		case p < 15:
			out.Fate = storagetest.Late
		case p < 18:
			out.Fate = storagetest.Again
		case p < 25:
			f.LandOne()
		}
		return out
	}
}

func upTo(rng *rand.Rand, d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return time.Duration(rng.Int64N(int64(d) + 1))
}

// overwriting is a bucket without the one promise that everything rests on.
type overwriting struct{ storage.Bucket }

func (o overwriting) Create(ctx context.Context, key string, body []byte) error {
	if !strings.Contains(key, "/") { // the cluster object
		return o.Bucket.Create(ctx, key, body)
	}
	if err := o.Bucket.Delete(ctx, key); err != nil {
		return err
	}
	return o.Bucket.Create(ctx, key, body)
}

// shardLog is the log as the owner of a shard sees it: what package cloud puts between
// the broker and gateways, without what belongs to other doors.
type shardLog struct{ n *node }

func (u *shardLog) calls() uplink.Calls {
	return uplink.Calls{Offer: u.Offer, Append: u.Append, Mark: u.Mark, Retire: u.Retire}
}

func (u *shardLog) answer(err error) error {
	refused, ok := errors.AsType[*commitlog.RefusedError](err)
	switch {
	case err == nil:
		return nil
	case ok && refused.Reason == commitlog.ReasonSequence:
		return uplink.ErrHole
	case ok && refused.Reason == commitlog.ReasonTopic:
		return uplink.ErrGone
	case ok:
		return uplink.ErrRetired
	case errors.Is(err, commitlog.ErrFenced), errors.Is(err, commitlog.ErrClosed):
		return &uplink.NotOwnerError{Addr: u.n.w.ownerAddr(u.n)}
	case errors.Is(err, commitlog.ErrUnknownTopic):
		return uplink.ErrGone
	case errors.Is(err, commitlog.ErrTooLarge):
		return uplink.ErrTooLarge
	case errors.Is(err, state.ErrCorrupt), errors.Is(err, commitlog.ErrUnsupported):
		return uplink.ErrCorrupt
	}
	return errors.Join(uplink.ErrBusy, err)
}

func (u *shardLog) Offer(_ context.Context, gateway string, buffers []weir.Buffer) (uplink.Offered, error) {
	var known uplink.Offered
	log, err := u.n.owned()
	if err != nil {
		return known, err
	}
	offered := map[weir.BufferID]bool{}
	for _, b := range buffers {
		if b.Current {
			log.Adopt(gateway, b.ID)
		}
		o := wire.OfferedBuffer{ID: b.ID, State: log.BufferState(gateway, b.ID)}
		for lane := range o.Reached {
			o.Reached[lane] = log.Reached(weir.Stream{Gateway: gateway, Buffer: b.ID, Lane: weir.Lane(lane)})
		}
		known.Buffers = append(known.Buffers, o)
		offered[b.ID] = true
	}
	marks, rows := log.Marks(gateway)
	for _, m := range marks {
		if offered[m.Buffer] {
			known.Marks = append(known.Marks, m)
		}
	}
	for _, r := range rows {
		if offered[r.Buffer] {
			known.Rows = append(known.Rows, r)
		}
	}
	return known, nil
}

func (u *shardLog) Resolve(ctx context.Context, _, topic string) (weir.TopicID, int32, error) {
	log, err := u.n.owned()
	if err != nil {
		return weir.TopicID{}, 0, err
	}
	if topic == forbidden {
		return weir.TopicID{}, 0, uplink.ErrNotAllowed
	}
	t, ok := log.Topic(topic)
	if !ok {
		t, err = log.CreateTopic(ctx, topic, 2, nil)
		if err != nil && !errors.Is(err, commitlog.ErrTopicExists) {
			return weir.TopicID{}, 0, u.answer(err)
		}
	}
	return t.ID, t.Partitions, nil
}

func (u *shardLog) Append(a uplink.Append, done func(error)) {
	log, err := u.n.owned()
	if err == nil {
		// A topic that is gone is the log's to refuse, in its order.
		if u.n.w.open(log, a.Topic) {
			err = u.n.w.refuse(a)
		}
	}
	if err != nil {
		if u.n.w.mutations.cloud.SilentOwner && errors.As(err, new(*uplink.NotOwnerError)) {
			return
		}
		done(err)
		return
	}
	topic := a.Topic
	if _, ok := log.TopicByID(topic); !ok && u.n.w.mutations.cloud.TopicByName {
		if t, ok := log.Topic(u.n.w.nameOf(topic)); ok {
			topic = t.ID
		}
	}
	source := state.Source{Stream: a.Stream, Prev: a.Prev, First: a.First, Last: a.Last, Row: a.Row}
	log.Append(commitlog.Append{Topic: topic, Partition: a.Partition, Batch: a.Batch, Source: &source},
		func(_ int64, err error) {
			if err = u.answer(err); u.n.w.mutations.cloud.SilentOwner && errors.As(err, new(*uplink.NotOwnerError)) {
				return
			}
			done(err)
		})
}

func (u *shardLog) Mark(ctx context.Context, s weir.Stream, topic weir.TopicID, partition int32) (uint64, error) {
	log, err := u.n.owned()
	if err != nil {
		return 0, err
	}
	mark, err := log.Mark(ctx, s, topic, partition)
	if errors.Is(err, commitlog.ErrUnknownTopic) {
		return 0, nil
	}
	return mark, u.answer(err)
}

func (u *shardLog) Retire(ctx context.Context, gateway string, buffer weir.BufferID) error {
	log, err := u.n.owned()
	if err != nil {
		return err
	}
	return u.answer(log.Retire(ctx, gateway, buffer))
}

// refuse is the cloud's mind: bad readings never, others sometimes not now.
func (w *world) refuse(a uplink.Append) error {
	w.mu.Lock()
	trouble, moves := w.trouble, w.moving>>(a.Partition%8)&1 > 0
	w.mu.Unlock()
	if trouble && moves && !a.Gap {
		return uplink.ErrMoved
	}
	if trouble && w.chance(6) {
		return []error{uplink.ErrBusy, uplink.ErrMoved, uplink.ErrHole}[w.roll(3)]
	}
	if a.Gap || !w.hasBad.Load() {
		return nil
	}
	bad := false
	err := a.Batch.Each(1<<20, func(r *record.Record) error {
		bad = bad || strings.HasSuffix(string(r.Value), badSuffix)
		return nil
	})
	if err == nil && bad {
		return uplink.ErrTooLarge
	}
	return nil
}
