package model

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/uplink"
)

// path is the connection from a door to an owner: what is sent on it arrives in order,
// after a while. It stands for the stream of package peer.
type path struct {
	w      *world
	owner  *uplink.Owner
	up     chan func() // to be done at the owner
	down   chan func() // at the door
	ctx    context.Context
	cancel context.CancelFunc // ends what the owner does for the door

	mu     sync.Mutex // guards what follows, and the fields of links
	broken bool       // as the door knows
	lose   bool       // what is in transit does not arrive
	links  map[*farLink]bool
}

func newPath(w *world, owner *node) *path {
	owner.mu.Lock()
	p := &path{w: w, owner: owner.owner, up: make(chan func(), 4096), down: make(chan func(), 4096), links: map[*farLink]bool{}}
	owner.mu.Unlock()
	p.ctx, p.cancel = context.WithCancel(context.Background())
	w.running.Go(p.carryUp)
	w.running.Go(p.carryDown)
	return p
}

// carryUp does at the owner what the door has sent, also after the path broke.
func (p *path) carryUp() {
	for do := range p.up {
		time.Sleep(p.w.transit())
		p.mu.Lock()
		lose := p.lose
		p.mu.Unlock()
		if !lose {
			do()
		}
	}
	p.cancel() // the owner notices that the door is gone
	p.mu.Lock()
	var all []uplink.Attachment
	for l := range p.links {
		if l.there != nil {
			all = append(all, l.there)
		}
	}
	p.mu.Unlock()
	for _, at := range all {
		at.Detach()
	}
}

// carryDown does at the door what the owner has sent, until the path breaks.
func (p *path) carryDown() {
	for do := range p.down {
		time.Sleep(p.w.transit())
		p.mu.Lock()
		broken := p.broken
		p.mu.Unlock()
		if !broken {
			do()
		}
	}
}

func (p *path) sendDown(do func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.broken {
		p.down <- do
	}
}

// cut breaks the path: the door knows at once, the owner when what is in transit has
// arrived, if that arrives.
func (p *path) cut(keep bool) {
	p.mu.Lock()
	if p.broken {
		p.mu.Unlock()
		return
	}
	p.broken, p.lose = true, !keep
	close(p.up)
	close(p.down)
	var ends []func(error)
	var calls []func(error)
	for l := range p.links {
		ends = append(ends, l.end)
		calls = append(calls, l.takeCalls()...)
	}
	p.mu.Unlock()
	for _, end := range ends {
		end(uplink.ErrDetached)
	}
	for _, done := range calls {
		done(uplink.ErrDetached)
	}
}

// farLink implements uplink.Attachment for an owner at the other end of a path.
type farLink struct {
	p   *path
	end func(error)

	// Guarded by path.mu:
	there    uplink.Attachment // at the owner; nil: not attached
	detached bool
	next     int
	calls    map[int]func(error) // not answered
}

// takeCalls is called with path.mu held.
func (l *farLink) takeCalls() (all []func(error)) {
	for id := range l.next {
		if done := l.calls[id]; done != nil {
			all = append(all, done)
		}
	}
	l.calls = map[int]func(error){}
	return all
}

// call sends a request. done is called once.
func (l *farLink) call(do func(at uplink.Attachment, answer func(error)), done func(error)) {
	l.p.mu.Lock()
	if l.detached || l.p.broken {
		l.p.mu.Unlock()
		done(uplink.ErrDetached)
		return
	}
	id := l.next
	l.next++
	l.calls[id] = done
	l.p.up <- func() {
		l.p.mu.Lock()
		at := l.there
		l.p.mu.Unlock()
		do(at, func(err error) {
			if _, elsewhere := errors.AsType[*uplink.NotOwnerError](err); elsewhere {
				err = uplink.ErrDetached
			}
			l.p.sendDown(func() { l.answered(id, err) })
		})
	}
	l.p.mu.Unlock()
}

func (l *farLink) answered(id int, err error) {
	l.p.mu.Lock()
	done := l.calls[id]
	delete(l.calls, id)
	l.p.mu.Unlock()
	if done != nil {
		done(err)
	}
}

// ask is call for one that waits. What do does at the owner may take a while.
func (l *farLink) ask(ctx context.Context, do func(at uplink.Attachment) error) error {
	got := make(chan error, 1)
	l.call(func(at uplink.Attachment, answer func(error)) {
		if at == nil {
			answer(uplink.ErrDetached)
			return
		}
		l.p.w.running.Go(func() { answer(do(at)) })
	}, func(err error) { got <- err })
	select {
	case err := <-got:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// attach attaches a session to the owner.
func (p *path) attach(ctx context.Context, gateway string, n uplink.Number, buffers []weir.Buffer, end func(error)) (uplink.Attachment, uplink.Offered, error) {
	l := &farLink{p: p, end: end, calls: map[int]func(error){}}
	p.mu.Lock()
	p.links[l] = true
	p.mu.Unlock()
	var known uplink.Offered
	got := make(chan error, 1)
	l.call(func(_ uplink.Attachment, answer func(error)) {
		p.w.running.Go(func() {
			at, offered, err := p.owner.Attach(p.ctx, gateway, n, buffers, func(err error) { p.sendDown(func() { l.ended(err) }) })
			if err == nil {
				p.mu.Lock()
				l.there = at
				over := l.detached || p.ctx.Err() != nil
				p.mu.Unlock()
				if over {
					at.Detach()
				}
			}
			p.sendDown(func() { known = offered })
			answer(err)
		})
	}, func(err error) { got <- err })
	var err error
	select {
	case err = <-got:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err != nil {
		l.Detach()
		return nil, uplink.Offered{}, err
	}
	return l, known, nil
}

// ended says that the owner does not hear the attachment any more.
func (l *farLink) ended(err error) {
	l.p.mu.Lock()
	over := l.detached
	l.p.mu.Unlock()
	if !over {
		l.end(err)
	}
}

func (l *farLink) Append(a uplink.Append, done func(error)) {
	l.call(func(at uplink.Attachment, answer func(error)) { at.Append(a, answer) }, done)
}

func (l *farLink) Offer(ctx context.Context, buffers []weir.Buffer) (uplink.Offered, error) {
	var known uplink.Offered
	if err := l.ask(ctx, func(at uplink.Attachment) (err error) { known, err = at.Offer(l.p.ctx, buffers); return err }); err != nil {
		return uplink.Offered{}, err // known may still be written
	}
	return known, nil
}

func (l *farLink) Mark(ctx context.Context, s weir.Stream, topic weir.TopicID, partition int32) (uint64, error) {
	var mark uint64
	err := l.ask(ctx, func(at uplink.Attachment) (err error) { mark, err = at.Mark(l.p.ctx, s, topic, partition); return err })
	if err != nil {
		return 0, err
	}
	return mark, nil
}

func (l *farLink) Retire(ctx context.Context, buffer weir.BufferID) error {
	return l.ask(ctx, func(at uplink.Attachment) error { return at.Retire(l.p.ctx, buffer) })
}

func (l *farLink) Detach() {
	l.p.mu.Lock()
	if l.detached {
		l.p.mu.Unlock()
		return
	}
	l.detached = true
	calls := l.takeCalls()
	if !l.p.broken {
		l.p.up <- func() {
			l.p.mu.Lock()
			at := l.there
			delete(l.p.links, l)
			l.p.mu.Unlock()
			if at != nil {
				at.Detach()
			}
		}
	}
	l.p.mu.Unlock()
	for _, done := range calls {
		done(uplink.ErrDetached)
	}
}
