package uplink

import (
	"context"
	"sync"

	"github.com/weirmq/weir/storage/weir"
)

// Calls are what an Owner needs of the log of its shard. They are like the methods of
// Attachment.
type Calls struct {
	Offer  func(ctx context.Context, gateway string, buffers []weir.Buffer) (Offered, error)
	Append func(a Append, done func(error))
	Mark   func(ctx context.Context, s weir.Stream, topic weir.TopicID, partition int32) (uint64, error)
	Retire func(ctx context.Context, gateway string, buffer weir.BufferID) error
}

// Owner is a shard that this node owns, as the sessions of gateways see it. It lives as
// long as the ownership.
type Owner struct {
	calls     Calls
	epoch     uint64
	mutations Mutations

	mu       sync.Mutex           // guards what follows, and what attached and attachment say
	count    uint64               // numbers given
	gateways map[string]*attached // with a session, or with batches that the log has not answered
	ended    bool
}

// attached is a gateway at an owner. Its fields are guarded by Owner.mu.
type attached struct {
	newest  Number
	current *attachment   // nil: none
	flying  int           // batches that the log has not answered, of all its sessions
	none    chan struct{} // closed when flying is 0 again; nil while it is
}

// NewOwner makes an Owner for an ownership with that epoch.
func NewOwner(epoch uint64, calls Calls, m Mutations) *Owner {
	return &Owner{calls: calls, epoch: epoch, mutations: m, gateways: make(map[string]*attached)}
}

// Number returns a number for a new session of a gateway that lies in this shard.
func (o *Owner) Number() Number { return o.NumberAt(o.epoch) }

// NumberAt is Number for a gateway whose slice has come from another shard: its epoch is one
// that grows with each such move, too.
func (o *Owner) NumberAt(epoch uint64) Number {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.count++
	return Number{Epoch: epoch, Count: o.count}
}

// Attach makes a session the newest of its gateway here. It returns when no older one can
// hand anything to the log any more, and the log has answered everything that they handed
// over. From then on only this session moves the gateway's marks.
//
// end is called when the attachment is over, perhaps before Attach returns and more than
// once, with ErrSuperseded or ErrDetached. It must not block.
func (o *Owner) Attach(ctx context.Context, gateway string, n Number, buffers []weir.Buffer, end func(error)) (Attachment, Offered, error) {
	a := &attachment{o: o, gateway: gateway, end: end}
	none, err := o.enter(a, n)
	if err != nil {
		return nil, Offered{}, err
	}
	if none != nil && !earlyMarks(o.mutations) {
		select {
		case <-none:
		case <-ctx.Done():
			a.Detach()
			return nil, Offered{}, context.Cause(ctx)
		}
	}
	known, err := o.calls.Offer(ctx, gateway, buffers)
	if err != nil {
		a.Detach()
		return nil, Offered{}, err
	}
	return a, known, nil
}

// enter makes a the attachment of its gateway, and ends the one before. none is closed
// when the log has answered what the others handed over; nil: it has.
func (o *Owner) enter(a *attachment, n Number) (none <-chan struct{}, err error) {
	o.mu.Lock()
	g := o.gateways[a.gateway]
	if g == nil {
		g = &attached{}
	}
	switch {
	case o.ended:
		o.mu.Unlock()
		return nil, ErrDetached
	case n.Compare(g.newest) <= 0 && !anyOrder(o.mutations):
		o.mu.Unlock()
		return nil, ErrSuperseded
	}
	old, before := g.current, g.newest
	o.gateways[a.gateway] = g
	a.g, g.current, g.newest, none = g, a, n, g.none
	o.mu.Unlock()
	switch {
	case old == nil:
	case before.same(n):
		old.end(ErrDetached)
	case !keepOlder(o.mutations):
		old.end(ErrSuperseded)
	}
	return none, nil
}

// End ends all attachments: this node does not own the shard any more.
func (o *Owner) End() {
	o.mu.Lock()
	o.ended = true
	var all []*attachment
	for _, g := range o.gateways {
		if g.current != nil {
			all = append(all, g.current)
		}
	}
	o.mu.Unlock()
	for _, a := range all {
		a.end(ErrDetached)
	}
}

// attachment implements Attachment for the log of an owner.
type attachment struct {
	o       *Owner
	g       *attached // set by enter, under Owner.mu
	gateway string
	end     func(error)
}

// heard returns nil while the owner hears this attachment. Called with Owner.mu held.
func (a *attachment) heard() error {
	switch {
	case a.o.ended:
		return ErrDetached
	case a.g.current != a && !keepOlder(a.o.mutations):
		return ErrSuperseded
	}
	return nil
}

func (a *attachment) check() error {
	a.o.mu.Lock()
	defer a.o.mu.Unlock()
	return a.heard()
}

// Offer implements Attachment.
func (a *attachment) Offer(ctx context.Context, buffers []weir.Buffer) (Offered, error) {
	if err := a.check(); err != nil {
		return Offered{}, err
	}
	return a.o.calls.Offer(ctx, a.gateway, buffers)
}

// Append implements Attachment.
func (a *attachment) Append(p Append, done func(error)) {
	a.o.mu.Lock()
	if err := a.heard(); err != nil {
		a.o.mu.Unlock()
		done(err)
		return
	}
	if a.g.flying++; a.g.none == nil {
		a.g.none = make(chan struct{})
	}
	a.o.mu.Unlock()
	a.o.calls.Append(p, func(err error) {
		done(err)
		a.answered()
	})
}

// answered counts a batch that the log has answered.
func (a *attachment) answered() {
	a.o.mu.Lock()
	defer a.o.mu.Unlock()
	if a.g.flying--; a.g.flying == 0 {
		close(a.g.none)
		a.g.none = nil
	}
	a.forget()
}

// forget removes the gateway if nothing of it is left. Called with Owner.mu held.
func (a *attachment) forget() {
	if a.g.current == nil && a.g.flying == 0 && a.o.gateways[a.gateway] == a.g {
		delete(a.o.gateways, a.gateway)
	}
}

// Mark implements Attachment.
func (a *attachment) Mark(ctx context.Context, s weir.Stream, topic weir.TopicID, partition int32) (uint64, error) {
	if err := a.check(); err != nil {
		return 0, err
	}
	return a.o.calls.Mark(ctx, s, topic, partition)
}

// Retire implements Attachment.
func (a *attachment) Retire(ctx context.Context, buffer weir.BufferID) error {
	if err := a.check(); err != nil {
		return err
	}
	return a.o.calls.Retire(ctx, a.gateway, buffer)
}

// Detach implements Attachment.
func (a *attachment) Detach() {
	a.o.mu.Lock()
	defer a.o.mu.Unlock()
	if a.g.current == a {
		a.g.current = nil
		a.forget()
	}
}
