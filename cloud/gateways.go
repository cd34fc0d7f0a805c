package cloud

import (
	"context"
	"time"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/fleet"
	"github.com/weirmq/weir/cloud/measure"
	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/receiver"
	"github.com/weirmq/weir/sync/wire"
)

// contactPeriod is how often the owner checks what is new about the gateways: the log
// gets at most one entry each time.
const contactPeriod = time.Minute

// firstContacts is when it does so for the first time: most gateways have reconnected
// by then.
const firstContacts = 10 * time.Second

// watchGateways writes the last contact of each gateway to the log, until ctx ends.
func (n *Node) watchGateways(ctx context.Context, members *fleet.Fleet) {
	if n.receiver == nil {
		return
	}
	timer := time.NewTimer(firstContacts)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			timer.Reset(contactPeriod)
		}
		for _, g := range n.receiver.Gateways() {
			members.Heard(g.ID, contactOf(g))
		}
		if err := members.SaveContacts(ctx); err != nil && ctx.Err() == nil {
			n.o.Log.Warn("last contacts of gateways not written: another owner will not know them", "err", err)
		}
	}
}

// contactOf returns what the log stores of a session.
func contactOf(g receiver.Gateway) fleet.Contact {
	c := fleet.Contact{At: g.Heard.UnixMilli(), Address: g.Addr, Software: g.Software}
	if g.Depth != nil {
		c.Records, c.Bytes = g.Depth.Records, g.Depth.Bytes
		if g.Depth.Age > 0 {
			c.Oldest = g.Heard.Add(-milliseconds(g.Depth.Age)).Truncate(time.Second).UnixMilli()
		}
	}
	return c
}

// milliseconds converts a time that a gateway reports, which may be any number.
func milliseconds(n uint64) time.Duration {
	const most = 100 * 365 * 24 * time.Hour
	return time.Duration(min(n, uint64(most/time.Millisecond))) * time.Millisecond
}

// left records the state of a gateway when its session ended.
func (n *Node) left(g receiver.Gateway) {
	if members := n.fleet(); members != nil {
		members.Heard(g.ID, contactOf(g))
	}
}

// lostRecords records what a gateway has reported in weir.gaps.
func (n *Node) lostRecords(gateway string, records uint64) {
	if members := n.fleet(); members != nil {
		members.Lost(gateway, records)
	}
}

// refused stores what was refused to a gateway for good.
func (n *Node) refused(gateway string, r receiver.Refusal) {
	members := n.fleet()
	if members == nil {
		return
	}
	topic := r.Name
	if topic == "" {
		if topic = r.Topic.String(); n.broker != nil {
			if t, err := n.broker.TopicByID(r.Topic); err == nil {
				topic = t.Name
			}
		}
	}
	members.Refused(gateway, fleet.Refusal{Topic: topic, Reason: r.Reason.String(), Text: r.Text, Records: r.Records})
}

// gateways returns the gateways of the cluster. Errors: ErrNotOwner.
func (n *Node) gateways() ([]measure.Gateway, error) {
	members := n.fleet()
	if members == nil || !n.broker.IsController() {
		return nil, broker.ErrNotOwner
	}
	return measure.Gateways(members, n.sessions()), nil
}

// sessions are the gateways that are connected to this node.
func (n *Node) sessions() []measure.Session {
	if n.receiver == nil {
		return nil
	}
	var all []measure.Session
	for _, g := range n.receiver.Gateways() {
		s := measure.Session{Gateway: g.ID, Since: g.Since, Contact: contactOf(g)}
		for key, to := range map[wire.FigureKey]**uint64{wire.FigureDead: &s.DeadLetters, wire.FigureRefused: &s.RefusedMessages,
			wire.FigureQuota: &s.QuotaBytes, wire.FigureFree: &s.FreeBytes, wire.FigureBuffers: &s.Buffers} {
			if v, told := g.Status.Figure(key); told {
				*to = &v
			}
		}
		if v, told := g.Status.Figure(wire.FigureStarted); told {
			s.Started = time.UnixMilli(int64(min(v, 1<<53))).UTC()
		}
		for lane := range weir.Lane(weir.Lanes) {
			records, told := g.Status.Figure(wire.FigureRecords(lane))
			if !told {
				continue
			}
			l := measure.LaneStatus{Lane: lane.String(), Buffered: records}
			if at, is := g.Status.Figure(wire.FigureOldest(lane)); is {
				l.Oldest = time.UnixMilli(int64(min(at, 1<<53))).UTC()
			}
			s.Lanes = append(s.Lanes, l)
		}
		all = append(all, s)
	}
	return all
}
