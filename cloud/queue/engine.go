package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/weirmq/weir/cloud/machine"
	"github.com/weirmq/weir/cloud/queue/state"
	"github.com/weirmq/weir/storage/weir"
)

// DefaultVhost exists from the first start on, or with Options.Late from its first use on.
// It has the name that RabbitMQ's clients ask for by default.
const DefaultVhost = "/"

// Options configure an Engine. The zero value is usable.
type Options struct {
	Log *slog.Logger     // slog.Default
	Now func() time.Time // time.Now

	Topics Topics // of stream queues; without it none can be declared

	// Here reports whether a vhost belongs to this shard; nil: all of them. Others cannot be
	// created here.
	Here func(vhost string) bool

	// Late says that the default vhost is created when a client first needs it (OpenVhost):
	// until then nothing is written that a version without queues here could not read.
	Late bool

	Mutations Mutations // of tests
}

// Engine is the queues of a shard, as its owner serves them. It is a state machine of the
// shard's log, made before the log is opened and used for one period of ownership only.
// It may be used by many goroutines.
type Engine struct {
	o      Options
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	tasks  tasks
	opened chan struct{} // closed when start has ended
	log    machine.WaitingLog
	gate   machine.Gate  // of vhosts that are created or deleted; closed for those that other shards have
	turn   chan struct{} // has an element while a vhost is created or deleted, which takes several entries

	mu     sync.Mutex
	state  *state.State           // guarded by mu
	hosts  map[weir.TopicID]*host // guarded by mu; made when first needed
	failed error                  // guarded by mu: why the start did not succeed
	phase  phase                  // guarded by mu
	ended  bool                   // guarded by mu: the default vhost was deleted; not OpenVhost, but the next owner creates it again
	wishes map[string]*declarer   // guarded by mu, by vhost
	flying map[string]*batch      // guarded by mu: verdicts on their way into the log, by the body of their entry
	route  scratch                // guarded by mu
	hooks  *Hooks                 // guarded by mu; nil: none
}

// phase is where an Engine is in its life.
type phase uint8

const (
	recovering phase = iota // the log is read; nothing is served
	starting                // the entries of a new owner are being written
	serving
	closed
)

// host is a vhost as its owner serves it.
type host struct {
	engine *Engine
	name   string
	topic  weir.TopicID
	pages  pages // messages that were read

	// Guarded by Engine.mu.
	lives     map[state.QueueID]*live // made when first needed
	counts    Counts                  // of all queues that are or were; Published by clients
	batches   []*batch                // verdicts that wait for an entry, oldest first
	writing   bool                    // a goroutine writes batches
	delayed   *time.Timer             // when the next delayed messages are due; nil: not known
	floor     int64                   // below it nothing is needed, and the log was told
	freeing   *time.Timer             // when the log will be told; nil: not at all
	releasing bool                    // a goroutine publishes delayed messages
	gone      bool                    // the vhost was deleted
}

// New returns an Engine for an empty shard. The log applies its entries to it, then Start
// begins to serve.
func New(o Options) *Engine {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Here == nil {
		o.Here = func(string) bool { return true }
	}
	o.Mutations = o.Mutations.begun()
	e := &Engine{o: o, opened: make(chan struct{}), turn: make(chan struct{}, 1), state: state.New(),
		hosts: make(map[weir.TopicID]*host), wishes: make(map[string]*declarer), flying: make(map[string]*batch)}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	return e
}

// Start begins to serve: this node owns the log, and all entries have been applied. It
// returns at once. Calls wait until the entries of the new owner are durable.
func (e *Engine) Start(_ context.Context, log machine.WaitingLog) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.phase != recovering {
		return
	}
	e.log, e.phase = log, starting
	e.tasks.run(e.start)
}

// start writes what a new owner has to: the default vhost if it belongs here and is not Late, the end of the sessions of
// the owner before, and that what was lent then may have been delivered.
func (e *Engine) start() {
	err := e.begin(e.ctx)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.phase == starting {
		e.failed = err
		if e.phase = serving; err != nil {
			e.phase = closed
			if e.ctx.Err() == nil {
				e.o.Log.Error("the queues are not served: their start failed", "err", err)
			}
		}
	}
	close(e.opened)
	for _, v := range e.state.Vhosts() {
		e.serveVhost(v)
	}
}

