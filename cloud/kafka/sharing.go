package kafka

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/share"
	"github.com/weirmq/weir/cloud/stopwatch"
)

// What ShareFetch and ShareAcknowledge have in common: share sessions (KIP-932), and
// acknowledgements.

// maxShareSessions is how many share sessions a node keeps, as in Kafka.
const maxShareSessions = 2_000

// Epochs of share sessions that are not those of a session's next request.
const (
	openShare  = 0
	closeShare = -1
)

// errAcknowledgeFirst refuses acknowledgements in a session that has acquired nothing.
var errAcknowledgeFirst = errors.New("the request that opens a share session cannot acknowledge records")

// shareSession returns the session of a request. The connection keeps it, and ends it.
func (r *request) shareSession(group, member string, epoch int32) (*share.Session, error) {
	if err := r.mayGroup(kmsg.ACLOperationRead, group); err != nil {
		return nil, err
	}
	if group == "" || member == "" {
		return nil, refused(kerr.InvalidRequest, "no group id or no member id")
	}
	c := r.conn
	key := [2]string{group, member}
	if epoch == openShare {
		x, err := c.s.shares.Open(group, member)
		if err != nil {
			return nil, err
		}
		if c.shares == nil {
			c.shares = make(map[[2]string]*share.Session)
		}
		c.shares[key] = x
		return x, nil
	}
	x := c.shares[key]
	if x == nil {
		return nil, share.ErrNoSession
	}
	return x, x.Check(epoch)
}

// leaveShare ends a session, and what its member has acquired.
func (c *conn) leaveShare(ctx context.Context, x *share.Session) error {
	delete(c.shares, [2]string{x.Group, x.Member})
	if !x.Close() {
		return nil
	}
	defer stopwatch.Waiting(ctx)()
	return c.s.broker.LeaveShares(ctx, x.Group, x.Member)
}

// leaveShares ends the sessions of a connection that has ended.
func (c *conn) leaveShares() {
	for _, x := range c.shares {
		if err := c.leaveShare(c.s.ctx, x); err != nil && c.s.ctx.Err() == nil && !errors.Is(err, broker.ErrNotOwner) {
			c.warn("records of a share group stay acquired until their time is over", "err", err)
		}
	}
}

// acknowledging is the acknowledgements of one request, on their way to the log.
type acknowledging struct {
	order   []share.Place
	results map[share.Place]chan error
}

// acknowledge begins to acknowledge records of a partition. renews: the request may
// renew leases.
func (a *acknowledging) acknowledge(r *request, at share.Place, member string, all []share.Acknowledgement, renews bool) {
	if len(all) == 0 {
		return
	}
	if a.results == nil {
		a.results = make(map[share.Place]chan error)
	}
	if a.results[at] != nil {
		return // the partition is named twice: the first counts
	}
	result := make(chan error, 1)
	a.order, a.results[at] = append(a.order, at), result
	if _, err := r.topic(kmsg.ACLOperationRead, "", at.Topic, true); err != nil {
		result <- err
		return
	}
	for _, x := range all {
		for _, v := range x.Verdicts {
			if v == share.Renew && !renews {
				result <- refused(kerr.InvalidRequest, "the request does not say that it renews acquisition locks")
				return
			}
		}
	}
	r.conn.s.broker.Acknowledge(at, member, all, func(err error) { result <- err })
}

// wait waits for all results, which are durable then.
func (a *acknowledging) wait(ctx context.Context) (map[share.Place]error, error) {
	defer stopwatch.Waiting(ctx)()
	all := make(map[share.Place]error, len(a.order))
	for _, at := range a.order {
		select {
		case err := <-a.results[at]:
			all[at] = err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return all, nil
}

// acknowledgement converts what a client says of a row of records.
func acknowledgement(first, last int64, types []int8) share.Acknowledgement {
	a := share.Acknowledgement{First: first, Last: last, Verdicts: make([]share.Verdict, len(types))}
	for i, t := range types {
		a.Verdicts[i] = share.Verdict(t)
	}
	return a
}
