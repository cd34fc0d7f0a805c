package kafka

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/broker"
)

// CreateTopics (key 19): each topic is durable, or refused, by itself.
//
// Behaviour:
//   - Any replication factor of at least 1 (or -1) is accepted and answered with 1:
//     the bucket replicates. Of an explicit assignment only the number of partitions
//     counts.
//   - Partitions -1 means the broker's default. Unknown settings are refused, with
//     the nearest known name.
//   - validate_only makes all of these checks and creates nothing.
//   - If a request names a topic twice, both are refused. A name that differs from
//     that of another topic only in dots and underscores is INVALID_TOPIC_EXCEPTION.
//
// Versions:
//   - v1: validate_only, error messages; v5: flexible, the topic as it was created
//   - v7: topic ids

const (
	replicas      = 1 // number of replicas that clients see for each partition
	defaultNumber = -1
)

func (s *Server) createTopics(ctx context.Context, r *request, q *kmsg.CreateTopicsRequest) (*kmsg.CreateTopicsResponse, error) {
	ctx, cancel := within(ctx, q.TimeoutMillis)
	defer cancel()
	resp := kmsg.NewPtrCreateTopicsResponse()
	resp.Version = q.Version
	named := make(map[string]int, len(q.Topics))
	for _, t := range q.Topics {
		named[t.Topic]++
	}
	all := r.mayCluster(kmsg.ACLOperationCreate) == nil
	for i := range q.Topics {
		t := &q.Topics[i]
		err := refused(kerr.InvalidRequest, "topic %q is in the request twice", t.Topic)
		var made broker.Topic
		switch {
		case named[t.Topic] > 1:
		case !all && !r.may(kmsg.ACLOperationCreate, kmsg.ACLResourceTypeTopic, t.Topic):
			err = errTopicDenied
		default:
			made, err = s.createTopic(ctx, t, q.ValidateOnly)
			err = r.refusal(ctx, err)
		}
		rt := kmsg.NewCreateTopicsResponseTopic()
		rt.Topic = t.Topic
		rt.NumPartitions, rt.ReplicationFactor = none, none
		rt.ErrorCode, rt.ErrorMessage = code(err, controller), message(err)
		if err == nil {
			rt.TopicID = made.ID
			rt.NumPartitions, rt.ReplicationFactor = made.Partitions, replicas
			if rt.Configs = s.settings(made); !r.may(kmsg.ACLOperationDescribeConfigs, kmsg.ACLResourceTypeTopic, made.Name) {
				rt.NumPartitions, rt.ReplicationFactor, rt.Configs = none, none, nil
				rt.ConfigErrorCode = kerr.TopicAuthorizationFailed.Code
			}
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp, nil
}

func (s *Server) createTopic(ctx context.Context, t *kmsg.CreateTopicsRequestTopic, check bool) (broker.Topic, error) {
	if err := s.broker.Serving(); err != nil { // a standby checks nothing
		return broker.Topic{}, err
	}
	if err := checkName(t.Topic); err != nil {
		return broker.Topic{}, err
	}
	partitions, err := shape(t)
	if err != nil {
		return broker.Topic{}, err
	}
	configs := make(map[string]string, len(t.Configs))
	for _, c := range t.Configs {
		if c.Value == nil {
			return broker.Topic{}, refused(kerr.InvalidConfig, "setting %q has no value", c.Name)
		}
		configs[c.Name] = *c.Value
	}
	if !check {
		return s.broker.CreateTopic(ctx, t.Topic, partitions, configs)
	}
	switch _, err := s.broker.Topic(t.Topic); {
	case err == nil:
		return broker.Topic{}, broker.ErrTopicExists
	case !errors.Is(err, broker.ErrUnknownTopic):
		return broker.Topic{}, err
	}
	if err := s.broker.CheckName(t.Topic); err != nil {
		return broker.Topic{}, err
	}
	switch {
	case partitions == defaultNumber:
		partitions = s.broker.DefaultPartitions()
	case partitions > broker.MaxPartitions:
		return broker.Topic{}, refused(kerr.InvalidPartitions, "a topic can have up to %d partitions, not %d", broker.MaxPartitions, partitions)
	}
	return broker.Topic{Name: t.Topic, Partitions: partitions, Configs: configs}, broker.CheckConfigs(configs)
}

// shape returns the number of partitions that a request asks for.
func shape(t *kmsg.CreateTopicsRequestTopic) (int32, error) {
	if n := len(t.ReplicaAssignment); n > 0 {
		if t.NumPartitions != defaultNumber || t.ReplicationFactor != defaultNumber {
			return 0, refused(kerr.InvalidRequest, "an assignment of replicas excludes numbers of partitions and replicas")
		}
		given := make(map[int32]bool, n)
		for _, a := range t.ReplicaAssignment {
			if a.Partition < 0 || int(a.Partition) >= n || len(a.Replicas) == 0 || given[a.Partition] {
				return 0, refused(kerr.InvalidReplicaAssignment, "partitions must be 0 to %d, once each and with replicas", n-1)
			}
			given[a.Partition] = true
		}
		return int32(n), nil
	}
	if t.ReplicationFactor == 0 || t.ReplicationFactor < defaultNumber {
		return 0, refused(kerr.InvalidReplicationFactor, "replication factor %d is not positive", t.ReplicationFactor)
	}
	if t.NumPartitions == 0 || t.NumPartitions < defaultNumber {
		return 0, refused(kerr.InvalidPartitions, "%d partitions are none", t.NumPartitions)
	}
	return t.NumPartitions, nil
}

// settings lists all settings of a topic, its own and the defaults.
func (s *Server) settings(t broker.Topic) []kmsg.CreateTopicsResponseTopicConfig {
	all := s.topicConfigs(t)
	list := make([]kmsg.CreateTopicsResponseTopicConfig, 0, len(all))
	for i := range all {
		c := kmsg.NewCreateTopicsResponseTopicConfig()
		c.Name, c.Value, c.Source = all[i].Name, &all[i].value, int8(all[i].source)
		list = append(list, c)
	}
	return list
}