func (e *Engine) begin(ctx context.Context) error {
	e.mu.Lock()
	var orphans []wish
	known := e.state.Vhost(DefaultVhost) != nil
	epoch := false
	for _, v := range e.state.Vhosts() {
		for _, q := range v.Queues() {
			if q.Settings.Owner != "" {
				orphans = append(orphans, wish{vhost: v.Name, declaration: state.Declaration{DeleteQueue: &state.QueueDeleted{ID: q.ID}}})
			}
			epoch = epoch || q.Lent() >= 0
		}
	}
	e.mu.Unlock()
	if e.log.Level() < 2 {
		return nil // nothing can be written, see writable
	}
	if !known && !e.o.Late && e.o.Here(DefaultVhost) {
		if err := e.createVhost(ctx, DefaultVhost); err != nil {
			return fmt.Errorf("create vhost %s: %w", DefaultVhost, err)
		}
	}
	for _, w := range orphans {
		if err := e.wish(ctx, w.vhost, w.declaration); err != nil && !errors.Is(err, ErrNoQueue) {
			return fmt.Errorf("delete an exclusive queue of an earlier owner: %w", err)
		}
	}
	if !epoch || noEpoch(e.o.Mutations) {
		return nil
	}
	if err := e.log.Propose(ctx, state.KindEpoch, state.EncodeEpoch()); err != nil {
		return fmt.Errorf("begin to lend messages: %w", err)
	}
	return nil
}

// serveVhost begins what goes on in a vhost without a client. The caller holds mu.
func (e *Engine) serveVhost(v *state.Vhost) {
	if e.phase != serving {
		return
	}
	h := e.host(v)
	h.watchDelayed(v)
	h.free()
	for _, q := range v.Queues() {
		if needsUpkeep(q) {
			h.live(q).wake()
		}
	}
}

// Close ends the engine. Entries on their way to the log, which is closed at the same
// time, succeed or fail first.
func (e *Engine) Close() error {
	e.mu.Lock()
	before := e.phase
	e.phase = closed
	if before == recovering {
		close(e.opened)
	}
	var consumers []*Consumer
	for _, h := range e.hosts {
		consumers = append(consumers, h.stop()...)
	}
	e.mu.Unlock()
	e.cancel()
	for _, c := range consumers {
		c.o.Cancelled()
	}
	e.tasks.end()
	return nil
}

// stop ends the timers of a vhost and returns its consumers. The caller holds mu.
func (h *host) stop() []*Consumer {
	for _, t := range []*time.Timer{h.delayed, h.freeing} {
		if t != nil {
			t.Stop()
		}
	}
	var all []*Consumer
	for _, l := range h.lives {
		all = append(all, l.stop()...)
	}
	return all
}

// Kinds returns the kinds of log entries that Apply understands.
func (e *Engine) Kinds() []uint16 { return e.state.Kinds() }

// Apply applies a durable entry, both in recovery and in normal operation. An error
// means that the log holds what this version cannot understand.
func (e *Engine) Apply(kind uint16, body []byte) error {
	e.mu.Lock()
	var cancelled []*Consumer
	c, err := e.state.Apply(kind, body)
	if err == nil && e.phase != recovering {
		cancelled = e.changed(c)
		if kind == state.KindSettle {
			e.settled(body)
		}
	}
	e.mu.Unlock()
	for _, c := range cancelled {
		c.o.Cancelled()
	}
	if err != nil {
		return fmt.Errorf("apply queue entry of kind %d: %w", kind, err)
	}
	return nil
}

// settled ends the leases of an entry of this engine. It does that as the entry is
// applied: a message that is gone from its queue and still leased would count twice. The
// caller holds mu.
func (e *Engine) settled(body []byte) {
	if b := e.flying[string(body)]; b != nil {
		delete(e.flying, b.entry)
		b.end()
	}
}

