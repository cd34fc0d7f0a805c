package txn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"

	"github.com/weirmq/weir/cloud/group"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/record/recordtest"
	"github.com/weirmq/weir/storage/weir"
)

// shardLog is the log of one shard. What it takes is durable and applied at once, unless
// it is lost: then another owner has the shard.
type shardLog struct {
	order    sync.Mutex // held while something is applied
	machines []state.Machine
	lost     bool // guarded by order

	*durableLog
}

// durableLog is what survives an owner.
type durableLog struct {
	entries    []commitlog.Command
	slots      int
	ids        int64
	partitions map[state.Place]*partitionLog
	mutated    bool // rules are broken: what the log finds is no error of the test
}

// partitionLog is a partition with one batch per record.
type partitionLog struct {
	producers map[int64]*state.Producer
	batches   []written
}

// written is a record, or a marker.
type written struct {
	producer Producer
	value    string // of a record
	marker   bool
	commit   bool
}

func newDurableLog(shard int) *durableLog {
	return &durableLog{ids: int64(shard+1) * 1000, partitions: make(map[state.Place]*partitionLog)}
}

func (d *durableLog) partition(p state.Place) *partitionLog {
	x := d.partitions[p]
	if x == nil {
		x = &partitionLog{producers: make(map[int64]*state.Producer)}
		d.partitions[p] = x
	}
	return x
}

func (x *partitionLog) producer(id int64) *state.Producer {
	p := x.producers[id]
	if p == nil {
		p = new(state.Producer)
		x.producers[id] = p
	}
	return p
}

func (l *shardLog) Topics() []state.Topic { return nil }
func (l *shardLog) Level() int            { return 2 }

func (l *shardLog) TopicByID(id weir.TopicID) (state.Topic, bool) { return state.Topic{ID: id}, true }

func (l *shardLog) NewProducerID(context.Context) (int64, error) {
	l.order.Lock()
	defer l.order.Unlock()
	if l.lost {
		return 0, commitlog.ErrFenced
	}
	l.ids++
	return l.ids, nil
}

func (l *shardLog) Append(a commitlog.Append, done func(int64, error)) {
	base, err := l.write(a)
	done(base, err)
}

func (l *shardLog) write(a commitlog.Append) (int64, error) {
	l.order.Lock()
	defer l.order.Unlock()
	if l.lost {
		return -1, commitlog.ErrFenced
	}
	x := l.partition(state.Place{Topic: a.Topic, Partition: a.Partition})
	p := x.producer(a.Batch.ProducerID())
	base, duplicate, err := p.Judge(a.Batch, true)
	if err != nil || duplicate {
		return base, err
	}
	base = int64(len(x.batches))
	p.Take(a.Batch, base)
	x.batches = append(x.batches, written{producer: Producer{a.Batch.ProducerID(), a.Batch.ProducerEpoch()}, value: valueOf(a.Batch)})
	return base, nil
}

func (l *shardLog) Submit(p commitlog.Proposal, done func([]int64, error)) {
	done(nil, l.land(p.Commands, p.End))
}

func (l *shardLog) ProposeAll(_ context.Context, commands []commitlog.Command, end *commitlog.TransactionEnd) error {
	return l.land(commands, end)
}

func (l *shardLog) Propose(_ context.Context, kind uint16, body []byte) error {
	return l.land([]commitlog.Command{{Kind: kind, Body: body}}, nil)
}

// land applies one slot.
func (l *shardLog) land(commands []commitlog.Command, end *commitlog.TransactionEnd) error {
	l.order.Lock()
	defer l.order.Unlock()
	if l.lost {
		return commitlog.ErrFenced
	}
	if end != nil {
		for _, place := range end.Partitions {
			x := l.partition(place)
			p := x.producer(end.Producer)
			if p.Known && end.Epoch < p.Epoch {
				if p.Open {
					return state.ErrProducerFenced
				}
				continue
			}
			p.End(end.Epoch, 0)
			x.batches = append(x.batches, written{producer: Producer{end.Producer, end.Epoch}, marker: true, commit: end.Commit})
		}
	}
	for _, c := range commands {
		l.entries = append(l.entries, c)
		if err := l.apply(c); err != nil && !l.mutated {
			panic(fmt.Sprintf("apply entry of kind %d: %v", c.Kind, err))
		}
	}
	l.slots++
	return nil
}

