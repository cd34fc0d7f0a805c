package uplink

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/weirmq/weir/storage/weir"
)

// session implements Attachment for the session of a gateway at a door.
type session struct {
	d       *Door
	gateway string
	many    bool // there are several shards
	end     func(error)
	number  Number  // set by begin
	window  *Window // of batches that were handed over

	ctx    context.Context // of the session
	cancel context.CancelFunc
	wg     sync.WaitGroup // attach goroutines

	mu       sync.Mutex       // guards what follows, and the fields of links
	links    map[uint32]*link // by shard; none is removed
	begun    bool             // all of them have been attached
	changed  bool             // slices have moved before that
	remapped bool             // slices have moved since
	over     bool             // Detach was called
	refused  map[target]uint32
	current  []weir.Buffer // what the gateway has open now
}

// target is a partition of a stream of the session's gateway. In session.refused its value
// is the last round of it that a move has refused.
type target struct {
	buffer    weir.BufferID
	lane      weir.Lane
	topic     weir.TopicID
	partition int32
}

// link is a session at one shard.
type link struct {
	shard   uint32
	at      Attachment    // nil: not attached
	attempt *attempt      // the newest one; nil: none yet
	ready   chan struct{} // closed when attached
	tries   uint64
	flying  map[target]flight      // batches that were handed over and not answered, to older attachments included
	known   map[weir.BufferID]bool // buffers that have marks there, or of which something was sent
}

func newLink(shard uint32) *link {
	return &link{shard: shard, ready: make(chan struct{}), flying: make(map[target]flight), known: make(map[weir.BufferID]bool)}
}

// linked lists the links, by shard.
func (s *session) linked() []*link {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.SortedFunc(maps.Values(s.links), func(a, b *link) int { return cmp.Compare(a.shard, b.shard) })
}

// home returns the shard that has the gateway.
func (s *session) home() uint32 { return s.d.o.ShardOf(weir.SliceOfGateway(s.gateway)) }

// link returns the link of a shard. If there is none, the shard is younger than the session,
// which begins to attach to it: slices have moved there, with the marks that the session
// knows.
func (s *session) link(shard uint32) *link {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.links[shard]
	if l == nil && s.many && s.begun {
		l = newLink(shard)
		s.links[shard] = l
		if !s.over {
			s.wg.Go(func() { s.reattach(l) })
		}
	}
	return l
}

// linkOf is link of the shard that has a partition.
func (s *session) linkOf(topic weir.TopicID, partition int32) *link {
	return s.link(s.d.o.ShardOf(weir.SliceOf(topic, partition)))
}

// flight is how many batches of a partition are not answered, and their newest round.
type flight struct {
	n     int
	round uint32
}

// attempt is one try to attach a link.
type attempt struct {
	over   bool // guarded by session.mu
	cancel context.CancelFunc
}

// attach attaches a link.
func (s *session) attach(ctx context.Context, l *link, buffers []weir.Buffer) (Offered, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	try := &attempt{cancel: cancel}
	s.mu.Lock()
	l.tries++
	n := s.number
	n.Try = l.tries
	l.attempt = try
	s.mu.Unlock()
	at, known, err := s.d.o.Attach(ctx, l.shard, s.gateway, n, buffers, func(err error) { s.lost(l, try, err) })
	if err != nil {
		return Offered{}, s.reason(err)
	}
	s.mu.Lock()
	if try.over || s.over {
		s.mu.Unlock()
		at.Detach()
		return Offered{}, s.reason(ErrDetached)
	}
	for _, b := range known.Buffers {
		if b.State == weir.BufferKnown {
			l.known[b.ID] = true
		}
	}
	l.at = at
	close(l.ready)
	s.mu.Unlock()
	return known, nil
}

// reason returns the error that the session's user sees.
func (s *session) reason(err error) error {
	if !s.many && errors.Is(err, ErrDetached) {
		return &NotOwnerError{}
	}
	return err
}

// final reports whether an error ends a session that has many shards.
func final(err error) bool { return errors.Is(err, ErrSuperseded) }

// gone reports whether an error means that an attachment is over.
func gone(err error) bool {
	_, elsewhere := errors.AsType[*NotOwnerError](err)
	return elsewhere || errors.Is(err, ErrDetached)
}