// changed acts on what an entry has changed, and returns the consumers of deleted queues.
// The caller holds mu.
func (e *Engine) changed(c *state.Changes) (cancelled []*Consumer) {
	if c.Results != nil {
		if e.hooks != nil {
			e.hooks.Declared(c.Vhost)
		}
		e.declared(c)
	}
	if e.phase == closed {
		return nil
	}
	for _, q := range c.Deleted {
		h := e.host(q.Vhost)
		h.free()
		if l := h.lives[q.ID]; l != nil {
			delete(h.lives, q.ID)
			cancelled = append(cancelled, l.stop()...)
		}
	}
	for _, v := range c.DeletedVhosts {
		e.ended = e.ended || v.Name == DefaultVhost
		if h := e.hosts[v.Topic]; h != nil {
			delete(e.hosts, v.Topic)
			h.gone = true
			cancelled = append(cancelled, h.stop()...)
		}
	}
	for _, q := range c.Created {
		if needsUpkeep(q) {
			e.host(q.Vhost).live(q).wake()
		}
	}
	for _, q := range c.Filled {
		h := e.host(q.Vhost)
		l := h.lives[q.ID]
		if l == nil && needsUpkeep(q) {
			l = h.live(q)
		}
		if l != nil {
			l.arrive()
			l.wake()
		}
	}
	if c.Delayed != nil {
		e.host(c.Delayed).watchDelayed(c.Delayed)
	}
	return cancelled
}

// Snapshot returns the durable state.
func (e *Engine) Snapshot() []byte {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.state.Snapshot()
}

// Restore replaces the state by that of a snapshot.
func (e *Engine) Restore(body []byte) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.state.Restore(body)
}

// host returns the host of a vhost. The caller holds mu.
func (e *Engine) host(v *state.Vhost) *host {
	h := e.hosts[v.Topic]
	if h == nil {
		h = &host{engine: e, name: v.Name, topic: v.Topic, lives: make(map[state.QueueID]*live)}
		e.hosts[v.Topic] = h
	}
	return h
}

// open waits until the engine serves. Errors: ErrClosed, ErrStarting if ctx ends first.
func (e *Engine) open(ctx context.Context) error {
	select {
	case <-e.opened:
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrStarting, ctx.Err())
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.serves()
}

// serves returns an error unless the engine serves. The caller holds mu.
func (e *Engine) serves() error {
	switch {
	case e.phase == serving:
		return nil
	case e.phase == starting || e.phase == recovering:
		return ErrStarting
	case e.failed != nil:
		return fmt.Errorf("%w: %w", ErrClosed, e.failed)
	}
	return ErrClosed
}

// vhost returns a vhost of an engine that serves. The caller holds mu. Errors:
// ErrNoVhost, and those of serves.
func (e *Engine) vhost(name string) (*state.Vhost, error) {
	if err := e.serves(); err != nil {
		return nil, err
	}
	v := e.state.Vhost(name)
	if v == nil {
		return nil, fmt.Errorf("%w: %s", ErrNoVhost, name)
	}
	return v, nil
}

// queue returns a queue of an engine that serves, if the session may use it. The caller
// holds mu. Errors: ErrNoQueue, ErrExclusive, and those of vhost.
func (e *Engine) queue(vhost, name, session string) (*state.Queue, error) {
	v, err := e.vhost(vhost)
	if err != nil {
		return nil, err
	}
	q := v.Queue(name)
	if q == nil {
		return nil, fmt.Errorf("%w: %s in vhost %s", ErrNoQueue, name, vhost)
	}
	if owner := q.Settings.Owner; owner != "" && owner != session {
		return nil, fmt.Errorf("%w: %s in vhost %s", ErrExclusive, name, vhost)
	}
	return q, nil
}

// workQueue is queue for what stream queues do not support: they are ErrStream.
func (e *Engine) workQueue(vhost, name, session string) (*state.Queue, error) {
	q, err := e.queue(vhost, name, session)
	if err == nil && q.Settings.Stream {
		return nil, fmt.Errorf("%w: %s in vhost %s", ErrStream, name, vhost)
	}
	return q, err
}

// tasks are the goroutines of an engine.
type tasks struct {
	mu    sync.Mutex
	ended bool // guarded by mu
	all   sync.WaitGroup
}

// run runs task in a goroutine. It returns false, and does not, if the tasks have ended.
func (t *tasks) run(task func()) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.ended {
		t.all.Go(task)
	}
	return !t.ended
}

// end waits for the tasks; no more are run.
func (t *tasks) end() {
	t.mu.Lock()
	t.ended = true
	t.mu.Unlock()
	t.all.Wait()
}
