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

// Sender drains the buffers of one gateway. Make one with New, then call Run once.
type Sender struct {
	o     Options
	log   *slog.Logger
	boot  [16]byte
	count counters

	mu    sync.Mutex
	state State // guarded by mu

	clock     *clock
	renewNext bool              // the cloud said that the certificate has expired; owned by Run
	renewed   time.Time         // when the certificate was renewed because of that; owned by Run
	answers   map[string]answer // by address; owned by Run

	beliefs beliefs // empty, except in a build with the tag weirtest
}

// State describes how a sender is doing, for people and probes.
type State struct {
	Connected bool
	Addr      string // of the node, or of the one being dialled
	Node      string
	Cluster   string
	Since     time.Time // when the connection began or was lost
	Err       error     // the last one; nil while connected
	// Refused is why the cloud does not take this gateway's records (see Refusal). It
	// is nil while connected, and while only the link is missing.
	Refused    error
	ClockAhead time.Duration // of this machine, compared with the cloud's; 0 while they agree or it is not known
	Aside      []weir.BufferID
	Lanes      [weir.Lanes]LaneState
}

// LaneState counts what a lane has read and the cloud has not acked. The buffers may
// hold more.
type LaneState struct {
	Buffer  weir.BufferID
	Records int
	Bytes   int
	Oldest  time.Time // of the first of them; zero if there are none
}

// New checks o and returns a Sender.
func New(o Options) (*Sender, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	s := &Sender{
		o: o, log: o.Logger, count: newCounters(o.Metrics),
		clock: &clock{now: o.Now}, answers: map[string]answer{},
	}
	rand.Read(s.boot[:])
	return s, nil
}

// State returns the current state.
func (s *Sender) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.state
	st.Aside = append([]weir.BufferID(nil), st.Aside...)
	return st
}

// Run drains the buffers until ctx ends. It does not return because of the link or the
// other end; see State for those. The next sender sends again what is in flight, unless
// the cloud already has it. Run may be called once.
func (s *Sender) Run(ctx context.Context) { s.loop(ctx) }

func (s *Sender) set(change func(*State)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.state)
}

func (s *Sender) up(addr string, w *wire.Welcome) {
	s.count.connected.Set(1)
	s.set(func(st *State) {
		if st.Cluster != "" && st.Cluster != w.Cluster {
			s.log.Warn("the cloud is another cluster than before", "before", st.Cluster, "cluster", w.Cluster)
		}
		st.Connected, st.Addr, st.Node, st.Cluster = true, addr, w.Node, w.Cluster
		st.Since, st.Err, st.Refused = time.Now(), nil, nil
	})
	s.accepted(addr)
	s.log.Info("connected to the cloud", "address", addr, "node", w.Node, "cluster", w.Cluster)
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
