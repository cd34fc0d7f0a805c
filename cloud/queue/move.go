package queue

import (
	"context"

	"github.com/weirmq/weir/storage/weir"
)

// Vhosts do not move to another shard: their slices stay. From slices that move no vhost may
// come into being here, since the new shard creates those.

// CloseSlices makes CreateVhost and DeleteVhost answer ErrClosed for vhosts of those slices. It
// returns nil when none is being created or deleted. Errors: ctx's; then they are closed all the same.
func (e *Engine) CloseSlices(ctx context.Context, set weir.SliceSet) error {
	return e.gate.Close(ctx, set)
}

// OpenSlices undoes CloseSlices: the slices have not moved.
func (e *Engine) OpenSlices(set weir.SliceSet) { e.gate.Open(set) }
