package group

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/weirmq/weir/cloud/machine"
)

// Options of a Coordinator. The zero value of each field means its default.
type Options struct {
	InitialDelay time.Duration // how long the first rebalance of an empty group waits for more members; 100 ms, negative: none
	MinSession   time.Duration // shortest session timeout accepted; 1 s
	MaxSession   time.Duration // longest session timeout accepted; 30 min
	MaxGroups    int           // groups with members or offsets; 10,000
	MaxMembers   int           // members of one group, including those that still have to come back with their id; 1,000
	MaxBytes     int           // protocols, subscriptions and assignments of all members of all groups; 64 MiB
	MaxMetadata  int           // bytes of metadata of one committed offset; 4,096

	ConsumerSession   time.Duration // a member of a consumer or share group is removed after this long without a heartbeat; 45 s
	ConsumerHeartbeat time.Duration // interval at which its members are told to send one; 5 s

	// Timeouts, if set, returns the two for a group of type Consumer or Share that has its
	// own, else 0 and the values above apply. It is called with the coordinator locked, and
	// must not wait.
	Timeouts func(group string, typ Type) (session, heartbeat time.Duration)

	NoHistory bool // there is no offsets topic

	Now func() time.Time // time.Now
	Log *slog.Logger     // slog.Default
}

func (o Options) withDefaults() Options {
	if o.InitialDelay == 0 {
		o.InitialDelay = 100 * time.Millisecond
	}
	o.InitialDelay = max(o.InitialDelay, 0)
	o.MinSession = cmp.Or(o.MinSession, time.Second)
	o.MaxSession = cmp.Or(o.MaxSession, 30*time.Minute)
	o.MaxGroups = cmp.Or(o.MaxGroups, 10_000)
	o.MaxMembers = cmp.Or(o.MaxMembers, 1_000)
	o.MaxBytes = cmp.Or(o.MaxBytes, 64<<20)
	o.MaxMetadata = cmp.Or(o.MaxMetadata, 4_096)
	o.ConsumerSession = cmp.Or(o.ConsumerSession, 45*time.Second)
	o.ConsumerHeartbeat = cmp.Or(o.ConsumerHeartbeat, 5*time.Second)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	return o
}

// Coordinator holds the consumer groups of one shard while this node owns it.
// It is a state.Machine.
type Coordinator struct {
	opts   Options
	topics topics       // has its own mutex
	gate   machine.Gate // closed for groups that other shards have; has its own mutex

	mu     sync.Mutex        // guards everything below, and every group and member
	log    machine.Log       // nil until Start
	closed bool              // every call returns ErrClosed
	groups map[string]*group // by group id; only groups with members or offsets
	bytes  int               // of all members' protocols, subscriptions and assignments

	history   history
	forgotten map[[16]byte]string // names of topics that are being forgotten, for the history
}

// New returns an empty coordinator. It serves after Start.
func New(o Options) *Coordinator {
	return &Coordinator{opts: o.withDefaults(), groups: make(map[string]*group), forgotten: make(map[[16]byte]string)}
}

// Start begins to serve, and begins the offsets topic in a bucket that has none yet,
// if the format level and Options.NoHistory allow it.
func (c *Coordinator) Start(ctx context.Context, log machine.WaitingLog) {
	c.Serve(log)
	if c.opts.NoHistory {
		return
	}
	if err := c.startHistory(ctx); err != nil && ctx.Err() == nil {
		c.opts.Log.Warn("topic "+OffsetsTopic+" cannot be served before the next start", "err", err)
	}
}

// Serve makes the coordinator answer requests. Members of consumer groups get
// partitions of the log's topics.
func (c *Coordinator) Serve(log machine.Log) {
	c.topics.start(log, c.HasHistory)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.log = log
}

// Close answers every waiting request with ErrClosed and stops all timers.
// Later requests get ErrClosed. It starts no goroutines, so it waits for none.
func (c *Coordinator) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	for _, g := range c.groups {
		g.shut()
	}
	for i := range c.history.parts {
		c.history.parts[i].wake()
	}
	return nil
}
