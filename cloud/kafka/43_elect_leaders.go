package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/broker"
)

// ElectLeaders (key 43): there is nothing to elect; the owner of the shard leads its
// partitions.
//
// Behaviour:
//   - Partitions that are named are answered with ELECTION_NOT_NEEDED. A request
//     without names, which means all, gets no partitions in the answer.
//
// Versions:
//   - v1: top-level error, type of election; v2: flexible
func (s *Server) electLeaders(_ context.Context, r *request, q *kmsg.ElectLeadersRequest) (*kmsg.ElectLeadersResponse, error) {
	resp := kmsg.NewPtrElectLeadersResponse()
	resp.Version = q.Version
	refusal := r.mayCluster(kmsg.ACLOperationAlter)
	if refusal == nil {
		refusal = s.broker.Serving() // a standby checks nothing
	}
	if refusal == nil && q.ElectionType != preferredElection && q.ElectionType != uncleanElection {
		refusal = refused(kerr.InvalidRequest, "elections of type %d are not known", q.ElectionType)
	}
	resp.ErrorCode = code(refusal, controller)
	for _, t := range q.Topics {
		rt := kmsg.NewElectLeadersResponseTopic()
		rt.Topic = t.Topic
		topic, missing := s.find(t.Topic, [16]byte{}, false)
		for _, p := range t.Partitions {
			err := refusal
			if err == nil {
				err = exists(topic, missing, p)
			}
			if err == nil {
				err = refused(kerr.ElectionNotNeeded, "the owner of the shard leads all partitions")
			}
			rp := kmsg.NewElectLeadersResponseTopicPartition()
			rp.Partition, rp.ErrorCode, rp.ErrorMessage = p, code(err, controller), message(err)
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp, nil
}

// Types of elections (KIP-460).
const (
	preferredElection = 0
	uncleanElection   = 1
)

// exists returns nil, or the error for a partition that does not exist. missing is
// the error of its topic.
func exists(topic broker.Topic, missing error, partition int32) error {
	if missing == nil && (partition < 0 || partition >= topic.Partitions) {
		return broker.ErrUnknownTopic
	}
	return missing
}
