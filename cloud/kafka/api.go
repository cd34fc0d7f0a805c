package kafka

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/quota"
)

// api is one operation that the door serves. What is not in the table is not
// advertised, and a request for it closes the connection, as in Kafka.
type api struct {
	key      kmsg.Key
	min, max int16
	limit    int // bytes of the largest request
	handle   handler
	flexible int16 // first version whose header has tagged fields
}

// handler performs a request. An error closes the connection: all that a client
// can be told is in the response.
type handler func(ctx context.Context, r *request) (response, error)

// response is a message to the client: of kmsg, or a Fetch's.
type response interface {
	AppendTo(dst []byte) []byte
	IsFlexible() bool
}

// Requests are refused by length before they are allocated. Beyond that, kmsg
// allocates an array as long as the request says, up to one element for each byte
// that follows: about 100 times the size of a hostile request. So the limits are
// tight, those of long lists are decoded one at a time (Server.decode), and the
// one that is really large, Produce, has its own decoder.
const (
	shortRequest = 64 << 10
	longRequest  = 1 << 20
)

// table lists what is served. Produce is advertised from version 0 although 0 to
// 2 are refused: librdkafka up to 2.8 will not compress when it does not see them
// (KAFKA-18659). Likewise SaslHandshake: no librdkafka will log in when it does not
// see 0, which is refused.
func (s *Server) table() []api {
	apis := []api{
		{kmsg.Produce, 0, 13, s.o.MaxRequest, nil, 0}, // handled apart: conn.produce
		{kmsg.Fetch, 4, 17, longRequest, typed(s, s.fetch), 0},
		{kmsg.ListOffsets, 1, 10, longRequest, typed(s, s.listOffsets), 0},
		{kmsg.Metadata, 0, 13, longRequest, typed(s, s.metadata), 0},
		{kmsg.OffsetCommit, 2, 10, longRequest, typed(s, s.offsetCommit), 0},
		{kmsg.OffsetFetch, 1, 10, longRequest, typed(s, s.offsetFetch), 0},
		{kmsg.FindCoordinator, 0, 6, shortRequest, typed(s, s.findCoordinator), 0},
		{kmsg.JoinGroup, 0, 9, longRequest, typed(s, s.joinGroup), 0},
		{kmsg.Heartbeat, 0, 4, shortRequest, typed(s, s.heartbeat), 0},
		{kmsg.LeaveGroup, 0, 5, shortRequest, typed(s, s.leaveGroup), 0},
		{kmsg.SyncGroup, 0, 5, longRequest, typed(s, s.syncGroup), 0},
		{kmsg.SASLHandshake, 0, 1, shortRequest, typed(s, s.saslHandshake), 0},
		{kmsg.ApiVersions, 0, 4, shortRequest, typed(s, s.apiVersions), 0},
		{kmsg.DescribeACLs, 1, 3, shortRequest, typed(s, s.describeACLs), 0},
		{kmsg.CreateACLs, 1, 3, longRequest, typed(s, s.createACLs), 0},
		{kmsg.DeleteACLs, 1, 3, longRequest, typed(s, s.deleteACLs), 0},
		{kmsg.DescribeClientQuotas, 0, 1, shortRequest, typed(s, s.describeQuotas), 0},
		{kmsg.AlterClientQuotas, 0, 1, longRequest, typed(s, s.alterQuotas), 0},
		{kmsg.DescribeUserSCRAMCredentials, 0, 0, longRequest, typed(s, s.describeUsers), 0},
		{kmsg.AlterUserSCRAMCredentials, 0, 0, longRequest, typed(s, s.alterUsers), 0},
		{kmsg.SASLAuthenticate, 0, 2, shortRequest, typed(s, s.saslAuthenticate), 0},
		{kmsg.CreateTopics, 0, 7, longRequest, typed(s, s.createTopics), 0},
		{kmsg.DeleteTopics, 0, 6, longRequest, typed(s, s.deleteTopics), 0},
		{kmsg.DeleteRecords, 0, 2, longRequest, typed(s, s.deleteRecords), 0},
		{kmsg.DescribeGroups, 0, 6, longRequest, typed(s, s.describeGroups), 0},
		{kmsg.ListGroups, 0, 5, shortRequest, typed(s, s.listGroups), 0},
		{kmsg.OffsetForLeaderEpoch, 2, 4, longRequest, typed(s, s.offsetForLeaderEpoch), 0},
		{kmsg.DescribeConfigs, 1, 4, longRequest, typed(s, s.describeConfigs), 0},
		{kmsg.AlterConfigs, 0, 2, longRequest, typed(s, s.alterConfigs), 0},
		{kmsg.DescribeLogDirs, 1, 4, longRequest, typed(s, s.describeLogDirs), 0},
		{kmsg.CreatePartitions, 0, 3, longRequest, typed(s, s.createPartitions), 0},
		{kmsg.DeleteGroups, 0, 2, longRequest, typed(s, s.deleteGroups), 0},
		{kmsg.ElectLeaders, 0, 2, longRequest, typed(s, s.electLeaders), 0},
		{kmsg.IncrementalAlterConfigs, 0, 1, longRequest, typed(s, s.incrementalAlterConfigs), 0},
		{kmsg.AlterPartitionAssignments, 0, 1, longRequest, typed(s, s.alterPartitionReassignments), 0},
		{kmsg.ListPartitionReassignments, 0, 0, longRequest, typed(s, s.listPartitionReassignments), 0},
		{kmsg.OffsetDelete, 0, 0, longRequest, typed(s, s.offsetDelete), 0},
		{kmsg.DescribeCluster, 0, 2, shortRequest, typed(s, s.describeCluster), 0},
		{kmsg.ListConfigResources, 0, 1, shortRequest, typed(s, s.listConfigResources), 0},
		{kmsg.InitProducerID, 0, 5, shortRequest, typed(s, s.initProducerID), 0},
		{kmsg.AddPartitionsToTxn, 0, 3, longRequest, typed(s, s.addPartitionsToTxn), 0},
		{kmsg.AddOffsetsToTxn, 0, 4, shortRequest, typed(s, s.addOffsetsToTxn), 0},
		{kmsg.EndTxn, 0, 5, shortRequest, typed(s, s.endTxn), 0},
		{kmsg.TxnOffsetCommit, 0, 5, longRequest, typed(s, s.txnOffsetCommit), 0},
		{kmsg.DescribeProducers, 0, 0, longRequest, typed(s, s.describeProducers), 0},
		{kmsg.DescribeTransactions, 0, 0, longRequest, typed(s, s.describeTransactions), 0},
		{kmsg.ListTransactions, 0, 1, shortRequest, typed(s, s.listTransactions), 0},
		{kmsg.ConsumerGroupHeartbeat, 0, 1, longRequest, typed(s, s.consumerGroupHeartbeat), 0},
		{kmsg.ConsumerGroupDescribe, 0, 1, longRequest, typed(s, s.consumerGroupDescribe), 0},
	}
	for i := range apis {
		a := &apis[i]
		a.limit = min(a.limit, s.o.MaxRequest)
		q := a.key.Request()
		for a.flexible = a.min; a.flexible <= a.max; a.flexible++ {
			if q.SetVersion(a.flexible); q.IsFlexible() {
				break
			}
		}
	}
	return apis
}

