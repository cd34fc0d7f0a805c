package receiver

import (
	"errors"
	"fmt"

	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/sync/uplink"
)

// headerGateway is the header that names the gateway of a record. Records may lack it.
const headerGateway = "weir.gateway"

// A batch is inspected only if that is cheap: if it is not compressed, or is small. For
// other batches the gateway is trusted.
const (
	cheapBatch    = 4 << 10  // bytes, compressed
	cheapInflated = 64 << 10 // bytes of its records
)

// errSeen ends a walk over a batch.
var errSeen = errors.New("seen")

// checkGateway checks whether the first record of a batch names another gateway than
// the one that sends it. A batch that cannot be decoded is left to the log to refuse.
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
				other = fmt.Errorf("a record names gateway %q: %w", h.Value, uplink.ErrNotAllowed)
			}
		}
		return errSeen
	})
	return other
}
