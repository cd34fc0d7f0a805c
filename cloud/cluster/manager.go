package cluster

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/journal"
)

// ManagerOptions configure a Manager. Bucket, Self, Shards, Ask, Follow, Lead and
// Progress are required.
type ManagerOptions struct {
	Bucket storage.Bucket
	Self   Node

	// Shards returns the number of shards of the cluster. It may grow.
	Shards func() uint32

	// Takeover is the silence after which a standby takes over, by its own
	// monotonic clock; DefaultTakeover if 0.
	Takeover time.Duration

	// Ask sends this node's report to another one and returns the answer. It returns an
	// error, for example ErrRefused, if there was none. A node of a version that does
	// not know reports is asked in its own way: its answer has no Node.Member.
	Ask func(ctx context.Context, to Node, mine Report) (Report, error)

	// Follow is called whenever another node turns out to be the owner of a shard.
	Follow func(ctx context.Context, shard uint32, owner Node, epoch uint64)

	// Fit, if set, returns why this node should not lead now: its own doors do not
	// answer. It leads all the same when nothing else has kept it from leading for four
	// times Takeover.
	Fit func(ctx context.Context) error

	// Lead claims exactly this epoch of the shard with self and serves it. With a
	// candidate, which Prepare has made and which has claimed, it takes over with that.
	// When ctx ends it closes the log in good order and returns nil; it returns nil, too,
	// when HandOver has ended the log. It returns ErrSuperseded when another node wins
	// the claim, and another error when it is fenced or fails.
	Lead func(ctx context.Context, shard uint32, self Node, epoch uint64, c Candidate) error

	// Prepare makes this node a candidate for a shard that is handed over, without a
	// claim. self is for the claim. If it is nil, and HandOver is too, a shard is closed
	// before another node opens it.
	Prepare func(ctx context.Context, shard uint32, self Node) (Candidate, error)

	// HandOver ends the log of a shard that this node leads. It calls ready while the log
	// goes on under the successor's claim, which has the nonce. If ready fails, the log
	// goes on. When HandOver has returned nil, the shard is the successor's; a later call
	// of Lead goes on with what this node had acknowledged.
	HandOver func(ctx context.Context, shard uint32, nonce [16]byte, ready func(context.Context) error) error

	// Succeed sends a step of a hand-over to another node: see Succeeds. Errors:
	// ErrUnsupported, ErrDeclined, ErrRefused, and any other if there was no answer.
	Succeed func(ctx context.Context, to Node, q Succession) (done bool, err error)

	// Progress returns how far Lead is, and the first slot that is not acknowledged,
	// zero if it is not known.
	Progress func(shard uint32) (State, journal.Position)

	// Revoked, if set, reports whether a node is not to be one of the cluster any more: it
	// is no member, and what it owns is taken without waiting for silence. After a node was
	// revoked, Expel is to be called.
	Revoked func(node string) bool

	Counters *Counters // nil: not used
	Log      *slog.Logger

	mutations mutations
	random    func(time.Duration) time.Duration // a time below another one; nil: rand.N
}

// Manager decides which shards of the cluster this node leads. It makes itself known to
// the other members, asks them all the time what they have, takes over from those that
// are silent, and hands shards over to those that should have them.
type Manager struct {
	o        ManagerOptions
	counters *Counters
	fitness  fitness
	missing  Roles // of the supervising goroutine: that it was last logged no node has

	ctx context.Context // of Run; pingers and supervisors end with it

	drain      context.Context // ends when the node begins to drain
	beginDrain context.CancelFunc

	wg sync.WaitGroup

	mu       sync.Mutex         // guards what follows
	running  bool               // new members are asked
	self     Node               // with the number of the member object, once there is one
	entered  time.Time          // when the member object was there last, as far as is known
	members  map[string]*member // the other nodes, by name
	shards   []*supervisor
	failed   chan error     // what ended a supervisor
	moving   int            // shards that are being handed over
	held     map[uint32]int // calls of Hold, by shard
	able     time.Time      // until when this node takes no shard that is handed over, because it could not lead several
	retry    time.Duration  // the time until then, the next time
	served   chan struct{}  // closed when this node begins to serve a shard; nil: nobody waits
	view     string         // those who can have shards, and their roles, this node included
	viewAt   time.Time      // when it last changed
	order    [][]string
	namesake string    // host of another process that used this node's name
	sameAt   time.Time // when it was heard last
}

const (
	// pings is how many times in the takeover time this node asks each other one.
	pings = 5
	// maxMoves is how many shards a node that drains hands over at once. Else it is one.
	maxMoves = 4
	// relist is how often the members are listed in the bucket. Nothing depends on it:
	// a node that starts lists them, and those that it asks learn of it.
	relist = 5 * time.Minute
	// forgotten is the silence after which a member object is deleted.
	forgotten = 10 * time.Minute
)

// New makes a Manager.
func New(o ManagerOptions) *Manager {
	if o.Takeover == 0 {
		o.Takeover = DefaultTakeover
	}
	if o.Counters == nil {
		o.Counters = new(Counters)
	}
	if o.random == nil {
		o.random = rand.N[time.Duration]
	}
	m := &Manager{o: o, counters: o.Counters, self: o.Self, members: make(map[string]*member), held: make(map[uint32]int), failed: make(chan error, 1)}
	m.drain, m.beginDrain = context.WithCancel(context.Background())
	m.fitness.m = m
	return m
}

// period is the time between two questions to a member.
func (m *Manager) period() time.Duration { return m.o.Takeover / pings }

