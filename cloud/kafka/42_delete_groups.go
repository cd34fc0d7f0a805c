package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// DeleteGroups (key 42): removes groups with their offsets.
//
// Behaviour:
//   - Only groups without members can be deleted. Each deletion is durable when
//     answered, or refused by itself.
//
// Versions:
//   - v2: flexible
func (s *Server) deleteGroups(ctx context.Context, r *request, q *kmsg.DeleteGroupsRequest) (*kmsg.DeleteGroupsResponse, error) {
	resp := kmsg.NewPtrDeleteGroupsResponse()
	resp.Version = q.Version
	for _, name := range q.Groups {
		err := r.mayGroup(kmsg.ACLOperationDelete, name)
		if err == nil {
			err = s.o.Records.DeleteGroup(ctx, name)
		}
		rg := kmsg.NewDeleteGroupsResponseGroup()
		rg.Group, rg.ErrorCode = name, code(err, coordinator)
		resp.Groups = append(resp.Groups, rg)
	}
	return resp, nil
}
