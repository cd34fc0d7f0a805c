package bridge

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/properties"
	"github.com/weirmq/weir/cloud/queue"
)

// exchange is where records are published. The durable reader of a vhost has its name.
const exchange = properties.TopicExchange

// Options configure a Bridge. Broker, Records and Queues are required.
type Options struct {
	Broker  *broker.Broker  // has the topics
	Records *broker.Records // of all partitions; those of Broker
	Queues  *queue.Engine   // of a shard that this node owns
	Metrics *metrics.Set
	Log     *slog.Logger     // slog.Default
	Now     func() time.Time // time.Now
}

// Bridge serves the vhosts of a shard for one period of ownership. A vhost to whose
// amq.topic nothing is bound costs nothing; one to which something is has a goroutine,
// which sleeps until a partition grows.
type Bridge struct {
	o        Options
	counters *counters
	ctx      context.Context // ends with Close
	cancel   context.CancelFunc
	tasks    sync.WaitGroup
	wake     chan struct{} // has an element when changed has one

	mu      sync.Mutex
	vhosts  map[string]*vhost // guarded by mu; made when first needed
	changed map[string]bool   // guarded by mu: vhosts whose bindings may have changed
}

// New returns a Bridge that hooks into the Engine, which has no clients yet. Start begins
// to read.
func New(o Options) *Bridge {
	o.Log = cmp.Or(o.Log, slog.Default())
	if o.Metrics == nil {
		o.Metrics = metrics.NewSet()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	b := &Bridge{o: o, counters: newCounters(o.Metrics), wake: make(chan struct{}, 1), vhosts: make(map[string]*vhost), changed: make(map[string]bool)}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	o.Queues.Hook(queue.Hooks{Binding: b.binding, Declared: b.declared})
	return b
}

// Start begins to read: the broker serves the shard. It returns at once.
func (b *Bridge) Start() { b.tasks.Go(b.run) }

// Close ends the bridge. It may wait for room in the log, which is closed at the same time.
func (b *Bridge) Close() {
	b.cancel()
	b.tasks.Wait()
}

// run looks at the vhosts whose bindings change.
func (b *Bridge) run() {
	if _, err := b.o.Queues.HasVhost(b.ctx, queue.DefaultVhost); err != nil {
		return // the queues are not served; their Engine says why
	}
	for _, name := range b.o.Queues.Vhosts() {
		b.declared(name)
	}
	for {
		select {
		case <-b.wake:
		case <-b.ctx.Done():
			return
		}
		b.mu.Lock()
		changed := b.changed
		b.changed = make(map[string]bool)
		b.mu.Unlock()
		for name := range changed {
			b.vhost(name).look()
		}
	}
}

// declared is a hook: the bindings of a vhost may have changed. It is called before the
// client gets the answer, so that its reader knows by then.
func (b *Bridge) declared(name string) {
	b.mu.Lock()
	b.changed[name] = true
	if v := b.vhosts[name]; v != nil {
		v.changes.Add(1)
	}
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

func (b *Bridge) vhost(name string) *vhost {
	b.mu.Lock()
	defer b.mu.Unlock()
	v := b.vhosts[name]
	if v == nil {
		v = &vhost{bridge: b, name: name, nudge: make(chan struct{}, 1)}
		b.vhosts[name] = v
	}
	return v
}

// Lag returns how many records the vhosts have not read yet, those of a partition once for
// each vhost. Each other node is asked once for all of them. Partitions whose node does not
// answer are left out.
func (b *Bridge) Lag() (records int64) {
	b.mu.Lock()
	var places []broker.Place
	var next []int64
	for _, v := range b.vhosts {
		some, offsets := v.next.list()
		places, next = append(places, some...), append(next, offsets...)
	}
	b.mu.Unlock()
	for i, x := range b.o.Records.RangesNow(b.ctx, places) {
		if x.Err == nil {
			records += max(x.Stable-next[i], 0)
		}
	}
	return records
}

// again is the pause before a vhost is looked at again whose reader has failed.
const again = time.Second