// Run leads shards or stands by for them until ctx ends; then it returns nil. A cluster
// of one shard ends Run with the error of Lead: the process that has lost its only shard
// stops, and is a standby when it is started again.
func (m *Manager) Run(ctx context.Context) error {
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	m.mu.Lock()
	m.ctx, m.running = inner, true
	m.mu.Unlock()
	entered, failed := m.enter(inner)
	if entered {
		failed = m.supervise(inner)
	}
	m.mu.Lock()
	m.running = false
	m.mu.Unlock()
	cancel()
	m.wg.Wait()
	select {
	case err := <-m.failed: // while it ended
		failed = errors.Join(failed, err)
	default:
	}
	if failed == nil {
		m.leave()
	}
	return failed
}

// supervise starts the supervisors, and looks after everything else, until ctx ends or one
// of them fails.
func (m *Manager) supervise(ctx context.Context) error {
	tick := time.NewTicker(m.period())
	defer tick.Stop()
	listed := time.Now().Add(4*m.o.Takeover - relist) // then every node has read its own claims
	for first := true; ; first = false {
		m.grow(ctx)
		if !first {
			m.balance()
			m.watchRoles()
		}
		if time.Since(listed) >= relist {
			listed = time.Now()
			m.refresh(ctx)
		}
		select {
		case <-tick.C:
		case err := <-m.failed:
			return err
		case <-ctx.Done():
			return nil
		}
	}
}

// grow starts the supervisors of shards that have none.
func (m *Manager) grow(ctx context.Context) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.growLocked(ctx)
}

// growLocked is grow while m.mu is held.
func (m *Manager) growLocked(ctx context.Context) {
	for shard := uint32(len(m.shards)); shard < m.o.Shards(); shard++ {
		s := newSupervisor(m, shard)
		m.shards = append(m.shards, s)
		m.order = nil
		m.wg.Go(func() { m.supervised(s.run(ctx)) })
	}
}

// single reports whether the cluster has one shard only. That may change.
func (m *Manager) single() bool { return m.o.Shards() == 1 }

// candidates returns, for each shard, those who can have it in their order. m.mu is
// held.
func (m *Manager) candidates() [][]string {
	var nodes []candidate
	if !m.draining() {
		nodes = append(nodes, candidate{m.self.Name, m.self.Roles})
	}
	for name, other := range m.members {
		if other.lives(m.o.Takeover) && !other.drains() {
			nodes = append(nodes, candidate{name, other.Roles})
		}
	}
	slices.SortFunc(nodes, func(a, b candidate) int { return strings.Compare(a.name, b.name) })
	var view strings.Builder
	for _, n := range nodes {
		view.WriteString(n.name)
		view.Write([]byte{'\n', byte(n.roles), '\n'})
	}
	if view.String() != m.view || m.viewAt.IsZero() {
		m.view, m.viewAt, m.order = view.String(), time.Now(), nil
	}
	if m.order == nil {
		m.order = want(uint32(len(m.shards)), nodes)
	}
	return m.order
}

// rank returns how many live members come before this node for a shard.
func (m *Manager) rank(shard uint32) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	if rankless(m.o.mutations) {
		return 0
	}
	return max(slices.Index(m.candidates()[shard], m.self.Name), 0)
}

// may reports whether this node has the roles that the owner of a shard needs.
func (m *Manager) may(shard uint32) bool {
	return m.self.Roles.Has(needed(shard, m.o.Shards())) || roleless(m.o.mutations)
}

// seen returns for how long the same nodes have been there.
func (m *Manager) seen() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.candidates()
	return time.Since(m.viewAt)
}

// Same returns for how long the same nodes, with the same roles, can have shards.
func (m *Manager) Same() time.Duration { return m.seen() }

// Members lists the other nodes that are alive, by name.
func (m *Manager) Members() []Member {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []Member
	for _, other := range m.members {
		if !other.lives(m.o.Takeover) || other.report == nil {
			continue
		}
		all = append(all, Member{Node: other.Node, Shards: slices.Clone(other.report.Shards), Draining: other.report.Draining, Heard: other.heard})
	}
	slices.SortFunc(all, func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// report is what this node says of itself now. offers are for the one that gets it.
func (m *Manager) report(offers ...Offer) Report {
	m.mu.Lock()
	r := Report{Node: m.self, Draining: m.draining(), Offers: offers}
	for name, other := range m.members {
		if other.report != nil && time.Since(other.heard) < m.period()*3/2 && other.refused == 0 && len(r.Heard) < maxNamed {
			r.Heard = append(r.Heard, name)
		}
	}
	for _, s := range m.shards {
		r.Epochs = append(r.Epochs, s.known)
		if s.state == Failing && time.Now().After(s.rest) && time.Now().After(m.able) {
			s.state = ""
		}
		if s.state != "" {
			r.Shards = append(r.Shards, ShardReport{Shard: s.shard, Epoch: s.epoch, State: s.state})
		}
	}
	m.mu.Unlock()
	for i := range r.Shards { // without the lock: it asks the logs
		one := &r.Shards[i]
		if one.State != Recovering {
			continue
		}
		state, next := m.o.Progress(one.Shard)
		if state != "" {
			one.State = state
		}
		if next.Epoch == one.Epoch {
			one.Slot = next.Slot
		}
		if state == Owning {
			r.Epochs[one.Shard] = m.owned(one.Shard, one.Epoch)
		}
	}
	return r
}

// owned records that this node has claimed an epoch of a shard, and returns the newest one
// that is known to be claimed.
func (m *Manager) owned(shard uint32, epoch uint64) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.shards[shard]
	if epoch > s.known {
		s.known, s.owner = epoch, m.self.Name
	}
	return s.known
}