func (l *shardLog) apply(c commitlog.Command) error {
	for _, m := range l.machines {
		if slices.Contains(m.Kinds(), c.Kind) {
			return m.Apply(c.Kind, c.Body)
		}
	}
	return errors.New("no machine has the kind")
}

func valueOf(b record.Batch) (value string) {
	if err := b.Each(1<<20, func(r *record.Record) error {
		value = string(r.Value)
		return nil
	}); err != nil {
		panic(err)
	}
	return value
}

// owner is the period in which a node owns a shard.
type owner struct {
	number int
	log    *shardLog
	groups *group.Coordinator
	txns   *Coordinator
	parts  *Participant
}

// newOwner takes over a shard: it replays the log, from a snapshot in its middle.
func newOwner(number int, d *durableLog, o Options) (*owner, error) {
	quiet := slog.New(slog.DiscardHandler)
	x := &owner{number: number, groups: group.New(group.Options{Log: quiet})}
	o.Shard, o.Groups, o.Log = uint32(number), x.groups, quiet
	x.txns, x.parts = New(o), NewParticipant(o)
	x.log = &shardLog{machines: []state.Machine{x.groups, x.txns, x.parts}, durableLog: d}
	for i, c := range d.entries {
		if i == len(d.entries)/2 {
			for _, m := range x.log.machines {
				if err := m.Restore(m.Snapshot()); err != nil {
					return nil, err
				}
			}
		}
		if err := x.log.apply(c); err != nil && !d.mutated {
			return nil, err
		}
	}
	x.groups.Serve(x.log)
	x.txns.serve(x.log)
	x.parts.serve(x.log)
	return x, nil
}

// lose fences the owner, which does not know it.
func (x *owner) lose() {
	x.log.order.Lock()
	defer x.log.order.Unlock()
	x.log.lost = true
}

func (x *owner) close() error {
	return errors.Join(x.txns.Close(), x.parts.Close(), x.groups.Close())
}

// layout says which shard has a partition of topic A, by its number, and the group of
// that name; transactional ids are in shard 0.
type layout map[weir.Slice]uint32

func placeIn(shard int) state.Place { return state.Place{Topic: topicA, Partition: int32(shard)} }
func groupIn(shard int) string      { return fmt.Sprint("g", shard) }

func newLayout(shards int) layout {
	of := make(layout)
	for i := range shards {
		of[weir.SliceOf(topicA, int32(i))] = uint32(i)
		of[weir.SliceOfGroup(groupIn(i))] = uint32(i)
	}
	return of
}

// region is some shards that call each other directly.
type region struct {
	t     testing.TB
	o     Options
	disks []*durableLog

	mu       sync.Mutex
	layout   layout                   // guarded by mu
	owners   []*owner                 // guarded by mu
	failures map[uint32]error         // of calls to a shard; guarded by mu
	held     map[uint32]chan struct{} // calls to a shard wait for the channel; guarded by mu
}

func newRegion(t testing.TB, shards int, o Options) *region {
	r := &region{t: t, layout: newLayout(shards), o: o, failures: make(map[uint32]error), held: make(map[uint32]chan struct{})}
	r.o.Shards = r
	for i := range shards {
		r.disks = append(r.disks, newDurableLog(i))
		r.owners = append(r.owners, nil)
		r.takeover(i)
	}
	return r
}

// takeover lets another owner have a shard; the former one is closed.
func (r *region) takeover(shard int) {
	if old := r.owner(uint32(shard)); old != nil {
		old.lose()
		if err := old.close(); err != nil {
			r.t.Error(err)
		}
	}
	x, err := newOwner(shard, r.disks[shard], r.o)
	if err != nil {
		r.t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.owners[shard] = x
}

func (r *region) owner(shard uint32) *owner {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.owners[shard]
}

func (r *region) close() {
	for i := range r.disks {
		if err := r.owner(uint32(i)).close(); err != nil {
			r.t.Error(err)
		}
	}
}

func (r *region) ShardOf(s weir.Slice) uint32 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.layout[s]
}

