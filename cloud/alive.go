package cloud

import (
	"context"
	"io"
	"time"

	"github.com/weirmq/weir/cloud/cluster"
)

// doorPatience is how long a door of this node may be silent before the node is taken
// for one that hangs. Where another node stands by, this one has stopped leading long
// before.
const doorPatience = 2 * time.Minute

// pulse is what Alive remembers from one call to the next. Calls do not overlap.
type pulse struct {
	silent time.Time // since when a door has been silent; zero: none is
}

// Alive returns nil if this node is at work, whatever its bucket does. It asks every part
// for its figures, and so does not return while one of them holds its lock; then it asks
// the doors, as a client on this machine would. The context bounds that.
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
