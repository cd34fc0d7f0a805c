package kafka

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/login"
	"github.com/weirmq/weir/cloud/stopwatch"
)

// A standby answers from a copy of what the owner knows (broker.Copy): users, ACLs
// and topics. Requests that change something, and requests for what only the log
// knows, are for the owner, which the answer names. README.md has the table.

// Owner is how a standby calls the owner of the shard for a client. All fields are
// required.
type Owner struct {
	// CreateTopic creates a topic with the owner's defaults, unless it exists, if that
	// client may. code is Kafka's, 0 for success.
	CreateTopic func(ctx context.Context, who auth.Who, name string) (t broker.Topic, code int16, err error)

	// NewProducerID returns an id for an idempotent producer, if that client may have
	// one.
	NewProducerID func(ctx context.Context, who auth.Who) (id int64, code int16, err error)

	// Perform performs a request for that client: see Server.Perform. It is used in a
	// cluster of several shards.
	Perform func(ctx context.Context, who auth.Who, key, version int16, client string, body []byte) (answer []byte, err error)

	// Refresh returns when the copy is newer than the call, or cannot be refreshed so
	// soon.
	Refresh func(ctx context.Context)
}

// ownerTime bounds a call of Owner.
const ownerTime = 10 * time.Second

// aside settles the request's rights, calls do, which may take long, and judges
// again.
func (r *request) aside(ctx context.Context, do func(ctx context.Context)) error {
	r.rights.Settle()
	ctx, cancel := context.WithTimeout(ctx, ownerTime)
	defer cancel()
	waited := stopwatch.Waiting(ctx)
	do(ctx)
	waited()
	return r.judge()
}

// known is topic that also works on a standby. If the copy does not have the topic,
// it is refreshed once: the owner may have just created it.
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
	if r.rights.Unknown() {
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

// standsBy reports whether this node has to ask the owner to perform the request.
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

// coded returns the error for a code that another node has answered, nil for 0.
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

// behalf makes a request for a client of another node, which is a standby.
func (s *Server) behalf(key kmsg.Key, who auth.Who) (*request, error) {
	r := &request{api: s.api(key.Int16()), behalf: true, conn: &conn{s: s, session: login.Of(who.Principal), peer: who.Host, cancel: func(error) {}}}
	if !s.broker.IsController() {
		return nil, broker.ErrNotOwner
	}
	return r, r.judge()
}

// CreateTopic creates a topic for a client of another node, unless it exists. code is
// Kafka's, 0 for success.
func (s *Server) CreateTopic(ctx context.Context, who auth.Who, name string) (t broker.Topic, errorCode int16) {
	r, err := s.behalf(kmsg.Metadata, who)
	if err == nil {
		defer r.rights.Settle()
		if t, err = r.topic(kmsg.ACLOperationDescribe, name, [16]byte{}, false); errors.Is(err, broker.ErrUnknownTopic) {
			t, err = s.create(ctx, r, name, err, true)
		}
	}
	return t, code(err, leader)
}

// NewProducerID returns a producer id for a client of another node. code is Kafka's,
// 0 for success.
func (s *Server) NewProducerID(ctx context.Context, who auth.Who) (id int64, errorCode int16) {
	r, err := s.behalf(kmsg.InitProducerID, who)
	if err == nil {
		defer r.rights.Settle()
		id, err = s.newProducerID(ctx, r)
	}
	return id, code(err, allocator)
}
