package uplink

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/weirmq/weir/storage/pause"
	"github.com/weirmq/weir/storage/weir"
)

const (
	// helloTime is how long a session waits for all shards to tell their marks.
	helloTime = 5 * time.Second
	// firstPause and longestPause are between tries to attach to a shard whose owner is
	// not known or does not answer.
	firstPause   = 20 * time.Millisecond
	longestPause = time.Second
	// sessionWindow is how many bytes of batches a session has at all shards that are not
	// answered, if there are several: those for one shard take half of it at most.
	sessionWindow = 8 << 20
	// batchCost is what a batch takes of it besides its bytes.
	batchCost = 512
)

// Options configure a Door. All functions are required.
type Options struct {
	Shards  func() []uint32         // those that take records of gateways; see Door.Remapped
	ShardOf func(weir.Slice) uint32 // that has a slice

	// Number asks the owner of the shard that has the gateway for a number for a session.
	Number func(ctx context.Context, gateway string) (Number, error)
	// Attach is Owner.Attach at the owner of a shard, at whichever node that is.
	Attach func(ctx context.Context, shard uint32, gateway string, n Number, buffers []weir.Buffer, end func(error)) (Attachment, Offered, error)

	Mutations Mutations
}

// Door is a node that has sessions of gateways.
type Door struct {
	o Options

	mu       sync.Mutex
	sessions map[*session]bool // guarded by mu
}

// NewDoor makes a Door.
func NewDoor(o Options) *Door { return &Door{o: o, sessions: make(map[*session]bool)} }

// Attach begins the session of a gateway at all shards, and returns what they know of its
// buffers. end is called when the session must end, perhaps before Attach returns and more
// than once. It must not block.
func (d *Door) Attach(ctx context.Context, gateway string, buffers []weir.Buffer, end func(error)) (Attachment, Offered, error) {
	shards := d.o.Shards()
	s := &session{d: d, gateway: gateway, end: end, many: len(shards) > 1, refused: make(map[target]uint32), links: make(map[uint32]*link),
		window: NewWindow(sessionWindow, false)}
	s.ctx, s.cancel = context.WithCancel(ctx)
	s.remember(buffers)
	for _, id := range shards {
		s.links[id] = newLink(id)
	}
	d.mu.Lock()
	d.sessions[s] = true
	d.mu.Unlock()
	known, err := s.begin(buffers)
	if err == nil {
		err = s.hasBegun()
	}
	if err != nil {
		s.Detach()
		return nil, Offered{}, err
	}
	return s, known, nil
}

// Moved makes all sessions attach to a shard anew: it has another owner.
func (d *Door) Moved(shard uint32) {
	for _, s := range d.all() {
		s.moved(shard)
	}
}

// Remapped makes all sessions attach to shards that were not there when they began: slices
// have moved to them. A session of a cluster that had one shard ends, with a NotOwnerError:
// the gateway begins another one.
func (d *Door) Remapped() {
	shards := d.o.Shards()
	for _, s := range d.all() {
		switch {
		case s.beginning():
			continue
		case !s.many && len(shards) > 1:
			s.end(&NotOwnerError{})
			continue
		}
		for _, id := range shards {
			s.link(id)
		}
	}
}

func (d *Door) all() []*session {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Collect(maps.Keys(d.sessions))
}

// begin attaches to all shards.
func (s *session) begin(buffers []weir.Buffer) (Offered, error) {
	if !s.many {
		var err error
		if s.number, err = s.d.o.Number(s.ctx, s.gateway); err != nil {
			return Offered{}, err
		}
		for _, l := range s.linked() {
			return s.attach(s.ctx, l, buffers)
		}
	}
	ctx, cancel := context.WithTimeoutCause(s.ctx, helloTime, fmt.Errorf("%w: not all shards have told their marks in %v", ErrBusy, helloTime))
	defer cancel()
	err := again(ctx, func() (err error) {
		s.number, err = s.d.o.Number(ctx, s.gateway)
		return err
	})
	if err != nil {
		return Offered{}, err
	}
	return s.all(ctx, func(ctx context.Context, l *link) (known Offered, err error) {
		err = again(ctx, func() error {
			known, err = s.attach(ctx, l, buffers)
			return err
		})
		return known, err
	})
}

// beginning reports whether a session has yet to begin. Then it does not: slices have moved,
// and their marks may not be among those that it was told.
func (s *session) beginning() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed, s.remapped = !s.begun, true
	return s.changed
}

// hasBegun notes that all shards have told their marks.
func (s *session) hasBegun() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changed {
		return fmt.Errorf("%w: slices have moved to another shard meanwhile", ErrBusy)
	}
	s.begun = true
	return nil
}

// again calls f until it succeeds, ctx ends, or the session is superseded. That a shard has no
// owner yet is not a *NotOwnerError of the session, which would end all sessions of the node.
func again(ctx context.Context, f func() error) error {
	for rest := firstPause; ; rest = min(2*rest, longestPause) {
		err := f()
		if err == nil || final(err) {
			return err
		}
		if pause.For(ctx, rest) != nil {
			return fmt.Errorf("%w: %v", context.Cause(ctx), err)
		}
	}
}
