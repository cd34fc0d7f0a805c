package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/auth"
)

// CreateAcls (key 30): each ACL is durable, or refused, by itself.
//
// Behaviour:
//   - Needs Alter on the cluster. SECURITY_DISABLED if ACLs are off.
//   - Creating an ACL that exists already succeeds.
//
// Versions:
//   - v1: prefixed patterns (v0 is not served); v2: flexible; v3: user resources
//     (refused)
func (s *Server) createACLs(ctx context.Context, r *request, q *kmsg.CreateACLsRequest) (*kmsg.CreateACLsResponse, error) {
	resp := kmsg.NewPtrCreateACLsResponse()
	resp.Version = q.Version
	users, denied := r.mayACLs(kmsg.ACLOperationAlter)
	errs := make([]error, len(q.Creations))
	var good []auth.ACL
	for i, c := range q.Creations {
		a := auth.ACL{
			Resource: auth.Resource{Type: auth.ResourceType(c.ResourceType), Pattern: auth.PatternType(c.ResourcePatternType), Name: c.ResourceName},
			Rule:     auth.Rule{Principal: c.Principal, Host: c.Host, Operation: auth.Operation(c.Operation), Permission: auth.Permission(c.PermissionType)},
		}
		if errs[i] = denied; denied == nil {
			errs[i] = a.Check()
		}
		if errs[i] == nil {
			good = append(good, a)
		}
	}
	var failed error
	if denied == nil {
		failed = users.AddACLs(ctx, good...)
	}
	for _, err := range errs {
		if err == nil {
			err = failed
		}
		rr := kmsg.NewCreateACLsResponseResult()
		rr.ErrorCode, rr.ErrorMessage = code(err, controller), message(err)
		resp.Results = append(resp.Results, rr)
	}
	return resp, nil
}
