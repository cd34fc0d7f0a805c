package sender

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/weirmq/weir/storage/pause"
	"github.com/weirmq/weir/sync/join"
	"github.com/weirmq/weir/sync/wire"
)

// maxHops is how many times in a row the sender redials without a pause, after a
// Redirect or with a renewed certificate.
const maxHops = 3

// maxAnswers bounds how many addresses are remembered: a node may redirect to any
// address.
const maxAnswers = 64

// answer is what an address said last. The same answer is logged once.
type answer struct {
	text    string
	refused error // nil: it did not refuse
}

// loop dials until ctx ends. After any answer there is another attempt, with a pause
// that grows until a session has lasted.
func (s *Sender) loop(ctx context.Context) {
	var after backoff
	addr, turn, hops := s.o.Addrs[0], 0, 0
	for {
		s.set(func(st *State) { st.Addr = addr })
		began := time.Now()
		welcome, err := s.connect(ctx, addr)
		if ctx.Err() != nil {
			s.down(errClosed, nil)
			return
		}
		if welcome && time.Since(began) >= stableAfter {
			after.reset()
			hops = 0
		}
		if to, ok := errors.AsType[*redirectError](err); ok && hops < maxHops {
			hops++
			s.down(err, nil)
			s.log.Info("redirected to another node", "address", addr, "next", to.addr)
			addr = to.addr
			continue
		}
		if s.certified(err) && hops < maxHops {
			hops++
			s.down(err, nil)
			continue
		}
		hops = 0
		refused := refusal(err)
		turn++
		next := s.o.Addrs[turn%len(s.o.Addrs)]
		s.note(addr, next, welcome, refused, err)
		s.down(err, s.refused())
		if refused != nil && s.rejoin(ctx) {
			after.reset()
			refused = nil
		}
		addr = next
		if pause.For(ctx, s.pauseAfter(&after, err, refused)) != nil {
			s.down(errClosed, nil)
			return
		}
	}
}

// certified reports whether the session ended because of the certificate: it was
// renewed, or the cloud, whose clock decides when it has expired, asks for a renewal.
func (s *Sender) certified(err error) bool {
	closed, ok := errors.AsType[*wire.CloseError](err)
	if ok && closed.Code == wire.CodeExpired {
		s.renewNext = true
		return true
	}
	return errors.Is(err, errRenewed)
}

// pauseAfter returns how long to wait after a session that ended with err.
func (s *Sender) pauseAfter(pause *backoff, err, refused error) time.Duration {
	closed, ok := errors.AsType[*wire.CloseError](err)
	switch {
	case ok && closed.Code == wire.CodeSuperseded:
		pause.slow() // two gateways with one identity take turns, slowly
		return pause.next(minBackoff, maxBackoff)
	case errors.Is(err, errTooSoon):
		return pause.next(minRefused, maxRefused)
	case refused == nil:
		return pause.next(minBackoff, maxBackoff)
	case byStranger(refused):
		return pause.next(minBackoff, maxForeign) // other addresses may do better
	default:
		return pause.next(minRefused, maxRefused)
	}
}

// connect runs one session to its end and reports whether it got a Welcome.
func (s *Sender) connect(ctx context.Context, addr string) (welcome bool, err error) {
	s.count.dials.Inc()
	dialing, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := s.dial(dialing, addr)
	if err != nil {
		return false, fmt.Errorf("dial %s: %w", addr, err)
	}
	n := newSession(s, conn, addr)
	err = n.run(ctx)
	if errors.Is(err, errRejected) && s.tooOld() {
		err = fmt.Errorf("%w: %w", join.ErrTooOld, err)
	}
	return n.welcomed, err
}

// dial connects with Options.Dial, or over QUIC with the identity.
func (s *Sender) dial(ctx context.Context, addr string) (Session, error) {
	if s.o.Dial != nil {
		return s.o.Dial(ctx, addr)
	}
	id := s.o.Identity
	return DialTLS(id.TLS(func() time.Time { return s.clock.node(id.Leaf().NotBefore) }))(ctx, addr)
}

// tooOld reports whether the certificate can no longer be renewed, as far as this
// gateway knows the time.
func (s *Sender) tooOld() bool {
	id := s.o.Identity
	return id != nil && errors.Is(join.Validity(id.Leaf(), s.clock.cloud(id.Leaf().NotBefore)), join.ErrTooOld)
}

// note logs what an address said, once as long as it says the same.
func (s *Sender) note(addr, next string, welcome bool, refused, err error) {
	said := answer{text: err.Error(), refused: refused}
	word, do := Refusal(refused)
	if refused != nil {
		said.text = word
	}
	before := s.answers[addr]
	if refused == nil && before.refused != nil && !byStranger(before.refused) {
		said.refused = before.refused // silence does not take it back
	}
	if len(s.answers) >= maxAnswers {
		clear(s.answers)
	}
	s.answers[addr] = said
	switch {
	case said.text == before.text && !welcome:
	case refused != nil:
		s.log.Warn("the cloud refuses this gateway at this address: messages stay in the local log, and the next address is tried", "address", addr, "err", refused, "next", next, "to_do", do)
	default:
		s.log.Warn("no link to the cloud: trying again", "address", addr, "err", err, "next", next)
	}
}

// accepted forgets the refusals of the address that has accepted the gateway, and those
// of other nodes of its cloud.
func (s *Sender) accepted(addr string) {
	for a, said := range s.answers {
		if a == addr || said.refused != nil && !byStranger(said.refused) {
			delete(s.answers, a)
		}
	}
}

// refused returns the refusal that counts for the gateway as a whole: that of its own
// cloud, or a stranger's if there are only strangers at all addresses.
func (s *Sender) refused() error {
	for _, said := range s.answers {
		if said.refused != nil && !byStranger(said.refused) {
			return said.refused
		}
	}
	var last error
	for _, addr := range s.o.Addrs {
		if last = s.answers[addr].refused; last == nil {
			return nil
		}
	}
	return last
}

// rejoin asks for another identity if this one is refused, and reports whether there is
// one.
func (s *Sender) rejoin(ctx context.Context) bool {
	refused := s.refused()
	if refused == nil || s.o.Rejoin == nil {
		return false
	}
	id := s.o.Rejoin(ctx, refused)
	if id == nil {
		return false
	}
	s.o.Identity = id
	clear(s.answers)
	s.renewed = time.Time{}
	return true
}
