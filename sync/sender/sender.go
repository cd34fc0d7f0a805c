package sender

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/weirmq/weir/sync/wire"
)

// maxRedirects is how often in a row the sender follows at once.
const maxRedirects = 3

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

	renewNext bool   // the cloud said that the certificate has expired; owned by Run
	warned    string // the last error that was logged; owned by Run

	// beliefs is only used by a mutation: what was sent, in any session.
	beliefs map[wire.BufferID][]wire.Mark // owned by the lanes, under mu
}

// State is how a sender is doing, for people and probes.
type State struct {
	Connected bool
	Addr      string // of the node, or of the one that is being tried
	Node      string
	Cluster   string
	Since     time.Time // of the connection, or of its loss
	Err       error     // the last one; nil while connected
	Aside     []wire.BufferID
	Lanes     [wire.Lanes]LaneState
}

// LaneState is what a lane has read and the cloud has not acked. There may be
// more in the buffers.
type LaneState struct {
	Buffer  wire.BufferID
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
		done: make(chan struct{}), beliefs: map[wire.BufferID][]wire.Mark{},
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
	st.Aside = append([]wire.BufferID(nil), st.Aside...)
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

// begin says whether the caller is the first.
func (s *Sender) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := !s.started
	s.started = true
	return first
}

// Run drains the buffers until ctx ends or Close is called (nil), or until
// nothing but a person can help: ErrForeign, ErrRevoked, ErrExpired,
// ErrIdentity. A link that is down is no reason to return. It may be called
// once.
func (s *Sender) Run(ctx context.Context) error {
	if !s.begin() {
		return errClosed
	}
	defer close(s.done)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	return s.loop(ctx)
}

func (s *Sender) loop(ctx context.Context) error {
	var pause backoff
	addr, turn, redirects := s.o.Addrs[0], 0, 0
	for {
		s.set(func(st *State) { st.Addr = addr })
		welcome, err := s.connect(ctx, addr)
		if ctx.Err() != nil {
			s.down(errClosed)
			return nil
		}
		s.down(err)
		if p := permanent(err); p != nil {
			s.log.Error("sync stops", "addr", addr, "err", p)
			return p
		}
		if welcome {
			pause.reset()
			redirects = 0
		}
		if to, ok := errors.AsType[*redirectError](err); ok && redirects < maxRedirects {
			redirects++
			s.log.Info("following redirect", "from", addr, "to", to.addr)
			addr = to.addr
			continue
		}
		if errors.Is(err, errRenewed) && redirects < maxRedirects {
			redirects++
			continue
		}
		if closed, ok := errors.AsType[*wire.CloseError](err); ok {
			switch closed.Code {
			case wire.CodeSuperseded:
				pause.slow() // two gateways with one identity take turns, slowly
			case wire.CodeExpired:
				s.renewNext = true
			}
		}
		redirects = 0
		addr = s.o.Addrs[turn%len(s.o.Addrs)]
		turn++
		d := pause.next()
		if text := err.Error(); welcome || text != s.warned {
			s.warned = text // once per cause: it is tried again for ever
			s.log.Warn("no link to the cloud, trying again", "err", err, "next", addr)
		}
		select {
		case <-time.After(d):
		case <-ctx.Done():
		}
	}
}

// connect runs one session to its end and says whether it got a Welcome.
func (s *Sender) connect(ctx context.Context, addr string) (welcome bool, err error) {
	s.count.dials.Inc()
	dialing, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := s.o.Dial(dialing, addr)
	if err != nil {
		return false, fmt.Errorf("dial %s: %w", addr, err)
	}
	n := newSession(s, conn, addr)
	err = n.run(ctx)
	return n.welcomed, err
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
			s.log.Warn("this is another cluster than before", "was", st.Cluster, "is", w.Cluster)
		}
		st.Connected, st.Addr, st.Node, st.Cluster = true, addr, w.Node, w.Cluster
		st.Since, st.Err = time.Now(), nil
	})
	s.log.Info("connected to the cloud", "addr", addr, "node", w.Node, "cluster", w.Cluster)
}

func (s *Sender) down(err error) {
	s.count.connected.Set(0)
	s.set(func(st *State) {
		if st.Connected || st.Since.IsZero() {
			st.Since = time.Now()
		}
		st.Connected, st.Err = false, err
	})
}
