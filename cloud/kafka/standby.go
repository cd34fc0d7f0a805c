package kafka

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/quota"
)

// A node that stands by answers from a copy of what the owner knows (broker.Copy): who
// may log in, who may do what, which topics there are. What changes something, and what
// only the log knows, is for the owner, which it names. README.md has the table.

// Owner is the owner of the shard, as a node that stands by asks it for a client.
type Owner interface {
	// CreateTopic creates a topic, unless it is there, with the owner's defaults, if
	// that client may. code is Kafka's, 0 for success.
	CreateTopic(ctx context.Context, who auth.Who, name string) (t broker.Topic, code int16, err error)

	// NewProducerID gives an id to an idempotent producer, if that client may.
	NewProducerID(ctx context.Context, who auth.Who) (id int64, code int16, err error)

	// Refresh returns when the copy is newer than the call, or cannot be made so soon.
	Refresh(ctx context.Context)
}

// ownerTime is how long the owner may take for what it is asked for.
const ownerTime = 10 * time.Second

// judged are the connections of which a request is under way that is judged by the
// copy. Whatever such a request does, it does to a node that stands by.
type judged struct {
	mu    sync.Mutex
	conns map[*conn]struct{} // guarded by mu
	empty chan struct{}      // guarded by mu; of Settle: closed when conns becomes empty
}

// judgeByCopy judges a request by the copy, if there is one and the node still stands by.
func (r *request) judgeByCopy() bool {
	s := r.conn.s
	s.judged.mu.Lock()
	defer s.judged.mu.Unlock()
	if r.acls = s.o.Auth(); r.acls != nil {
		return true
	}
	c := s.broker.Copy()
	if c == nil {
		return false
	}
	r.acls, r.copied = c.Users, true
	s.judged.conns[r.conn] = struct{}{}
	return true
}

// settle ends what judge began. The request must not touch the broker any more, unless
// it is judged anew.
func (r *request) settle() {
	if !r.copied {
		return
	}
	r.copied = false
	s := r.conn.s
	s.judged.mu.Lock()
	defer s.judged.mu.Unlock()
	delete(s.judged.conns, r.conn)
	if len(s.judged.conns) == 0 && s.judged.empty != nil {
		close(s.judged.empty)
		s.judged.empty = nil
	}
}

// settleTime is how long a request that is judged by the copy may go on when the node
// becomes the owner.
const settleTime = 100 * time.Millisecond

// Settle returns when no request is under way any more that is judged by the copy. The
// node calls it before the broker leads, and after Options.Auth has what the log says:
// nothing is done here by rights that may have been taken away.
func (s *Server) Settle() {
	s.judged.mu.Lock()
	if len(s.judged.conns) == 0 {
		s.judged.mu.Unlock()
		return
	}
	empty := make(chan struct{})
	s.judged.empty = empty
	s.judged.mu.Unlock()
	timer := time.NewTimer(settleTime)
	defer timer.Stop()
	select {
	case <-empty:
		return
	case <-timer.C:
	}
	s.judged.mu.Lock()
	for c := range s.judged.conns { // it waits for something: its client comes again
		c.cancel(errGone)
	}
	s.judged.mu.Unlock()
	<-empty
}

// unjudged reports whether nobody knows what the client may.
func (r *request) unjudged() bool { return r.acls == nil && r.conn.s.o.Authorize }

// aside does something that takes its time, and judges the request anew.
func (r *request) aside(ctx context.Context, do func(ctx context.Context)) error {
	r.settle()
	ctx, cancel := context.WithTimeout(ctx, ownerTime)
	defer cancel()
	waited := quota.Waiting(ctx)
	do(ctx)
	waited()
	return r.judge()
}

// known resolves a topic as topic does, on a standby too. What the copy does not have
// the owner may have got just now.
func (r *request) known(ctx context.Context, op kmsg.ACLOperation, name string, id [16]byte, byID bool) (broker.Topic, error) {
	t, err := r.inCopy(op, name, id, byID)
	s := r.conn.s
	if !errors.Is(err, broker.ErrUnknownTopic) && !errors.Is(err, errUnknownID) || r.refreshed || s.o.Owner == nil || s.broker.Copy() == nil {
		return t, err
	}
	r.refreshed = true
	if err := r.aside(ctx, s.o.Owner.Refresh); err != nil {
		return broker.Topic{}, err
	}
	return r.inCopy(op, name, id, byID)
}

