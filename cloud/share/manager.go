package share

import (
	"context"
	"errors"
	"sync"

	"github.com/weirmq/weir/cloud/machine"
	"github.com/weirmq/weir/cloud/share/state"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/weir"
)

// Manager serves the share groups of one shard while this node owns it. It is a
// Machine of the shard's log.
type Manager struct {
	o       Options
	ctx     context.Context // ends with Close
	stop    context.CancelFunc
	pending sync.WaitGroup // entries that nobody waits for, and goroutines that write dead letters
	copies  chan struct{}  // has an element for each goroutine that copies dead letters now
	away    chan struct{}  // likewise, for those that send them to other shards
	gate    machine.Gate   // closed for partitions that other shards have

	mu     sync.Mutex // guards everything below, and every partition
	log    machine.WaitingLog
	closed bool // also before Start
	state  *state.State
	ends   map[state.ID]int64                  // of the partitions when this owner began: what is behind, no earlier one has delivered
	came   map[state.ID]bool                   // share partitions that came from another shard since then, and were not used yet
	groups map[string]map[topicPart]*partition // that were used since Start

	unusable map[string]bool // groups whose dead-letter topic could not be used the last time
}

// mostCopies is how many goroutines copy dead letters at once, and how many send them to
// other shards: each has a few megabytes.
const mostCopies = 4

type topicPart struct {
	topic weir.TopicID
	index int32
}

// New returns a manager that serves after Start.
func New(o Options) *Manager {
	m := &Manager{o: o.withDefaults(), closed: true, state: state.New(), came: make(map[state.ID]bool), groups: make(map[string]map[topicPart]*partition),
		unusable: make(map[string]bool), copies: make(chan struct{}, mostCopies), away: make(chan struct{}, mostCopies)}
	m.ctx, m.stop = context.WithCancel(context.Background())
	return m
}

// Start begins to serve the partitions of a log.
func (m *Manager) Start(_ context.Context, log machine.WaitingLog) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.log, m.closed, m.ends = log, false, make(map[state.ID]int64)
	clear(m.came)
	for _, group := range m.state.Groups() {
		for _, p := range m.state.Of(group) {
			if _, end, err := log.Bounds(p.Place.Topic, p.Place.Partition); err == nil {
				m.ends[p.ID] = end
			}
		}
	}
}

// Close ends all leases in memory and waits until none of the manager's entries is on
// its way. Later calls return ErrClosed.
func (m *Manager) Close() error {
	m.mu.Lock()
	m.closed = true
	for _, parts := range m.groups {
		for _, p := range parts {
			p.end()
		}
	}
	m.groups = make(map[string]map[topicPart]*partition)
	m.mu.Unlock()
	m.stop()
	m.pending.Wait()
	return nil
}

// Kinds implements the log's Machine, as the next three do.
func (m *Manager) Kinds() []uint16 { return state.Kinds() }

// Apply applies a durable entry.
func (m *Manager) Apply(kind uint16, body []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state.Apply(kind, body)
}

// Snapshot returns the durable state.
func (m *Manager) Snapshot() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state.Snapshot()
}

// Restore replaces the durable state.
func (m *Manager) Restore(body []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state.Restore(body)
}

// propose makes an entry durable. It does not end with ctx: what follows needs to know
// whether the entry is in the log.
func (m *Manager) propose(ctx context.Context, kind uint16, body []byte) error {
	return m.log.Propose(context.WithoutCancel(ctx), kind, body)
}

// submit makes a change durable and then calls done, without waiting. The caller holds
// no lock.
func (m *Manager) submit(u state.Updated, done func(error)) {
	m.log.Submit(commitlog.Proposal{Commands: []commitlog.Command{{Kind: state.KindUpdated, Body: u.Append(nil)}}}, func(_ []int64, err error) { done(err) })
}

// gone reports whether an error means that the log has ended.
func gone(err error) bool {
	return errors.Is(err, commitlog.ErrFenced) || errors.Is(err, commitlog.ErrClosed)
}
