package kafka

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// api is one operation that the door serves. What is not in the table is not
// advertised, and a request for it closes the connection, as in Kafka.
type api struct {
	key      kmsg.Key
	min, max int16
	limit    int // bytes of the largest request
	handle   handler
	flexible int16 // first version whose header has tagged fields
}

// handler performs a request. An error closes the connection: all that a client
// can be told is in the response.
type handler func(ctx context.Context, r *request) (response, error)

// response is a message to the client: of kmsg, or a Fetch's.
type response interface {
	AppendTo(dst []byte) []byte
	IsFlexible() bool
}

// Requests are refused by length before they are allocated. Beyond that, kmsg
// allocates an array as long as the request says, up to one element for each byte
// that follows: about 100 times the size of a hostile request. So the limits are
// tight, those of long lists are decoded one at a time (Server.decode), and the
// one that is really large, Produce, has its own decoder.
const (
	shortRequest = 64 << 10
	longRequest  = 1 << 20
)

// table lists what is served. Produce is advertised from version 0 although 0 to
// 2 are refused: librdkafka up to 2.8 will not compress when it does not see them
// (KAFKA-18659).
func (s *Server) table() []api {
	apis := []api{
		{kmsg.Produce, 0, 13, s.o.MaxRequest, nil, 0}, // handled apart: conn.produce
		{kmsg.Fetch, 4, 17, longRequest, typed(s, s.fetch), 0},
		{kmsg.ListOffsets, 1, 10, longRequest, typed(s, s.listOffsets), 0},
		{kmsg.Metadata, 0, 13, longRequest, typed(s, s.metadata), 0},
		{kmsg.OffsetCommit, 2, 10, longRequest, typed(s, s.offsetCommit), 0},
		{kmsg.OffsetFetch, 1, 10, longRequest, typed(s, s.offsetFetch), 0},
		{kmsg.FindCoordinator, 0, 6, shortRequest, typed(s, s.findCoordinator), 0},
		{kmsg.JoinGroup, 0, 9, longRequest, typed(s, s.joinGroup), 0},
		{kmsg.Heartbeat, 0, 4, shortRequest, typed(s, s.heartbeat), 0},
		{kmsg.LeaveGroup, 0, 5, shortRequest, typed(s, s.leaveGroup), 0},
		{kmsg.SyncGroup, 0, 5, longRequest, typed(s, s.syncGroup), 0},
		{kmsg.ApiVersions, 0, 4, shortRequest, typed(s, s.apiVersions), 0},
		{kmsg.CreateTopics, 0, 7, longRequest, typed(s, s.createTopics), 0},
		{kmsg.DeleteTopics, 0, 6, longRequest, typed(s, s.deleteTopics), 0},
		{kmsg.DeleteRecords, 0, 2, longRequest, typed(s, s.deleteRecords), 0},
		{kmsg.InitProducerID, 0, 5, shortRequest, typed(s, s.initProducerID), 0},
	}
	for i := range apis {
		a := &apis[i]
		a.limit = min(a.limit, s.o.MaxRequest)
		q := a.key.Request()
		for a.flexible = a.min; a.flexible <= a.max; a.flexible++ {
			if q.SetVersion(a.flexible); q.IsFlexible() {
				break
			}
		}
	}
	return apis
}

func (s *Server) api(key int16) *api {
	for i := range s.apis {
		if s.apis[i].key.Int16() == key {
			return &s.apis[i]
		}
	}
	return nil
}

// handle performs a request that is no Produce.
func (s *Server) handle(ctx context.Context, r *request) (response, error) {
	if r.version > r.api.max { // readHead lets only ApiVersions through
		return s.tooNewApiVersions(r.api), nil
	}
	return r.api.handle(ctx, r)
}

// typed makes a handler of a typed function: it decodes the request first.
func typed[Q kmsg.Request, R response](s *Server, do func(context.Context, *request, Q) (R, error)) handler {
	return func(ctx context.Context, r *request) (response, error) {
		q := r.api.key.Request().(Q)
		q.SetVersion(r.version)
		if err := s.decodeInto(ctx, q, r.body); err != nil {
			return nil, fmt.Errorf("decode %s v%d: %w", r.api.key.Name(), r.version, err)
		}
		r.release() // what waits for long (Fetch, JoinGroup) must not keep others from being read
		return do(ctx, r, q)
	}
}

func (s *Server) decodeInto(ctx context.Context, q kmsg.Request, body []byte) (err error) {
	if len(body) > shortRequest {
		select {
		case s.decode <- struct{}{}:
			defer func() { <-s.decode }()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	defer func() { // bytes from strangers, and a decoder that is not ours
		if p := recover(); p != nil {
			err = fmt.Errorf("decoder: %v", p)
		}
	}()
	return q.ReadFrom(body)
}
