package kafka

import (
	"context"
	"fmt"
	"runtime"

	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/weirmq/weir/cloud/stopwatch"
)

// api is one operation that the door serves. An operation that is not in the table is
// not advertised, and a request for it closes the connection, as in Kafka.
type api struct {
	key      kmsg.Key
	min, max int16
	limit    int // bytes of the largest request
	handle   handler
	flexible int16 // first version whose header has tagged fields
}

// handler performs a request. Each type makes its own messages: a switch over all of
// kmsg's types would be a twentieth of the binary.
type handler struct {
	fresh func() kmsg.Request

	// perform is nil for operations that are handled separately. An error closes the
	// connection; errors for the client are in the response.
	perform func(ctx context.Context, r *request, q kmsg.Request) (kmsg.Response, error)
}

// Requests are refused by length before they are allocated. When kmsg decodes, it
// allocates an array as long as the request says, up to one element for each byte
// that follows: about 100 times the size of a hostile request. So the limits are
// tight, few requests are decoded at a time (decoding), and Produce, the only large
// one, has its own decoder.
const (
	shortRequest = 64 << 10
	longRequest  = 1 << 20
)

// table lists what is served. Produce is advertised from version 0 although 0 to 2
// are refused: librdkafka up to 2.8 does not compress without them (KAFKA-18659).
// Likewise SaslHandshake 0, which is refused too: librdkafka does not log in without
// it.
func (s *Server) table() []api {
	apis := []api{
		{kmsg.Produce, 0, 13, s.o.MaxRequest, handler{fresh: func() kmsg.Request { return kmsg.NewPtrProduceRequest() }}, 0}, // see conn.produce
		{kmsg.Fetch, 4, 17, longRequest, typed(kmsg.NewPtrFetchRequest, s.fetch), 0},
		{kmsg.ListOffsets, 1, 10, longRequest, typed(kmsg.NewPtrListOffsetsRequest, s.listOffsets), 0},
		{kmsg.Metadata, 0, 13, longRequest, typed(kmsg.NewPtrMetadataRequest, s.metadata), 0},
		{kmsg.OffsetCommit, 2, 10, longRequest, typed(kmsg.NewPtrOffsetCommitRequest, s.offsetCommit), 0},
		{kmsg.OffsetFetch, 1, 10, longRequest, typed(kmsg.NewPtrOffsetFetchRequest, s.offsetFetch), 0},
		{kmsg.FindCoordinator, 0, 6, shortRequest, typed(kmsg.NewPtrFindCoordinatorRequest, s.findCoordinator), 0},
		{kmsg.JoinGroup, 0, 9, longRequest, typed(kmsg.NewPtrJoinGroupRequest, s.joinGroup), 0},
		{kmsg.Heartbeat, 0, 4, shortRequest, typed(kmsg.NewPtrHeartbeatRequest, s.heartbeat), 0},
		{kmsg.LeaveGroup, 0, 5, shortRequest, typed(kmsg.NewPtrLeaveGroupRequest, s.leaveGroup), 0},
		{kmsg.SyncGroup, 0, 5, longRequest, typed(kmsg.NewPtrSyncGroupRequest, s.syncGroup), 0},
		{kmsg.SASLHandshake, 0, 1, shortRequest, typed(kmsg.NewPtrSASLHandshakeRequest, s.saslHandshake), 0},
		{kmsg.ApiVersions, 0, 4, shortRequest, typed(kmsg.NewPtrApiVersionsRequest, s.apiVersions), 0},
		{kmsg.DescribeACLs, 1, 3, shortRequest, typed(kmsg.NewPtrDescribeACLsRequest, s.describeACLs), 0},
		{kmsg.CreateACLs, 1, 3, longRequest, typed(kmsg.NewPtrCreateACLsRequest, told(s, s.createACLs)), 0},
		{kmsg.DeleteACLs, 1, 3, longRequest, typed(kmsg.NewPtrDeleteACLsRequest, told(s, s.deleteACLs)), 0},
		{kmsg.DescribeClientQuotas, 0, 1, shortRequest, typed(kmsg.NewPtrDescribeClientQuotasRequest, s.describeQuotas), 0},
		{kmsg.AlterClientQuotas, 0, 1, longRequest, typed(kmsg.NewPtrAlterClientQuotasRequest, told(s, s.alterQuotas)), 0},
		{kmsg.DescribeUserSCRAMCredentials, 0, 0, longRequest, typed(kmsg.NewPtrDescribeUserSCRAMCredentialsRequest, s.describeUsers), 0},
		{kmsg.AlterUserSCRAMCredentials, 0, 0, longRequest, typed(kmsg.NewPtrAlterUserSCRAMCredentialsRequest, told(s, s.alterUsers)), 0},
		{kmsg.SASLAuthenticate, 0, 2, shortRequest, typed(kmsg.NewPtrSASLAuthenticateRequest, s.saslAuthenticate), 0},
		{kmsg.CreateTopics, 0, 7, longRequest, typed(kmsg.NewPtrCreateTopicsRequest, s.createTopics), 0},
		{kmsg.DeleteTopics, 0, 6, longRequest, typed(kmsg.NewPtrDeleteTopicsRequest, s.deleteTopics), 0},
		{kmsg.DeleteRecords, 0, 2, longRequest, typed(kmsg.NewPtrDeleteRecordsRequest, s.deleteRecords), 0},
		{kmsg.DescribeGroups, 0, 6, longRequest, typed(kmsg.NewPtrDescribeGroupsRequest, s.describeGroups), 0},
		{kmsg.ListGroups, 0, 5, shortRequest, typed(kmsg.NewPtrListGroupsRequest, s.listGroups), 0},
		{kmsg.OffsetForLeaderEpoch, 2, 4, longRequest, typed(kmsg.NewPtrOffsetForLeaderEpochRequest, s.offsetForLeaderEpoch), 0},
		{kmsg.DescribeConfigs, 1, 4, longRequest, typed(kmsg.NewPtrDescribeConfigsRequest, s.describeConfigs), 0},
		{kmsg.AlterConfigs, 0, 2, longRequest, typed(kmsg.NewPtrAlterConfigsRequest, s.alterConfigs), 0},
		{kmsg.DescribeLogDirs, 1, 4, longRequest, typed(kmsg.NewPtrDescribeLogDirsRequest, s.describeLogDirs), 0},
		{kmsg.CreatePartitions, 0, 3, longRequest, typed(kmsg.NewPtrCreatePartitionsRequest, s.createPartitions), 0},
		{kmsg.DeleteGroups, 0, 2, longRequest, typed(kmsg.NewPtrDeleteGroupsRequest, s.deleteGroups), 0},
		{kmsg.ElectLeaders, 0, 2, longRequest, typed(kmsg.NewPtrElectLeadersRequest, s.electLeaders), 0},
		{kmsg.IncrementalAlterConfigs, 0, 1, longRequest, typed(kmsg.NewPtrIncrementalAlterConfigsRequest, s.incrementalAlterConfigs), 0},
		{kmsg.AlterPartitionAssignments, 0, 1, longRequest, typed(kmsg.NewPtrAlterPartitionAssignmentsRequest, s.alterPartitionReassignments), 0},
		{kmsg.ListPartitionReassignments, 0, 0, longRequest, typed(kmsg.NewPtrListPartitionReassignmentsRequest, s.listPartitionReassignments), 0},
		{kmsg.OffsetDelete, 0, 0, longRequest, typed(kmsg.NewPtrOffsetDeleteRequest, s.offsetDelete), 0},
		{kmsg.DescribeCluster, 0, 2, shortRequest, typed(kmsg.NewPtrDescribeClusterRequest, s.describeCluster), 0},
		{kmsg.ListConfigResources, 0, 1, shortRequest, typed(kmsg.NewPtrListConfigResourcesRequest, s.listConfigResources), 0},
		{kmsg.InitProducerID, 0, 5, shortRequest, typed(kmsg.NewPtrInitProducerIDRequest, s.initProducerID), 0},
		{kmsg.AddPartitionsToTxn, 0, 3, longRequest, typed(kmsg.NewPtrAddPartitionsToTxnRequest, s.addPartitionsToTxn), 0},
		{kmsg.AddOffsetsToTxn, 0, 4, shortRequest, typed(kmsg.NewPtrAddOffsetsToTxnRequest, s.addOffsetsToTxn), 0},
		{kmsg.EndTxn, 0, 5, shortRequest, typed(kmsg.NewPtrEndTxnRequest, s.endTxn), 0},
		{kmsg.TxnOffsetCommit, 0, 5, longRequest, typed(kmsg.NewPtrTxnOffsetCommitRequest, s.txnOffsetCommit), 0},
		{kmsg.DescribeProducers, 0, 0, longRequest, typed(kmsg.NewPtrDescribeProducersRequest, s.describeProducers), 0},
		{kmsg.DescribeTransactions, 0, 0, longRequest, typed(kmsg.NewPtrDescribeTransactionsRequest, s.describeTransactions), 0},
		{kmsg.ListTransactions, 0, 1, shortRequest, typed(kmsg.NewPtrListTransactionsRequest, s.listTransactions), 0},
		{kmsg.ConsumerGroupHeartbeat, 0, 1, longRequest, typed(kmsg.NewPtrConsumerGroupHeartbeatRequest, s.consumerGroupHeartbeat), 0},
		{kmsg.ConsumerGroupDescribe, 0, 1, longRequest, typed(kmsg.NewPtrConsumerGroupDescribeRequest, s.consumerGroupDescribe), 0},
		{kmsg.ShareGroupHeartbeat, 1, 1, longRequest, typed(kmsg.NewPtrShareGroupHeartbeatRequest, s.shareGroupHeartbeat), 0},
		{kmsg.ShareGroupDescribe, 1, 1, longRequest, typed(kmsg.NewPtrShareGroupDescribeRequest, s.shareGroupDescribe), 0},
		{kmsg.ShareFetch, 1, 2, longRequest, typed(kmsg.NewPtrShareFetchRequest, s.shareFetch), 0},
		{kmsg.ShareAcknowledge, 1, 2, longRequest, typed(kmsg.NewPtrShareAcknowledgeRequest, s.shareAcknowledge), 0},
		{kmsg.DescribeShareGroupOffsets, 0, 1, longRequest, typed(kmsg.NewPtrDescribeShareGroupOffsetsRequest, s.describeShareGroupOffsets), 0},
		{kmsg.AlterShareGroupOffsets, 0, 0, longRequest, typed(kmsg.NewPtrAlterShareGroupOffsetsRequest, s.alterShareGroupOffsets), 0},
		{kmsg.DeleteShareGroupOffsets, 0, 0, longRequest, typed(kmsg.NewPtrDeleteShareGroupOffsetsRequest, s.deleteShareGroupOffsets), 0},
	}
	for i := range apis {
		a := &apis[i]
		a.limit = min(a.limit, s.o.MaxRequest)
		q := a.handle.fresh()
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

// handle performs any request except Produce.
func (s *Server) handle(ctx context.Context, r *request) (kmsg.Response, error) {
	if r.version > r.api.max { // only ApiVersions: see readHead
		return s.tooNewApiVersions(r.api), nil
	}
	q := r.api.handle.fresh()
	q.SetVersion(r.version)
	if err := s.decodeInto(ctx, q, r.body); err != nil {
		return nil, fmt.Errorf("decode %s v%d: %w", r.api.key.Name(), r.version, err)
	}
	if resp, ok, err := r.relay(ctx, q); ok || err != nil {
		return resp, err
	}
	if resp, ok := r.forward(ctx, q); ok {
		return resp, nil
	}
	if len(r.body) <= shortRequest || r.api.waits() {
		r.release()
	}
	return r.api.handle.perform(ctx, r, q)
}

// typed returns a handler for a function of one request type.
func typed[Q kmsg.Request, R kmsg.Response](fresh func() Q, do func(context.Context, *request, Q) (R, error)) handler {
	return handler{func() kmsg.Request { return fresh() }, func(ctx context.Context, r *request, q kmsg.Request) (kmsg.Response, error) {
		return do(ctx, r, q.(Q))
	}}
}

// told returns a function that also waits, as all doors do after a change of users, ACLs or
// quotas, until the other nodes have applied it, or for as long as broker.Broker.Tell does. What
// was refused, and so has changed nothing, concerns no other node.
func told[Q, R any](s *Server, do func(context.Context, *request, Q) (R, error)) func(context.Context, *request, Q) (R, error) {
	return func(ctx context.Context, r *request, q Q) (R, error) {
		before, unknown := s.broker.CatalogueReached()
		resp, err := do(ctx, r, q)
		if after, lost := s.broker.CatalogueReached(); unknown != nil || lost != nil || before.Before(after) {
			s.broker.Tell(ctx)
		}
		return resp, err
	}
}

// waits reports whether the operation may wait for long, for records or for other
// clients. The memory of its request is released before that.
func (a *api) waits() bool {
	return a.key == kmsg.Fetch || a.key == kmsg.ShareFetch || a.key == kmsg.JoinGroup || a.key == kmsg.SyncGroup
}

func (s *Server) decodeInto(ctx context.Context, q kmsg.Request, body []byte) error {
	if turns := s.decode.of(len(body)); turns != nil {
		if err := turn(ctx, turns); err != nil {
			return err
		}
		defer func() { <-turns }()
	}
	if err := guarded(q.ReadFrom, body); err != nil {
		return violation{err}
	}
	return nil
}

// decoding bounds how many requests, other than Produce, are decoded at once: one
// token each.
type decoding struct {
	long  chan struct{} // one token: for requests larger than shortRequest
	short chan struct{} // for requests larger than smallFrame; smaller ones need no token
}

func newDecoding() decoding {
	return decoding{make(chan struct{}, 1), make(chan struct{}, 2*runtime.GOMAXPROCS(0))}
}

// of returns the tokens for a request of that size, nil if it needs none.
func (d decoding) of(size int) chan struct{} {
	switch {
	case size > shortRequest:
		return d.long
	case size > smallFrame:
		return d.short
	}
	return nil
}

// turn waits for room in a channel of tokens, and takes it.
func turn(ctx context.Context, tokens chan<- struct{}) error {
	defer stopwatch.Waiting(ctx)()
	select {
	case tokens <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// guarded runs a decoder that is not ours on bytes from clients, and recovers its
// panics.
func guarded(read func([]byte) error, p []byte) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("decoder: %v", p)
		}
	}()
	return read(p)
}
