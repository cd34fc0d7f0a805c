package cloud

import (
	"context"
	"io"
	"time"

	"github.com/weirmq/weir/cloud/cluster"
)

// doorPatience is how long a door of this node may be silent before the node counts as
// hung. If another node stands by, this one has stopped leading long before.
const doorPatience = 2 * time.Minute

// pulse is the state that Alive keeps between calls. Calls do not overlap.
type pulse struct {
	silent time.Time // since when a door has been silent; zero if none is
}

// Alive returns nil if this node works, whatever the state of its bucket. It reads the
// figures of every part, so it does not return while one of them holds its lock. Then
// it connects to the doors, like a client on this machine. The context bounds that.
func (n *Node) Alive(ctx context.Context) error {
	n.metrics.WritePrometheus(io.Discard)
	err := cluster.AskDoors(ctx, n.doorTime(), n.own)
	switch {
	case err == nil:
		n.pulse.silent = time.Time{}
	case n.pulse.silent.IsZero():
		n.pulse.silent = time.Now()
	case time.Since(n.pulse.silent) > doorPatience:
		return err
	}
	return nil
}
