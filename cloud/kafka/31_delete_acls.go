package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/auth"
)

// DeleteAcls (key 31): removes the ACLs that filters match, and lists them.
//
// Behaviour:
//   - Needs Alter on the cluster. SECURITY_DISABLED if ACLs are off.
//   - Durable when it is answered. A filter that matches nothing is a success.
//
// Versions:
//   - v1: prefixed patterns (v0 is not served); v2: flexible; v3: user resources
//     (there are none)
func (s *Server) deleteACLs(ctx context.Context, r *request, q *kmsg.DeleteACLsRequest) (*kmsg.DeleteACLsResponse, error) {
	resp := kmsg.NewPtrDeleteACLsResponse()
	resp.Version = q.Version
	users, denied := r.mayACLs(kmsg.ACLOperationAlter)
	for _, f := range q.Filters {
		rr := kmsg.NewDeleteACLsResponseResult()
		var gone []auth.ACL
		err := denied
		if err == nil {
			gone, err = deleteMatching(ctx, users, f)
		}
		if rr.ErrorCode, rr.ErrorMessage = code(err, controller), message(err); err != nil {
			gone = nil
		}
		for _, a := range gone {
			rm := kmsg.NewDeleteACLsResponseResultMatchingACL()
			rm.ResourceType, rm.ResourceName = kmsg.ACLResourceType(a.Type), a.Name
			rm.ResourcePatternType = kmsg.ACLResourcePatternType(a.Pattern)
			rm.Principal, rm.Host = a.Principal, a.Host
			rm.Operation, rm.PermissionType = kmsg.ACLOperation(a.Operation), kmsg.ACLPermissionType(a.Permission)
			rr.MatchingACLs = append(rr.MatchingACLs, rm)
		}
		resp.Results = append(resp.Results, rr)
	}
	return resp, nil
}

func deleteMatching(ctx context.Context, users *auth.Auth, q kmsg.DeleteACLsRequestFilter) ([]auth.ACL, error) {
	f, err := filterOf(q.ResourceType, q.ResourcePatternType, q.ResourceName, q.Principal, q.Host, q.Operation, q.PermissionType)
	if err != nil {
		return nil, err
	}
	return users.RemoveACLs(ctx, f)
}
