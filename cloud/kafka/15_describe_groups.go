package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/group"
)

// DescribeGroups (key 15): state and members of groups.
//
// Behaviour:
//   - A group that does not exist is Dead; before v6 that is not an error. The same
//     holds for a group of a newer protocol: ConsumerGroupDescribe and ShareGroupDescribe
//     describe those.
//   - Protocol, metadata and assignments are answered only for a stable group: until
//     then there are none.
//
// Versions:
//   - v3: authorized operations; v4: static members; v5: flexible
//   - v6: GROUP_ID_NOT_FOUND and error messages (KIP-1043)

const unknownGroupCode = 6

func (s *Server) describeGroups(_ context.Context, r *request, q *kmsg.DescribeGroupsRequest) (*kmsg.DescribeGroupsResponse, error) {
	resp := kmsg.NewPtrDescribeGroupsResponse()
	resp.Version = q.Version
	for _, name := range q.Groups {
		rg := kmsg.NewDescribeGroupsResponseGroup()
		rg.Group = name
		err := r.mayGroup(kmsg.ACLOperationDescribe, name)
		var groups *group.Coordinator
		if err == nil {
			groups, err = s.broker.Groups(name)
		}
		if err == nil {
			var d group.Description
			if d, err = describeClassic(groups, name); err == nil || errors.Is(err, group.ErrUnknownGroup) {
				describeGroup(&rg, d)
				rg.AuthorizedOperations = r.operations(q.IncludeAuthorizedOperations, kmsg.ACLResourceTypeGroup, name)
			}
		}
		if errors.Is(err, group.ErrUnknownGroup) && q.Version < unknownGroupCode {
			err = nil
		}
		rg.ErrorCode, rg.ErrorMessage = code(err, coordinator), message(err)
		resp.Groups = append(resp.Groups, rg)
	}
	return resp, nil
}

// describeClassic describes a classic group. A group of the newer protocol does not
// exist for it.
func describeClassic(groups *group.Coordinator, name string) (group.Description, error) {
	d, err := groups.Describe(name)
	if err == nil && d.Type != group.Classic {
		return group.Description{Listing: group.Listing{Group: name, State: group.Dead}}, fmt.Errorf("%w: %q is not a classic group", group.ErrUnknownGroup, name)
	}
	return d, err
}

func describeGroup(rg *kmsg.DescribeGroupsResponseGroup, d group.Description) {
	rg.State, rg.ProtocolType = string(d.State), d.ProtocolType
	stable := d.State == group.Stable
	if stable {
		rg.Protocol = d.Protocol
	}
	for _, m := range d.Details {
		rm := kmsg.NewDescribeGroupsResponseGroupMember()
		rm.MemberID, rm.InstanceID = m.Member, nullable(m.Instance)
		rm.ClientID, rm.ClientHost = m.ClientID, m.ClientHost
		if rm.ProtocolMetadata, rm.MemberAssignment = []byte{}, []byte{}; stable {
			rm.ProtocolMetadata, rm.MemberAssignment = m.Metadata, m.Assignment
		}
		rg.Members = append(rg.Members, rm)
	}
}

// consumerType is the protocol type of groups whose members list the topics that they
// subscribe to in a known format.
const consumerType = "consumer"

// subscriptions returns the topics that the members of a group of type consumer
// subscribe to. It returns false if a member does not list them.
func subscriptions(d group.Description) (map[string]bool, bool) {
	topics := make(map[string]bool)
	for _, m := range d.Details {
		var meta kmsg.ConsumerMemberMetadata
		if err := guarded(meta.ReadFrom, m.Metadata); err != nil {
			return nil, false
		}
		for _, t := range meta.Topics {
			topics[t] = true
		}
	}
	return topics, true
}

// alive returns the error for an administrator's change of a group with members,
// unless their subscriptions are known.
func alive(d group.Description) error {
	if len(d.Details) > 0 && d.ProtocolType != consumerType {
		return refused(kerr.NonEmptyGroup, "group %q has members", d.Group)
	}
	return nil
}
