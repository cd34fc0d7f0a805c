package sender

import (
	"context"
	"crypto/rand"
	"log/slog"
	"sync"
	"time"

	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/wire"
)

// Sender drains the buffers of one gateway. Make one with New, Run it once.
type Sender struct {
	o     Options
	log   *slog.Logger
	boot  [16]byte
	count counters

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	done   chan struct{} // closed when Run has returned

	mu      sync.Mutex
	state   State // guarded by mu
	started bool  // Run was called, or never may be; guarded by mu

	clock     *clock
	renewNext bool              // the cloud said that the certificate has expired; owned by Run
	renewed   time.Time         // when the certificate was renewed because of that; owned by Run
	answers   map[string]answer // by address; owned by Run

	beliefs beliefs // empty but in a build with the tag weirtest
}

// State is how a sender is doing, for people and probes.
type State struct {
	Connected bool
	Addr      string // of the node, or of the one that is being tried
	Node      string
	Cluster   string
	Since     time.Time // of the connection, or of its loss
	Err       error     // the last one; nil while connected
	// Refused says that the cloud does not take this gateway's records, and why
	// (see Refusal); nil while connected, and while a link is all that is missing.
	Refused    error
	ClockAhead time.Duration // of this machine, against the cloud's; 0 while they agree or it is not known
	Aside      []weir.BufferID
	Lanes      [weir.Lanes]LaneState
}

// LaneState is what a lane has read and the cloud has not acked. There may be
// more in the buffers.
type LaneState struct {
	Buffer  weir.BufferID
	Records int
	Bytes   int
	Oldest  time.Time // of the first of them; zero when there is none
}

// New checks o.
func New(o Options) (*Sender, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	s := &Sender{
		o: o, log: o.Logger, count: newCounters(o.Metrics),
		clock: &clock{now: o.Now}, answers: map[string]answer{},
		done: make(chan struct{}),
	}
	rand.Read(s.boot[:])
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

// State returns how things are now.
func (s *Sender) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.state
	st.Aside = append([]weir.BufferID(nil), st.Aside...)
	return st
}

// Close makes Run return and waits for it. What is in flight is sent again,
// or found delivered, by whoever runs next.
func (s *Sender) Close() error {
	s.cancel()
	if s.begin() {
		close(s.done) // it never ran
	}
	<-s.done
	return nil
}

// begin reports whether the caller is the first.
func (s *Sender) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := !s.started
	s.started = true
	return first
}

// Run drains the buffers until ctx ends or Close is called. Nothing that the
// link or the other end says makes it return: State tells how it is doing. It
// may be called once.
func (s *Sender) Run(ctx context.Context) error {
	if !s.begin() {
		return errClosed
	}
	defer close(s.done)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	s.loop(ctx)
	return nil
}

func (s *Sender) set(change func(*State)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.state)
}

func (s *Sender) up(addr string, w *wire.Welcome) {
	s.count.connected.Set(1)
	s.set(func(st *State) {
		if st.Cluster != "" && st.Cluster != w.Cluster {
			s.log.Warn("the cloud is another cluster than before", "was", st.Cluster, "is", w.Cluster)
		}
		st.Connected, st.Addr, st.Node, st.Cluster = true, addr, w.Node, w.Cluster
		st.Since, st.Err, st.Refused = time.Now(), nil, nil
	})
	s.accepted(addr)
	s.log.Info("connected to the cloud", "addr", addr, "node", w.Node, "cluster", w.Cluster)
}

func (s *Sender) down(err, refused error) {
	s.count.connected.Set(0)
	s.set(func(st *State) {
		if st.Connected || st.Since.IsZero() {
			st.Since = time.Now()
		}
		st.Connected, st.Err, st.Refused = false, err, refused
	})
}