func (s *Server) api(key int16) *api {
	for i := range s.apis {
		if s.apis[i].key.Int16() == key {
			return &s.apis[i]
		}
	}
	return nil
}

// handle performs a request that is no Produce.
func (s *Server) handle(ctx context.Context, r *request) (response, error) {
	if r.version > r.api.max { // readHead lets only ApiVersions through
		return s.tooNewApiVersions(r.api), nil
	}
	return r.api.handle(ctx, r)
}

// typed makes a handler of a typed function: it decodes the request first.
func typed[Q kmsg.Request, R response](s *Server, do func(context.Context, *request, Q) (R, error)) handler {
	return func(ctx context.Context, r *request) (response, error) {
		q := r.api.key.Request().(Q)
		q.SetVersion(r.version)
		if err := s.decodeInto(ctx, q, r.body); err != nil {
			return nil, fmt.Errorf("decode %s v%d: %w", r.api.key.Name(), r.version, err)
		}
		r.release() // what waits for long (Fetch, JoinGroup) must not keep others from being read
		return do(ctx, r, q)
	}
}

func (s *Server) decodeInto(ctx context.Context, q kmsg.Request, body []byte) error {
	if len(body) > shortRequest {
		if err := turn(ctx, s.decode); err != nil {
			return err
		}
		defer func() { <-s.decode }()
	}
	if err := guarded(q.ReadFrom, body); err != nil {
		return violation{err}
	}
	return nil
}

// turn waits for room in a channel of tokens, and takes it.
func turn(ctx context.Context, tokens chan<- struct{}) error {
	defer quota.Waiting(ctx)()
	select {
	case tokens <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// guarded decodes bytes from strangers with a decoder that is not ours.
func guarded(read func([]byte) error, p []byte) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("decoder: %v", p)
		}
	}()
	return read(p)
}
