package sender

import (
	"slices"
	"time"

	"github.com/weirmq/weir/sync/wire"
)

// statusInterval is the least time between two Status frames: their bytes cost money on
// a metered link.
const statusInterval = time.Minute

// report sends a Ping, which tells the cloud how far behind the gateway is, and from
// time to time a Status. keepAlive calls it.
func (n *session) report() error {
	p := wire.Ping{}
	if n.s.o.Depth != nil {
		p = n.s.o.Depth()
	}
	if err := n.send(&p); err != nil {
		return err
	}
	if n.s.o.Status == nil || n.features&wire.FeatureStatus == 0 || time.Since(n.toldAt) < statusInterval {
		return nil
	}
	figures := n.s.o.Status()
	if slices.Equal(figures, n.told) {
		return nil
	}
	n.told, n.toldAt = figures, time.Now()
	return n.send(&wire.Status{Figures: figures})
}

// offeredFeatures are the features that this gateway can use.
func (s *Sender) offeredFeatures() uint64 {
	if s.o.Status == nil {
		return 0
	}
	return wire.FeatureStatus
}
