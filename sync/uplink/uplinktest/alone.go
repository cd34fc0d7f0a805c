// Package uplinktest lets tests of gateways do without a cluster.
package uplinktest

import (
	"context"

	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/uplink"
)

// Alone returns the door of a node that owns the only shard, whose log is log.
func Alone(log uplink.Calls) *uplink.Door {
	owner := uplink.NewOwner(1, log, uplink.Mutations{})
	return uplink.NewDoor(uplink.Options{
		Shards:  func() []uint32 { return []uint32{0} },
		ShardOf: func(weir.Slice) uint32 { return 0 },
		Number:  func(context.Context, string) (uplink.Number, error) { return owner.Number(), nil },
		Attach: func(ctx context.Context, _ uint32, gateway string, n uplink.Number, buffers []weir.Buffer, end func(error)) (uplink.Attachment, uplink.Offered, error) {
			return owner.Attach(ctx, gateway, n, buffers, end)
		},
	})
}
