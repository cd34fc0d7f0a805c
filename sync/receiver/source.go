package receiver

import (
	"errors"
	"fmt"

	"github.com/weirmq/weir/storage/record"
)

// headerGateway is the header in which a gateway says who it is. Records may have none.
const headerGateway = "weir.gateway"

// A batch is looked into where that costs little: one that is not compressed, or is
// small. What a gateway says of the others is its word.
const (
	cheapBatch    = 4 << 10  // bytes, compressed
	cheapInflated = 64 << 10 // bytes of its records
)

// errSeen ends a walk over a batch.
var errSeen = errors.New("seen")

// checkGateway looks whether the first record of a batch names another gateway than
// the one that sends it. What does not decode is the log's to refuse.
func (s *session) checkGateway(b record.Batch) error {
	limit := s.r.o.MaxBatch
	if b.Codec() != record.None {
		if len(b) > cheapBatch {
			return nil
		}
		limit = cheapInflated
	}
	var other error
	_ = b.Each(limit, func(r *record.Record) error {
		for _, h := range r.Headers {
			if h.Key == headerGateway && string(h.Value) != s.gateway {
				other = fmt.Errorf("record says that it is of gateway %q: %w", h.Value, ErrNotAllowed)
			}
		}
		return errSeen
	})
	return other
}
