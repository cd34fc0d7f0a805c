package receiver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirmq/weir/cloud/budget"
	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/uplink"
	"github.com/weirmq/weir/sync/wire"
)

const (
	helloTimeout   = 10 * time.Second // from the handshake to the first frame
	goodbyeTimeout = time.Second      // for the last frame to arrive and the peer to close
)

var (
	errMembership = errors.New("what the gateway may do has changed")
	errTimeout    = errors.New("gateway did not say Hello in time")
	errIdentity   = errors.New("gateway id is not the certificate's name")
	errExpired    = errors.New("certificate has expired and may only be renewed")
	errDone       = errors.New("gateway closed the session")
	errRenewed    = errors.New("certificate renewed, dial again with it")
	errNoControl  = errors.New("no control stream")
)

// session is one gateway's connection.
type session struct {
	r       *Receiver
	conn    Session
	peer    wire.Peer
	gateway string // name in its certificate
	log     *slog.Logger
	own     *allowance   // for the frames of this session
	share   *budget.Peer // of the shared memory
	got     atomic.Int64 // bytes of frames received, on all streams

	software string       // from Hello, set before the session is registered
	since    time.Time    // as above
	features uint64       // as above; those that both ends have
	heard    atomic.Int64 // when the last frame of the control stream came, Unix nanoseconds
	depth    atomic.Pointer[wire.Ping]
	status   atomic.Pointer[wire.Status]
	control  wire.Channel  // written with writing held, read by run
	writing  chan struct{} // capacity 1: a lock that may be held as long as a write takes
	retires  errands       // Retire
	resolves errands       // Resolve

	ctx    context.Context // its cause is why the session ends
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup // readers and writers of all streams
	ended  chan struct{}  // closed when the control stream is read to its end
	done   chan struct{}  // closed when no goroutine of this session runs any more
	gaps   gapTopic

	link uplink.Attachment // set by hello, before any lane is read; nil before
}

// Handle serves one session until it ends, and returns the reason. Serve calls it for
// each QUIC connection; another transport calls it itself. The session's peer must
// already be authenticated.
func (r *Receiver) Handle(conn Session) error {
	if err := r.enter(false); err != nil {
		conn.Close(codeOf(err), err.Error())
		return err
	}
	defer r.leave(false)
	peer := conn.Peer
	s := &session{
		r: r, conn: conn, peer: peer, gateway: peer.Gateway,
		log: r.log.With("gateway", peer.Gateway, "address", peer.Addr),
		own: newAllowance(max(r.o.InFlight, wire.MaxLane)), writing: make(chan struct{}, 1),
		ended: make(chan struct{}),
		done:  make(chan struct{}),
	}
	s.ctx, s.cancel = context.WithCancelCause(r.ctx)
	defer close(s.done)
	s.share = r.memory.Peer(peer.Gateway)
	defer s.share.Close()
	r.greet(s)
	defer r.greeted(s)

	s.wg.Go(s.run)
	<-s.ctx.Done()
	cause := context.Cause(s.ctx)
	s.goodbye(cause)
	conn.Close(codeOf(cause), cause.Error())
	s.wg.Wait()
	if s.link != nil {
		s.link.Detach()
	}
	if r.unregister(s) && r.o.Left != nil {
		r.o.Left(s.describe())
	}
	s.report(cause)
	return cause
}

// end makes the session end; the first cause counts.
func (s *session) end(cause error) { s.cancel(cause) }

// run reads the control stream from its first byte on.
func (s *session) run() {
	defer close(s.ended)
	late := time.AfterFunc(helloTimeout, func() { s.end(errTimeout) })
	err := s.begin(late)
	for err == nil {
		err = s.next()
	}
	s.fail(err)
}

// fail ends the session with an error of its control stream.
func (s *session) fail(err error) {
	if owner, ok := errors.AsType[*uplink.NotOwnerError](err); ok {
		s.r.Handover(owner.Addr) // what this session found out holds for all
	}
	s.end(err)
}

// begin accepts the control stream and answers its first frame.
func (s *session) begin(late *time.Timer) error {
	defer late.Stop()
	st, err := s.conn.AcceptStream(s.ctx)
	if err != nil {
		return fmt.Errorf("accept control stream: %w", err)
	}
	p, err := wire.ReadPreface(st)
	if err != nil {
		return fmt.Errorf("read first stream: %w", err)
	}
	if p.Kind != wire.StreamControl {
		return fmt.Errorf("first stream is not the control stream: %w", wire.ErrMalformed)
	}
	s.writing <- struct{}{}
	s.control = st
	<-s.writing
	f, err := wire.Read(st, wire.MaxControl)
	if err != nil {
		return fmt.Errorf("read Hello: %w", err)
	}
	late.Stop()
	switch f := f.(type) {
	case *wire.Hello:
		return s.hello(f)
	case *wire.Renew:
		if err := s.admit(true); err != nil {
			return err
		}
		if err := s.renew(f); err != nil {
			return err
		}
		return errRenewed
	}
	return fmt.Errorf("first frame is of type %#02x, not Hello: %w", f.Type(), wire.ErrMalformed)
}