// move changes which shard has a slice.
func (r *region) move(s weir.Slice, to uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.layout[s] = to
}

// call waits until calls to a shard may pass, and returns what then keeps them from it.
func (r *region) call(ctx context.Context, shard uint32) error {
	r.mu.Lock()
	held, failure := r.held[shard], r.failures[shard]
	r.mu.Unlock()
	if held == nil {
		return failure
	}
	select {
	case <-held:
		return failure
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *region) Verify(ctx context.Context, p Part) (uint64, error) {
	if err := r.call(ctx, 0); err != nil {
		return 0, err
	}
	return r.owner(0).txns.Verify(ctx, p)
}

func (r *region) End(ctx context.Context, shard uint32, d Decision) error {
	if err := r.call(ctx, shard); err != nil {
		return err
	}
	return r.owner(shard).parts.End(ctx, d)
}

// fail makes calls to a shard fail; nil ends that.
func (r *region) fail(shard uint32, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures[shard] = err
}

// hold makes calls to a shard wait until release is called.
func (r *region) hold(shard uint32) (release func()) {
	held := make(chan struct{})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held[shard] = held
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.held, shard)
		close(held)
	}
}

// begin returns a producer of the transactional id.
func (r *region) begin(expected *Producer) Producer {
	r.t.Helper()
	p, err := r.owner(0).txns.InitProducerID(context.Background(), InitRequest{ID: id, Timeout: minute, Expected: expected})
	if err != nil {
		r.t.Fatal(err)
	}
	return p
}

// send appends to the partition in a shard; the channel gets the answer.
func (r *region) send(shard int, p Producer, sequence int32, value string, implicit bool) chan error {
	answer, x, place := make(chan error, 1), r.owner(uint32(shard)), placeIn(shard)
	pass := x.parts.Append
	if shard == 0 {
		pass = x.txns.Append
	}
	pass(Appended{
		Append: commitlog.Append{Topic: place.Topic, Partition: place.Partition, Batch: recordtest.Transactional(p.ID, p.Epoch, sequence, value)}, ID: id, Implicit: implicit,
	}, func(_ int64, err error) { answer <- err })
	return answer
}

func (r *region) end(p Producer, commit, bump bool) (Producer, error) {
	return r.owner(0).txns.End(context.Background(), EndRequest{ID: id, Producer: p, Commit: commit, Bump: bump})
}

// offsets commits an offset in the group of a shard.
func (r *region) offsets(shard int, p Producer, at int64, implicit bool) error {
	x := r.owner(uint32(shard))
	commit := x.parts.CommitOffsets
	if shard == 0 {
		commit = x.txns.CommitOffsets
	}
	_, err := commit(context.Background(), offsetRequest(shard, p, at, implicit))
	return err
}

func offsetRequest(shard int, p Producer, at int64, implicit bool) OffsetsRequest {
	return OffsetsRequest{ID: id, Producer: p, Implicit: implicit, Commit: group.CommitRequest{
		Group: groupIn(shard), Generation: -1, Offsets: []group.Offset{{Partition: group.Partition{Topic: topicA}, Offset: at, LeaderEpoch: -1}},
	}}
}

// committed returns the offset that a group has, and whether a transaction may change it.
func (r *region) committed(shard int) (at int64, pending bool) {
	x, name := r.owner(uint32(shard)), groupIn(shard)
	pending = len(x.txns.Pending(name))+len(x.parts.Pending(name)) > 0
	all, err := x.groups.Offsets(name, nil)
	if err != nil {
		r.t.Error(err)
	}
	if len(all) == 0 {
		return none, pending
	}
	return all[0].Offset, pending
}

// holds returns the partition of a shard in few words: values, and + or - for the markers.
func (r *region) holds(shard int) string {
	d := r.disks[shard]
	s := ""
	for _, x := range d.partition(placeIn(shard)).batches {
		switch {
		case x.marker && x.commit:
			s += "+"
		case x.marker:
			s += "-"
		default:
			s += x.value
		}
	}
	return s
}