func (r *request) inCopy(op kmsg.ACLOperation, name string, id [16]byte, byID bool) (broker.Topic, error) {
	if r.unjudged() {
		return broker.Topic{}, broker.ErrNotOwner
	}
	if !byID {
		if !r.may(op, kmsg.ACLResourceTypeTopic, name) {
			return broker.Topic{}, errTopicDenied
		}
		return r.conn.s.broker.KnownTopic(name)
	}
	t, err := r.conn.s.broker.KnownTopicByID(id)
	switch {
	case errors.Is(err, broker.ErrUnknownTopic):
		return broker.Topic{}, errUnknownID
	case err == nil && !r.may(op, kmsg.ACLResourceTypeTopic, t.Name):
		return broker.Topic{}, errTopicDenied
	}
	return t, err
}

// standsBy reports whether what only the owner can do should be asked of it.
func (r *request) standsBy() bool {
	s := r.conn.s
	return !r.behalf && s.o.Owner != nil && s.broker.Copy() != nil
}

// createThere asks the owner to create a topic.
func (r *request) createThere(ctx context.Context, name string) (t broker.Topic, err error) {
	s := r.conn.s
	var code int16
	judged := r.aside(ctx, func(ctx context.Context) { t, code, err = s.o.Owner.CreateTopic(ctx, r.conn.who(), name) })
	if err = errors.Join(err, judged); err != nil {
		return broker.Topic{}, errors.Join(broker.ErrNotOwner, err)
	}
	return t, coded(code)
}

// producerThere asks the owner for a producer id.
func (r *request) producerThere(ctx context.Context) (id int64, err error) {
	s := r.conn.s
	var code int16
	judged := r.aside(ctx, func(ctx context.Context) { id, code, err = s.o.Owner.NewProducerID(ctx, r.conn.who()) })
	if err = errors.Join(err, judged); err != nil {
		return none, errors.Join(broker.ErrNotOwner, err)
	}
	return id, coded(code)
}

// coded is the error that another node has answered by its code; nil for 0.
func coded(code int16) error {
	if code == 0 {
		return nil
	}
	known, ok := errors.AsType[*kerr.Error](kerr.ErrorForCode(code))
	if !ok {
		known = kerr.UnknownServerError
	}
	return refused(known, "the owner refuses: %s", known.Message)
}

// behalf is a request of a client of another node, which stands by.
func (s *Server) behalf(key kmsg.Key, who auth.Who) (*request, error) {
	r := &request{api: s.api(key.Int16()), behalf: true, conn: &conn{s: s, principal: who.Principal, peer: who.Host, cancel: func(error) {}}}
	if !s.broker.IsController() {
		return nil, broker.ErrNotOwner
	}
	return r, r.judge()
}

// CreateTopic creates a topic for a client of another node, unless it is there. code is
// Kafka's, 0 for success.
func (s *Server) CreateTopic(ctx context.Context, who auth.Who, name string) (t broker.Topic, errorCode int16) {
	r, err := s.behalf(kmsg.Metadata, who)
	if err == nil {
		defer r.settle()
		if t, err = r.topic(kmsg.ACLOperationDescribe, name, [16]byte{}, false); errors.Is(err, broker.ErrUnknownTopic) {
			t, err = s.create(ctx, r, name, err, true)
		}
	}
	return t, code(err, leader)
}

// NewProducerID gives a producer id to a client of another node. code is Kafka's, 0 for
// success.
func (s *Server) NewProducerID(ctx context.Context, who auth.Who) (id int64, errorCode int16) {
	r, err := s.behalf(kmsg.InitProducerID, who)
	if err == nil {
		defer r.settle()
		id, err = s.newProducerID(ctx, r)
	}
	return id, code(err, allocator)
}

// knownUsers is what is kept of users and ACLs, or on a standby a copy of it that can
// be asked and not changed; nil if neither is there.
func (s *Server) knownUsers() *auth.Auth {
	if a := s.o.Auth(); a != nil {
		return a
	}
	if c := s.broker.Copy(); c != nil {
		return c.Users
	}
	return nil
}

// limits is what is kept of quotas, or on a standby a copy of it; nil if neither is
// there.
func (s *Server) limits() *quota.Quotas {
	if q := s.o.Quotas(); q != nil {
		return q
	}
	if c := s.broker.Copy(); c != nil {
		return c.Quotas
	}
	return nil
}
