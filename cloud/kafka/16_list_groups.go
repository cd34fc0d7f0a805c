package kafka

import (
	"context"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// ListGroups (key 16): all groups that the client may see, including those that have
// only committed offsets.
//
// Behaviour:
//   - Filters by state and by type are lists of names in any case. An empty filter
//     matches everything; a name that is not known matches nothing.
//
// Versions:
//   - v3: flexible; v4: states and their filter; v5: types and their filter

func (s *Server) listGroups(ctx context.Context, r *request, q *kmsg.ListGroupsRequest) (*kmsg.ListGroupsResponse, error) {
	resp := kmsg.NewPtrListGroupsResponse()
	resp.Version = q.Version
	list, err := s.o.Records.GroupListings(ctx)
	if resp.ErrorCode = code(err, coordinator); err != nil {
		return resp, nil
	}
	all := r.mayCluster(kmsg.ACLOperationDescribe) == nil
	for _, g := range list {
		if !all && r.mayGroup(kmsg.ACLOperationDescribe, g.Group) != nil {
			continue
		}
		if !passes(q.StatesFilter, string(g.State)) || !passes(q.TypesFilter, string(g.Type)) {
			continue
		}
		rg := kmsg.NewListGroupsResponseGroup()
		rg.Group, rg.ProtocolType = g.Group, g.ProtocolType
		rg.GroupState, rg.GroupType = string(g.State), string(g.Type)
		resp.Groups = append(resp.Groups, rg)
	}
	return resp, nil
}

func passes(filter []string, word string) bool {
	return len(filter) == 0 || slices.ContainsFunc(filter, func(f string) bool { return strings.EqualFold(f, word) })
}
