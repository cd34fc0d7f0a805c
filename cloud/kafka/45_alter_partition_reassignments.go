package kafka

import (
	"context"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// AlterPartitionReassignments (key 45): refused. Partitions are in the bucket, and
// the owner of the shard serves them.
//
// Behaviour:
//   - Replicas that do not change are accepted; others are
//     INVALID_REPLICA_ASSIGNMENT, with a text.
//   - No reassignment is under way, so none can be cancelled:
//     NO_REASSIGNMENT_IN_PROGRESS.
//
// Versions:
//   - v1: whether the number of replicas may change
func (s *Server) alterPartitionReassignments(_ context.Context, r *request, q *kmsg.AlterPartitionAssignmentsRequest) (*kmsg.AlterPartitionAssignmentsResponse, error) {
	resp := kmsg.NewPtrAlterPartitionAssignmentsResponse()
	resp.Version = q.Version
	err := r.mayCluster(kmsg.ACLOperationAlter)
	if err == nil {
		err = s.broker.Serving() // a standby checks nothing
	}
	if resp.ErrorCode, resp.ErrorMessage = code(err, controller), message(err); err != nil {
		return resp, nil
	}
	self := s.broker.Self().ID
	for _, t := range q.Topics {
		rt := kmsg.NewAlterPartitionAssignmentsResponseTopic()
		rt.Topic = t.Topic
		topic, missing := s.find(t.Topic, [16]byte{}, false)
		for _, p := range t.Partitions {
			err := exists(topic, missing, p.Partition)
			switch {
			case err != nil:
			case p.Replicas == nil:
				err = refused(kerr.NoReassignmentInProgress, "partition %d of topic %q is not being reassigned", p.Partition, t.Topic)
			case !slices.Equal(p.Replicas, []int32{self}):
				err = refused(kerr.InvalidReplicaAssignment, "the bucket replicates: each partition has one replica, at broker %d, which owns the shard", self)
			}
			rp := kmsg.NewAlterPartitionAssignmentsResponseTopicPartition()
			rp.Partition, rp.ErrorCode, rp.ErrorMessage = p.Partition, code(err, controller), message(err)
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp, nil
}