// lost says that an attempt, or the attachment that came of it, is over.
func (s *session) lost(l *link, try *attempt, err error) {
	if final(err) || !s.many {
		s.end(s.reason(err))
		return
	}
	s.mu.Lock()
	at := s.leave(l, try)
	s.mu.Unlock()
	if at != nil {
		at.Detach()
	}
}

// moved is lost for whatever attachment a shard has.
func (s *session) moved(shard uint32) {
	s.mu.Lock()
	l := s.links[shard]
	if l == nil || l.attempt == nil {
		s.mu.Unlock()
		return
	}
	try := l.attempt
	s.mu.Unlock()
	s.lost(l, try, ErrDetached)
}

// leave ends an attempt. If it had attached the link, that is attached anew, and what was
// not answered is refused. It returns the attachment that is to be ended, nil if
// there is none. Called with mu held.
func (s *session) leave(l *link, try *attempt) Attachment {
	if try.over {
		return nil
	}
	try.over = true
	if l.attempt != try || l.at == nil {
		try.cancel() // the goroutine that attaches sees it
		return nil
	}
	at := l.at
	l.at, l.ready = nil, make(chan struct{})
	for t, f := range l.flying {
		s.refuse(t, f.round)
	}
	if !s.over {
		s.wg.Go(func() { s.reattach(l) })
	}
	return at
}

// refuse notes that what a partition sends is refused up to a round. Called with mu held.
func (s *session) refuse(t target, round uint32) { s.refused[t] = max(s.refused[t], round) }

// reattach attaches a link until it succeeds or the session ends.
func (s *session) reattach(l *link) {
	err := again(s.ctx, func() error {
		s.mu.Lock()
		buffers := s.current
		s.mu.Unlock()
		_, err := s.attach(s.ctx, l, buffers)
		return err
	})
	if err != nil && s.ctx.Err() == nil {
		s.end(err)
	}
}

// remember notes which buffers a new owner must be told.
func (s *session) remember(buffers []weir.Buffer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range buffers {
		if b.Current {
			s.current = []weir.Buffer{b}
		}
	}
}

// Append implements Attachment. It waits while the shard, or all together, have too many
// bytes that are not answered. A batch for a shard to which the session is not attached is
// refused at once: Mark then waits until a new owner can tell the mark.
func (s *session) Append(a Append, done func(error)) {
	l := s.linkOf(a.Topic, a.Partition)
	if l == nil {
		done(fmt.Errorf("%w: the shard is not known yet", ErrBusy))
		return
	}
	t := target{a.Stream.Buffer, a.Stream.Lane, a.Topic, a.Partition}
	var cost int64
	if s.many && s.attached(l) && !noShares(s.d.o.Mutations) {
		var ok bool
		if cost, ok = s.window.Take(l.shard, int64(len(a.Batch))+batchCost); !ok {
			done(fmt.Errorf("%w: shard %d does not answer", ErrBusy, l.shard))
			return
		}
	}
	err := s.handOver(l, t, cost, a, done)
	if err == nil {
		return
	}
	s.window.Give(l.shard, cost)
	if !notTold(s.d.o.Mutations) {
		done(err)
	}
}

func (s *session) attached(l *link) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return l.at != nil
}

// handOver hands a batch to the shard, unless that is refused.
func (s *session) handOver(l *link, t target, cost int64, a Append, done func(error)) error {
	s.mu.Lock()
	last, again := s.refused[t]
	switch {
	case l.at == nil, s.elsewhere(l, t):
		s.refuse(t, a.Round)
		s.mu.Unlock()
		return ErrMoved
	case again && a.Round <= last && !anyRound(s.d.o.Mutations):
		s.mu.Unlock()
		return ErrMoved
	case again:
		delete(s.refused, t)
	}
	f := l.flying[t]
	l.flying[t] = flight{f.n + 1, max(f.round, a.Round)}
	l.known[t.buffer] = true
	at, try := l.at, l.attempt
	s.mu.Unlock()
	at.Append(a, func(err error) {
		s.window.Give(l.shard, cost)
		s.answered(l, try, t, a.Round, err, done)
	})
	return nil
}

// elsewhere reports whether another shard has batches of a partition that it has not answered:
// the partition has moved, and they come first. Called with mu held.
func (s *session) elsewhere(l *link, t target) bool {
	if !s.remapped {
		return false
	}
	for _, other := range s.links {
		if other != l && other.flying[t].n > 0 {
			return true
		}
	}
	return false
}

