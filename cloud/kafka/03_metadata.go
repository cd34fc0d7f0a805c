package kafka

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/broker"
)

// Metadata (key 3): brokers, topics and the leaders of partitions.
//
// Behaviour:
//   - The brokers are the nodes that serve something, and each partition has its
//     leader. The owner of the catalogue is the controller. Standbys are not listed,
//     since they would only redirect.
//   - A standby answers from its copy as the owner would, and names the owner.
//     Without a copy it knows no topics: it answers LEADER_NOT_AVAILABLE for those
//     named, and clients ask again.
//   - A topic that does not exist is created if the request allows it (before v4:
//     always) and the owner allows it. A standby asks the owner to create it.
//
// Versions:
//   - v0: an empty list of topics means all; from v1 null does, and empty none
//   - v8–10: authorized operations of the cluster; from v8 of topics
//   - v9: flexible
//   - v10: topic ids in the response, from v12 in requests
//   - v13: top-level error
func (s *Server) metadata(ctx context.Context, r *request, q *kmsg.MetadataRequest) (*kmsg.MetadataResponse, error) {
	resp := kmsg.NewPtrMetadataResponse()
	resp.Version = q.Version
	if id := s.broker.ClusterID(); id != "" {
		resp.ClusterID = &id
	}
	resp.AuthorizedOperations = r.operations(q.IncludeClusterAuthorizedOperations, kmsg.ACLResourceTypeCluster, clusterName)
	for _, n := range r.nodes() {
		b := kmsg.NewMetadataResponseBroker()
		b.NodeID, b.Host, b.Port = n.id, n.host, n.port
		resp.Brokers = append(resp.Brokers, b)
	}
	resp.ControllerID = r.controller()
	if q.Topics == nil || q.Version == 0 && len(q.Topics) == 0 {
		topics, err := s.broker.KnownTopics()
		if err != nil && !errors.Is(err, broker.ErrNotOwner) {
			resp.ErrorCode = code(err, leader)
		}
		for _, t := range topics {
			if r.may(kmsg.ACLOperationDescribe, kmsg.ACLResourceTypeTopic, t.Name) {
				resp.Topics = append(resp.Topics, s.describe(r, t, nil, q.IncludeTopicAuthorizedOperations))
			}
		}
		if t, ok := s.broker.KnownInternalTopic(); ok && r.mayCluster(kmsg.ACLOperationDescribe) == nil {
			resp.Topics = append(resp.Topics, s.describe(r, t, nil, q.IncludeTopicAuthorizedOperations))
		}
		return resp, nil
	}
	for _, want := range q.Topics {
		byID := want.Topic == nil
		name := ""
		if !byID {
			name = *want.Topic
		}
		t, err := s.named(ctx, r, name, want.TopicID, byID, q.Version < 4 || q.AllowAutoTopicCreation)
		if err != nil {
			t = broker.Topic{ID: want.TopicID, Name: name}
		}
		resp.Topics = append(resp.Topics, s.describe(r, t, err, q.IncludeTopicAuthorizedOperations))
	}
	return resp, nil
}

// named finds a topic that the client named, or creates it.
func (s *Server) named(ctx context.Context, r *request, name string, id [16]byte, byID, create bool) (broker.Topic, error) {
	find := r.known
	if create && !byID && r.standsBy() { // the owner will say whether the topic exists by now
		find = func(_ context.Context, op kmsg.ACLOperation, name string, id [16]byte, byID bool) (broker.Topic, error) {
			return r.inCopy(op, name, id, byID)
		}
	}
	t, err := find(ctx, kmsg.ACLOperationDescribe, name, id, byID)
	if errors.Is(err, broker.ErrUnknownTopic) {
		return s.create(ctx, r, name, err, create)
	}
	return t, err
}

// create creates a topic that the client named, or returns why it does not.
func (s *Server) create(ctx context.Context, r *request, name string, unknown error, allowed bool) (broker.Topic, error) {
	if err := checkName(name); err != nil {
		if broker.Reserved(name) {
			return broker.Topic{}, unknown
		}
		return broker.Topic{}, err
	}
	if !allowed || !s.broker.AutoCreate() && !r.standsBy() {
		return broker.Topic{}, unknown
	}
	if r.mayCluster(kmsg.ACLOperationCreate) != nil && !r.may(kmsg.ACLOperationCreate, kmsg.ACLResourceTypeTopic, name) {
		return broker.Topic{}, errTopicDenied
	}
	if r.standsBy() {
		return r.createThere(ctx, name)
	}
	t, err := s.broker.CreateTopic(ctx, name, none, nil)
	if errors.Is(err, broker.ErrTopicExists) { // another client was faster
		return s.broker.Topic(name)
	}
	return t, err
}

func (s *Server) describe(r *request, t broker.Topic, err error, operations bool) kmsg.MetadataResponseTopic {
	rt := kmsg.NewMetadataResponseTopic()
	rt.TopicID, rt.IsInternal = t.ID, broker.Internal(t.Name)
	if t.Name != "" || t.ID == [16]byte{} {
		rt.Topic = &t.Name
	}
	switch rt.ErrorCode = code(err, leader); rt.ErrorCode {
	case 0:
		rt.AuthorizedOperations = r.operations(operations, kmsg.ACLResourceTypeTopic, t.Name)
		if operations && t.ID == broker.OffsetsTopicID() {
			rt.AuthorizedOperations &= 1<<kmsg.ACLOperationRead | 1<<kmsg.ACLOperationDescribe | 1<<kmsg.ACLOperationDescribeConfigs
		}
	case kerr.NotLeaderForPartition.Code: // only of a partition
		rt.ErrorCode = kerr.LeaderNotAvailable.Code
	}
	for i := range t.Partitions {
		rp := kmsg.NewMetadataResponseTopicPartition()
		l, known := s.broker.Leader(t.ID, i)
		rp.Partition, rp.Leader, rp.LeaderEpoch = i, none, l.Epoch
		if n, ok := r.node(l, known); ok {
			rp.Leader, rp.Replicas, rp.ISR = n.id, []int32{n.id}, []int32{n.id}
		} else {
			rp.ErrorCode = kerr.LeaderNotAvailable.Code
		}
		rt.Partitions = append(rt.Partitions, rp)
	}
	return rt
}
