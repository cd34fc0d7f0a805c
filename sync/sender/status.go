package sender

import (
	"slices"
	"time"

	"github.com/weirmq/weir/sync/wire"
)

// statusInterval is how long a gateway says nothing new of itself: each word costs
// bytes on a link that may be metered.
const statusInterval = time.Minute

// report tells the cloud how far behind the gateway is, which is also a sign of life,
// and now and then how it is besides. keep calls it.
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
