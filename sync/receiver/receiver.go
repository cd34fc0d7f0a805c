package receiver

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/weirmq/weir/cloud/budget"
	"github.com/weirmq/weir/cloud/listener"
	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/uplink"
	"github.com/weirmq/weir/sync/wire"
)

// ErrClosed says that the receiver was closed.
var ErrClosed = errors.New("receiver closed")

// Receiver serves gateways. Make one with New, and close it.
type Receiver struct {
	o       Options
	log     *slog.Logger
	count   counters
	guard   guard
	memory  *budget.Pool // for frames that arrive or that the log has not answered
	waiting atomic.Int64 // frames that wait for memory

	gateways, joins listener.Traffic

	ctx     context.Context // ends with Close
	cancel  context.CancelCauseFunc
	wg      sync.WaitGroup // sessions and joins
	serving sync.WaitGroup // Serve

	mu       sync.Mutex
	sessions map[string]*session   // by gateway, guarded by mu
	silent   map[string][]*session // sessions that have not said Hello, by gateway, oldest first; guarded by mu
	blamed   map[string]blamed     // gateways that must wait; guarded by mu
	conns    budget.GateCounts     // connections of gateways, guarded by mu
	closed   bool                  // guarded by mu
	listener *quic.Listener        // set by Serve, guarded by mu
}

// New checks o and returns a receiver. Call Serve for QUIC, or Handle for each session
// of another transport.
func New(o Options) (*Receiver, error) {
	if o.Attach == nil || o.Resolve == nil {
		return nil, errors.New("receiver needs what takes records and finds topics")
	}
	if err := o.defaults(); err != nil {
		return nil, err
	}
	r := &Receiver{
		o:        o,
		log:      o.Logger,
		count:    newCounters(o.Metrics),
		guard:    newGuard(o.Logger),
		memory:   o.Memory,
		silent:   map[string][]*session{},
		blamed:   map[string]blamed{},
		sessions: map[string]*session{},
	}
	r.ctx, r.cancel = context.WithCancelCause(context.Background())
	o.Metrics.GetOrCreateGauge("weir_sync_sessions", func() float64 { return float64(r.sessionCounts().Open) })
	return r, nil
}

// Handover ends all sessions because this node does not own the log any more. Gateways
// are redirected to addr if it is known.
func (r *Receiver) Handover(addr string) { r.endAll(&uplink.NotOwnerError{Addr: addr}) }

// Drop ends the session of one gateway, if it has one here. The gateway says Hello
// again, and Admit is called again.
func (r *Receiver) Drop(gateway string) {
	r.mu.Lock()
	s := r.sessions[gateway]
	r.mu.Unlock()
	if s != nil {
		s.end(errMembership)
	}
}

// Close ends all sessions and waits for them. Batches that the log already has may
// still become durable; they are not acked any more.
func (r *Receiver) Close() error {
	r.mu.Lock()
	r.closed = true
	ln := r.listener
	r.mu.Unlock()
	r.endAll(ErrClosed)
	r.cancel(ErrClosed)
	if ln != nil {
		ln.Close() // no new connections; Serve returns
	}
	r.wg.Wait()
	r.serving.Wait()
	return nil
}

func (r *Receiver) endAll(cause error) {
	r.mu.Lock()
	all := make([]*session, 0, len(r.sessions))
	for _, s := range r.sessions {
		all = append(all, s)
	}
	r.mu.Unlock()
	for _, s := range all {
		s.end(cause)
	}
}

// enter counts a connection, or returns an error if there is no room for it. Strangers
// are counted separately.
func (r *Receiver) enter(joining bool) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.closed:
		return ErrClosed
	case joining:
	case r.conns.Open >= r.o.MaxGateways:
		r.conns.Refused++
		return fmt.Errorf("%d gateways are connected: %w", r.conns.Open, uplink.ErrBusy)
	default:
		r.conns.Open++
		r.conns.Accepted++
	}
	r.wg.Add(1)
	return nil
}

func (r *Receiver) leave(joining bool) {
	if !joining {
		r.mu.Lock()
		r.conns.Open--
		r.mu.Unlock()
	}
	r.wg.Done()
}

// maxSilent is how many connections with one certificate may be waiting for their
// Hello. The oldest is closed: if a gateway dials again, its old connection is dead.
const maxSilent = 4

// greet adds a session that has not said Hello to the list.
func (r *Receiver) greet(s *session) {
	r.mu.Lock()
	all := append(r.silent[s.gateway], s)
	var oldest *session
	if len(all) > maxSilent {
		oldest = all[0]
		all = all[1:]
	}
	r.silent[s.gateway] = all
	r.mu.Unlock()
	if oldest != nil {
		oldest.end(errCrowded)
	}
}

// greeted removes it from the list: it has said Hello, or ends.
func (r *Receiver) greeted(s *session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := slices.DeleteFunc(r.silent[s.gateway], func(o *session) bool { return o == s })
	if len(all) == 0 {
		delete(r.silent, s.gateway)
		return
	}
	r.silent[s.gateway] = all
}

// register makes s the session of its gateway. It returns when the older session here, if
// there is one, has ended.
func (r *Receiver) register(s *session) {
	r.mu.Lock()
	old := r.sessions[s.gateway]
	r.sessions[s.gateway] = s
	r.mu.Unlock()
	if old != nil && !keepOlder(r.o.Mutations) {
		old.end(uplink.ErrSuperseded)
		<-old.done
	}
}

// unregister reports whether s was its gateway's session until now.
func (r *Receiver) unregister(s *session) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := r.sessions[s.gateway] == s
	if last {
		delete(r.sessions, s.gateway)
	}
	return last
}

// Gateway is one connected gateway.
type Gateway struct {
	ID       string
	Addr     string
	Software string
	Since    time.Time
	Heard    time.Time    // when its last frame came
	Depth    *wire.Ping   // its last one; nil if there is none yet
	Status   *wire.Status // its last one; nil if there is none

	Certificate *x509.Certificate // with which it was admitted
}

func (s *session) describe() Gateway {
	return Gateway{ID: s.gateway, Addr: s.peer.Addr, Software: s.software, Since: s.since, Heard: time.Unix(0, s.heard.Load()),
		Depth: s.depth.Load(), Status: s.status.Load(), Certificate: s.peer.Certificate}
}

// Refusal is something that was refused to a gateway for good.
type Refusal struct {
	Topic   weir.TopicID // of a batch
	Name    string       // of the topic that was asked for; "" for a batch
	Reason  wire.Reason
	Text    string
	Records uint64 // of a batch, at most
}

// refusal reports something that was refused for good.
func (s *session) refusal(f Refusal) {
	if s.r.o.Refused != nil && f.Reason.ForGood() {
		s.r.o.Refused(s.gateway, f)
	}
}

// Gateways lists the connected gateways by id.
func (r *Receiver) Gateways() []Gateway {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]Gateway, 0, len(r.sessions))
	for _, s := range r.sessions {
		out = append(out, s.describe())
	}
	slices.SortFunc(out, func(a, b Gateway) int { return cmp.Compare(a.ID, b.ID) })
	return out
}