// admit checks whether the gateway is admitted. renewing accepts an expired
// certificate.
func (s *session) admit(renewing bool) error {
	if cert := s.peer.Certificate; cert != nil && !renewing && time.Now().After(cert.NotAfter) {
		return errExpired
	}
	if s.r.o.Admit == nil {
		return nil
	}
	if err := s.r.o.Admit(s.gateway, s.peer.Certificate); err != nil {
		return fmt.Errorf("admit gateway: %w", err)
	}
	return nil
}

// hello takes over the gateway and tells it where to start.
func (s *session) hello(f *wire.Hello) error {
	if f.Gateway != s.gateway {
		return fmt.Errorf("hello names %q: %w", f.Gateway, errIdentity)
	}
	if err := s.admit(false); err != nil {
		return err
	}
	if err := s.r.excused(s.gateway); err != nil {
		return err
	}
	s.software, s.since, s.features = f.Software, time.Now(), f.Features&wire.FeatureStatus
	s.heard.Store(s.since.UnixNano())
	s.r.greeted(s)
	s.r.register(s)
	link, known, err := s.r.o.Attach(s.ctx, s.gateway, f.Buffers, s.end)
	if err != nil {
		return fmt.Errorf("look up marks: %w", err)
	}
	s.link = link
	err = s.send(&wire.Welcome{
		Cluster:  s.r.o.Cluster(),
		Node:     s.r.o.Node,
		Time:     time.Now().UnixMilli(),
		Features: s.features,
		MaxBatch: uint32(s.r.o.MaxBatch),
		Window:   uint32(s.r.o.Window),
	})
	if err != nil {
		return err
	}
	if err := s.sendMarks(known); err != nil {
		return err
	}
	s.line().Info("gateway connected", "software", f.Software, "buffers", len(f.Buffers))
	s.wg.Go(s.acceptLanes)
	return nil
}

// acceptLanes starts a reader for each lane stream that the gateway opens.
func (s *session) acceptLanes() {
	var taken [weir.Lanes]bool
	for {
		st, err := s.conn.AcceptStream(s.ctx)
		if err != nil {
			s.end(fmt.Errorf("accept stream: %w", err))
			return
		}
		p, err := wire.ReadPreface(st)
		if err == nil && (p.Kind != wire.StreamLane || taken[p.Lane]) {
			err = fmt.Errorf("second stream of its kind: %w", wire.ErrMalformed)
		}
		if err != nil {
			s.end(fmt.Errorf("read stream preface: %w", err))
			return
		}
		taken[p.Lane] = true
		s.wg.Go(func() { s.lane(st, p.Lane) })
	}
}

// send writes a frame to the control stream.
func (s *session) send(f wire.Frame) error {
	s.writing <- struct{}{}
	defer func() { <-s.writing }()
	if s.control == nil {
		return errNoControl
	}
	if err := s.prompt(func() error { return wire.Write(s.control, f) }); err != nil {
		return fmt.Errorf("write to control stream: %w", err)
	}
	return nil
}

// goodbye sends the reason why the session ends, and gives the gateway a moment to read
// it and to close. It does not wait for a gateway that has gone or has a newer session.
func (s *session) goodbye(cause error) {
	var gone *wire.CloseError
	if errors.As(cause, &gone) || errors.Is(cause, uplink.ErrSuperseded) || errors.Is(cause, errCrowded) || errors.Is(cause, errDone) {
		return
	}
	// A gateway that neither reads nor closes must not keep the session alive: closing
	// it unblocks what follows.
	late := time.AfterFunc(goodbyeTimeout, func() { s.conn.Close(codeOf(cause), cause.Error()) })
	defer late.Stop()
	var last wire.Frame = &wire.Goodbye{Code: codeOf(cause), Text: cause.Error()}
	if owner, ok := errors.AsType[*uplink.NotOwnerError](cause); ok && owner.Addr != "" {
		last = &wire.Redirect{Addr: owner.Addr}
	}
	if s.send(last) != nil {
		return
	}
	<-s.ended
	io.Copy(io.Discard, s.control)
}
