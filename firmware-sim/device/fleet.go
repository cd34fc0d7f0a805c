package device

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
)

// Fleet describes many devices. They differ by id and seed, and take turns in the values of the
// lists.
type Fleet struct {
	Devices  int
	Prefix   string // ids are Prefix-0001, Prefix-0002 …
	Seed     uint64
	Brokers  []string // host:port; devices take turns
	Topic    string   // {device} is replaced by the id
	QoS      []byte
	Versions []byte
	Config   // what all devices have in common; ID, Index, Seed, Broker, Topic, QoS and Version are set per device
}

// Stats counts what a fleet has done so far.
type Stats struct {
	Sent, Acked, Resent, Refused, Unfinished, Faults atomic.Int64
}

// ID returns the id of the i-th device, counted from 0.
func (f Fleet) ID(i int) string { return fmt.Sprintf("%s-%04d", f.Prefix, i+1) }

// Run runs all devices until each has sent its count, or ctx ends. Event is
// called by many goroutines, one call at a time per device.
func (f Fleet) Run(ctx context.Context, stats *Stats) {
	var wg sync.WaitGroup
	for i := range f.Devices {
		c := f.Config
		c.ID, c.Index, c.Seed = f.ID(i), i, f.Seed
		c.Broker = f.Brokers[i%len(f.Brokers)]
		c.Topic = strings.ReplaceAll(f.Topic, "{device}", c.ID)
		c.QoS = f.QoS[i%len(f.QoS)]
		c.Version = f.Versions[i/len(f.QoS)%len(f.Versions)] // every version at every QoS
		c.Event = func(r Reading, o Outcome) {
			stats.count(r, o)
			if f.Event != nil {
				f.Event(r, o)
			}
		}
		c.Fault = func(err error) {
			stats.Faults.Add(1)
			if f.Fault != nil {
				f.Fault(fmt.Errorf("%s: %w", c.ID, err))
			}
		}
		wg.Go(func() { Run(ctx, c) })
	}
	wg.Wait()
}

func (s *Stats) count(r Reading, o Outcome) {
	switch o {
	case Sent:
		s.Sent.Add(1)
		return
	case Acked:
		s.Acked.Add(1)
	case Refused:
		s.Refused.Add(1)
	case Unfinished:
		s.Unfinished.Add(1)
	}
	s.Resent.Add(int64(r.Sends - 1))
}
