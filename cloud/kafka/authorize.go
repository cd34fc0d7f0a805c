package kafka

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/broker"
)

// Each operation needs the same rights as in Kafka, and a client without them gets
// Kafka's error code.

// clusterName is the name of the one cluster resource (Kafka's).
const clusterName = auth.Cluster

// onlyDirects reports whether an operation only tells the client where the owner is,
// or authenticates it. When ACLs are required, a standby without a copy of them
// serves nothing else, so that nothing is done without ACLs while it becomes the
// owner.
func onlyDirects(key kmsg.Key) bool {
	return forAll(key) || key == kmsg.Metadata || key == kmsg.FindCoordinator
}

// forAll reports whether an operation needs no right.
func forAll(key kmsg.Key) bool {
	switch key {
	case kmsg.ApiVersions, kmsg.SASLHandshake, kmsg.SASLAuthenticate, kmsg.DescribeCluster:
		return true
	}
	return false
}

// judge finds the ACLs that apply to the request until its rights are settled.
func (r *request) judge() error {
	c := r.conn
	if c.s.access.Judge(&r.rights, func(error) { c.cancel(errGone) }) || onlyDirects(r.api.key) {
		return nil
	}
	return fmt.Errorf("%s before this node knows what its clients may: %w", r.api.key.Name(), broker.ErrNotOwner)
}

// may reports whether the client may do op to a resource: a topic, a group, a
// transactional id by its name, or the cluster by clusterName.
func (r *request) may(op kmsg.ACLOperation, typ kmsg.ACLResourceType, name string) bool {
	return r.rights.May(r.conn.who(), auth.Operation(op), auth.ResourceType(typ), name)
}

// maySome reports whether the client may do op to any resource of the type, existing
// or not (KIP-679).
func (r *request) maySome(op kmsg.ACLOperation, typ kmsg.ACLResourceType) bool {
	return r.rights.MaySome(r.conn.who(), auth.Operation(op), auth.ResourceType(typ))
}

// mayCluster returns nil if the client may do op to the cluster, else an error.
func (r *request) mayCluster(op kmsg.ACLOperation) error {
	if !r.may(op, kmsg.ACLResourceTypeCluster, clusterName) {
		return errClusterDenied
	}
	return nil
}

// mayGroup returns nil if the client may do op to the group, else an error.
func (r *request) mayGroup(op kmsg.ACLOperation, name string) error {
	if !r.may(op, kmsg.ACLResourceTypeGroup, name) {
		return errGroupDenied
	}
	return nil
}

// topic is find for a client that needs op on the topic. A client without that right
// does not learn whether a topic of that name exists.
func (r *request) topic(op kmsg.ACLOperation, name string, id [16]byte, byID bool) (broker.Topic, error) {
	if !byID && !r.may(op, kmsg.ACLResourceTypeTopic, name) {
		return broker.Topic{}, errTopicDenied
	}
	t, err := r.conn.s.find(name, id, byID)
	if err == nil && byID && !r.may(op, kmsg.ACLResourceTypeTopic, t.Name) {
		return broker.Topic{}, errTopicDenied
	}
	if err == nil && t.ID == broker.OffsetsTopicID() && !readsOnly(op) {
		return broker.Topic{}, errInternalTopic
	}
	return t, err
}

// changing is topic for a request that deletes or grows the topic, which only the owner of
// the catalogue performs. Another node may have heard of the topic too late.
func (r *request) changing(op kmsg.ACLOperation, name string, id [16]byte, byID bool) (broker.Topic, error) {
	if err := r.conn.s.broker.Serving(); err != nil {
		return broker.Topic{}, err
	}
	t, err := r.topic(op, name, id, byID)
	if errors.Is(err, broker.ErrUnknownTopic) {
		if lost := r.conn.s.broker.Serving(); lost != nil { // and the answer may be that of the node's view
			return broker.Topic{}, lost
		}
	}
	return t, err
}

// refusal returns the error with which a change of the catalogue is refused. If the error
// says what exists and what does not, the bucket first has to confirm that this node still
// owns the catalogue, once for all changes of a request: what was true at that moment, or
// became true by a durable entry of this node since, was true during the request.
func (r *request) refusal(ctx context.Context, err error) error {
	switch code(err, controller) {
	case kerr.UnknownTopicOrPartition.Code, kerr.UnknownTopicID.Code, kerr.TopicAlreadyExists.Code, kerr.InvalidTopicException.Code,
		kerr.InvalidPartitions.Code, kerr.ResourceNotFound.Code:
	default:
		return err
	}
	if r.confirmed {
		return err
	}
	if lost := r.conn.s.broker.ConfirmCatalogue(ctx); lost != nil {
		return lost
	}
	r.confirmed = true
	return err
}

// readsOnly reports whether an operation on a topic changes nothing.
func readsOnly(op kmsg.ACLOperation) bool {
	return op == kmsg.ACLOperationRead || op == kmsg.ACLOperationDescribe || op == kmsg.ACLOperationDescribeConfigs
}

// operations returns what the client may do to a resource, one bit for each
// operation's number, as in Metadata, DescribeCluster and DescribeGroups; MinInt32 if
// the client has not asked.
func (r *request) operations(asked bool, typ kmsg.ACLResourceType, name string) int32 {
	if !asked {
		return math.MinInt32
	}
	set := int32(0)
	for _, op := range auth.Operations(auth.ResourceType(typ)) {
		if r.may(kmsg.ACLOperation(op), typ, name) {
			set |= 1 << op
		}
	}
	return set
}
