package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// InitProducerID (key 22): an id for an idempotent producer (KIP-98).
//
// Behaviour:
//   - Each call gives an id that nobody else has or will have, with epoch 0, also
//     to a producer that names the id it had (KIP-360): it starts afresh.
//   - A transactional id is refused: see FindCoordinator.
//
// Versions:
//   - v2: flexible; v3: the id that the producer had; v4, v5: other error codes
func (s *Server) initProducerID(ctx context.Context, _ *request, q *kmsg.InitProducerIDRequest) (*kmsg.InitProducerIDResponse, error) {
	resp := kmsg.NewPtrInitProducerIDResponse()
	resp.Version = q.Version
	resp.ProducerID, resp.ProducerEpoch = none, none
	if q.TransactionalID != nil {
		resp.ErrorCode = kerr.TransactionalIDAuthorizationFailed.Code
		return resp, nil
	}
	id, err := s.broker.NewProducerID(ctx)
	if resp.ErrorCode = code(err, allocator); err == nil {
		resp.ProducerID, resp.ProducerEpoch = id, 0
	}
	return resp, nil
}
