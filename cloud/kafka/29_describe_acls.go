package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/auth"
)

// DescribeAcls (key 29): the ACLs that a filter matches.
//
// Behaviour:
//   - Needs Describe on the cluster. SECURITY_DISABLED if ACLs are off.
//   - Pattern MATCH finds all ACLs that apply to a resource, also by "*" and by
//     prefix.
//
// Versions:
//   - v1: prefixed patterns (v0 is not served); v2: flexible; v3: user resources
//     (there are none)
func (s *Server) describeACLs(_ context.Context, r *request, q *kmsg.DescribeACLsRequest) (*kmsg.DescribeACLsResponse, error) {
	resp := kmsg.NewPtrDescribeACLsResponse()
	resp.Version = q.Version
	found, err := r.foundACLs(q)
	if err != nil {
		resp.ErrorCode, resp.ErrorMessage = code(err, controller), message(err)
		return resp, nil
	}
	var last auth.Resource
	for _, a := range found {
		if len(resp.Resources) == 0 || a.Resource != last {
			rr := kmsg.NewDescribeACLsResponseResource()
			rr.ResourceType, rr.ResourceName = kmsg.ACLResourceType(a.Type), a.Name
			rr.ResourcePatternType = kmsg.ACLResourcePatternType(a.Pattern)
			resp.Resources = append(resp.Resources, rr)
			last = a.Resource
		}
		ra := kmsg.NewDescribeACLsResponseResourceACL()
		ra.Principal, ra.Host = a.Principal, a.Host
		ra.Operation, ra.PermissionType = kmsg.ACLOperation(a.Operation), kmsg.ACLPermissionType(a.Permission)
		rr := &resp.Resources[len(resp.Resources)-1]
		rr.ACLs = append(rr.ACLs, ra)
	}
	return resp, nil
}

func (r *request) foundACLs(q *kmsg.DescribeACLsRequest) ([]auth.ACL, error) {
	users, err := r.mayACLs(kmsg.ACLOperationDescribe)
	if err != nil {
		return nil, err
	}
	f, err := filterOf(q.ResourceType, q.ResourcePatternType, q.ResourceName, q.Principal, q.Host, q.Operation, q.PermissionType)
	if err != nil {
		return nil, err
	}
	return users.ACLs(f), nil
}
