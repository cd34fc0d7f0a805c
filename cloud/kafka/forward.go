package kafka

import (
	"context"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/broker"
)

// Requests about the catalogue are for its owner. In a cluster of several shards all nodes
// are listed, and clients send some of these requests to any of them, as Kafka's brokers
// pass them on (KIP-590). A node that does not own the catalogue passes them on as they
// came, with the name of the client: the owner decides what that one may do.

// controlled lists the operations that only the owner of the catalogue performs.
func controlled() []kmsg.Key {
	return []kmsg.Key{kmsg.CreateTopics, kmsg.DeleteTopics, kmsg.CreatePartitions, kmsg.ElectLeaders,
		kmsg.AlterConfigs, kmsg.IncrementalAlterConfigs, kmsg.AlterPartitionAssignments, kmsg.ListPartitionReassignments,
		kmsg.DescribeACLs, kmsg.CreateACLs, kmsg.DeleteACLs, kmsg.DescribeClientQuotas, kmsg.AlterClientQuotas,
		kmsg.DescribeUserSCRAMCredentials, kmsg.AlterUserSCRAMCredentials}
}

// forController reports whether only the owner of the catalogue performs an operation.
func forController(key kmsg.Key) bool { return slices.Contains(controlled(), key) }

// forward passes a request on to the owner of the catalogue. It reports whether there is
// an answer; if not, this node performs the request, and so names the owner. Then it is
// not known whether the owner has performed it too, which the client repeats there.
func (r *request) forward(ctx context.Context, q kmsg.Request) (resp kmsg.Response, ok bool) {
	s := r.conn.s
	if !forController(r.api.key) || !r.standsBy() || !s.broker.Several() || s.o.Owner.Perform == nil {
		return nil, false
	}
	var answer []byte
	var err error
	judged := r.aside(ctx, func(ctx context.Context) {
		answer, err = s.o.Owner.Perform(ctx, r.conn.who(), r.api.key.Int16(), r.version, r.clientID, r.body)
	})
	if err != nil || judged != nil {
		return nil, false
	}
	resp = q.ResponseKind()
	resp.SetVersion(r.version)
	if guarded(resp.ReadFrom, answer) != nil {
		return nil, false
	}
	return resp, true
}

// Perform performs a request for a client of another node, if it is one of those that are
// forwarded. It returns the body of the response. Errors: broker.ErrNotOwner; any other
// means that the request cannot be performed here.
func (s *Server) Perform(ctx context.Context, who auth.Who, key, version int16, client string, body []byte) ([]byte, error) {
	a := s.api(key)
	if a == nil || !forController(a.key) || version < a.min || version > a.max || len(body) > a.limit {
		return nil, fmt.Errorf("%w: api key %d version %d is not forwarded", broker.ErrUnsupported, key, version)
	}
	s.broker.AwaitSure(ctx)
	r, err := s.behalf(a.key, who)
	if err != nil {
		return nil, err
	}
	defer r.rights.Settle()
	r.version, r.clientID = version, client
	q := a.handle.fresh()
	q.SetVersion(version)
	if err := s.decodeInto(ctx, q, body); err != nil {
		return nil, fmt.Errorf("decode %s v%d: %w", a.key.Name(), version, err)
	}
	resp, err := a.handle.perform(ctx, r, q)
	if err != nil {
		return nil, err
	}
	return resp.AppendTo(nil), nil
}
