package kafka

import (
	"context"
	"errors"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/group"
)

// OffsetDelete (key 47): removes offsets that a group has committed (KIP-496).
//
// Behaviour:
//   - Offsets of a topic that a member subscribes to stay: GROUP_SUBSCRIBED_TO_TOPIC.
//   - Subscriptions are known only of classic groups of type consumer whose members
//     send valid ones, and of groups of the newer protocol, whose members subscribe
//     by name and by regular expression. Other groups must be empty.
//   - Unknown topics and partitions get error 3; the others are performed. Removing
//     an offset that does not exist succeeds.
//   - Durable when it is answered.
//
// Versions:
//   - v0 only
func (s *Server) offsetDelete(ctx context.Context, r *request, q *kmsg.OffsetDeleteRequest) (*kmsg.OffsetDeleteResponse, error) {
	resp := kmsg.NewPtrOffsetDeleteResponse()
	resp.Version = q.Version
	read, all, err := s.mayForget(r, q.Group)
	if resp.ErrorCode = code(err, coordinator); err != nil {
		return resp, nil
	}
	var going []group.Partition
	var codes []*int16 // of going, into resp
	for _, t := range q.Topics {
		rt := kmsg.NewOffsetDeleteResponseTopic()
		rt.Topic = t.Topic
		rt.Partitions = make([]kmsg.OffsetDeleteResponseTopicPartition, len(t.Partitions))
		topic, refusal := r.topic(kmsg.ACLOperationRead, t.Topic, [16]byte{}, false)
		if refusal == nil && (all || read[t.Topic]) {
			refusal = errSubscribed
		}
		for i, p := range t.Partitions {
			rp := &rt.Partitions[i]
			rp.Partition = p.Partition
			err := refusal
			if (err == nil || err == errSubscribed) && (p.Partition < 0 || p.Partition >= topic.Partitions) {
				err = broker.ErrUnknownTopic
			}
			if rp.ErrorCode = code(err, coordinator); err == nil {
				going = append(going, group.Partition{Topic: topic.ID, Index: p.Partition})
				codes = append(codes, &rp.ErrorCode)
			}
		}
		resp.Topics = append(resp.Topics, rt)
	}
	if len(going) == 0 {
		return resp, nil
	}
	err = s.forget(ctx, q.Group, going)
	for _, c := range codes {
		*c = code(err, coordinator)
	}
	return resp, nil
}

// mayForget returns the topics of which a group's offsets are in use, or all if they
// cannot be told apart.
func (s *Server) mayForget(r *request, name string) (read map[string]bool, all bool, err error) {
	if err := r.mayGroup(kmsg.ACLOperationDelete, name); err != nil {
		return nil, false, err
	}
	groups, err := s.broker.Groups(name)
	if err != nil {
		return nil, false, err
	}
	if c, err := groups.DescribeConsumer(name); err == nil {
		return consumed(c), false, nil
	} else if !errors.Is(err, group.ErrUnknownGroup) {
		return nil, false, err
	}
	d, err := groups.Describe(name)
	if err != nil {
		return nil, false, err
	}
	if err := alive(d); err != nil {
		return nil, false, err
	}
	read, known := subscriptions(d)
	return read, !known, nil
}

// consumed returns the topics that the members of a consumer group read.
func consumed(d group.ConsumerDescription) map[string]bool {
	topics := make(map[string]bool)
	for _, m := range d.Details {
		for _, t := range slices.Concat(m.Topics, m.Reads) {
			topics[t] = true
		}
	}
	return topics
}

func (s *Server) forget(ctx context.Context, name string, of []group.Partition) error {
	groups, err := s.broker.Groups(name)
	if err != nil {
		return err
	}
	return groups.DeleteOffsets(ctx, name, of)
}