// answered passes on what became of a batch.
func (s *session) answered(l *link, try *attempt, t target, round uint32, err error, done func(error)) {
	s.mu.Lock()
	if f := l.flying[t]; f.n > 1 {
		l.flying[t] = flight{f.n - 1, f.round}
	} else {
		delete(l.flying, t)
	}
	superseded := final(err) && !try.over
	if !s.many || err == nil || !gone(err) && !final(err) {
		s.mu.Unlock()
		if superseded {
			s.end(err)
		}
		done(s.reason(err))
		return
	}
	s.refuse(t, round)
	at := s.leave(l, try)
	s.mu.Unlock()
	if at != nil {
		at.Detach()
	}
	if superseded {
		s.end(err)
	}
	if !notTold(s.d.o.Mutations) {
		done(ErrMoved)
	}
}

// with calls f with the attachment to a shard, and again after each move until ctx ends. of
// returns the link of the shard, which may be another one after a move.
func (s *session) with(ctx context.Context, of func() *link, f func(Attachment) error) error {
	for {
		l := of()
		s.mu.Lock()
		at, try, ready := l.at, l.attempt, l.ready
		s.mu.Unlock()
		if at == nil {
			select {
			case <-ready:
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-s.ctx.Done():
				return context.Cause(s.ctx)
			}
			continue
		}
		err := f(at)
		if !s.many || !gone(err) {
			return s.reason(err)
		}
		s.lost(l, try, ErrDetached)
	}
}

// Mark implements Attachment.
func (s *session) Mark(ctx context.Context, stream weir.Stream, topic weir.TopicID, partition int32) (mark uint64, err error) {
	of := func() *link { return s.linkOf(topic, partition) }
	if of() == nil {
		return 0, fmt.Errorf("%w: the shard is not known yet", ErrBusy)
	}
	err = s.with(ctx, of, func(at Attachment) error {
		mark, err = at.Mark(ctx, stream, topic, partition)
		return err
	})
	return mark, err
}

// Offer implements Attachment.
func (s *session) Offer(ctx context.Context, buffers []weir.Buffer) (Offered, error) {
	s.remember(buffers)
	if s.many {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, helloTime, ErrBusy)
		defer cancel()
	}
	return s.all(ctx, func(ctx context.Context, l *link) (known Offered, err error) {
		err = s.with(ctx, func() *link { return l }, func(at Attachment) error {
			known, err = at.Offer(ctx, buffers)
			return err
		})
		if err == nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			for _, b := range known.Buffers {
				if b.State == weir.BufferKnown {
					l.known[b.ID] = true
				}
			}
		}
		return known, err
	})
}

// Retire implements Attachment. The tombstone goes to the shard of the gateway, and to all
// that may have marks of the buffer.
func (s *session) Retire(ctx context.Context, buffer weir.BufferID) error {
	var ids []uint32
	home := s.home()
	s.mu.Lock()
	for id, l := range s.links {
		if id == home || !s.many || l.known[buffer] {
			ids = append(ids, id)
		}
	}
	s.mu.Unlock()
	return s.retire(ctx, buffer, ids)
}

// retire retires a buffer in those shards.
func (s *session) retire(ctx context.Context, buffer weir.BufferID, shards []uint32) error {
	errs := make([]error, len(shards))
	var wg sync.WaitGroup
	for i, id := range shards {
		wg.Go(func() {
			errs[i] = s.with(ctx, func() *link { return s.link(id) }, func(at Attachment) error { return at.Retire(ctx, buffer) })
		})
	}
	wg.Wait()
	i := slices.IndexFunc(errs, func(err error) bool { return err != nil })
	if i < 0 {
		return nil
	}
	return errs[i]
}

// Detach implements Attachment.
func (s *session) Detach() {
	s.cancel()
	s.window.Close()
	s.d.mu.Lock()
	delete(s.d.sessions, s)
	s.d.mu.Unlock()
	var ats []Attachment
	s.mu.Lock()
	s.over = true
	for _, l := range s.links {
		if l.at != nil {
			ats = append(ats, l.at)
		}
	}
	s.mu.Unlock()
	for _, at := range ats {
		at.Detach()
	}
	s.wg.Wait()
}
