package kafka

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/broker"
)

// DescribeUserScramCredentials (key 50): the users that can log in, and their
// mechanisms (KIP-554).
//
// Behaviour:
//   - Needs Describe on the cluster. No list, or an empty one, means all users.
//   - The answer contains neither salts nor keys.
func (s *Server) describeUsers(_ context.Context, r *request, q *kmsg.DescribeUserSCRAMCredentialsRequest) (*kmsg.DescribeUserSCRAMCredentialsResponse, error) {
	resp := kmsg.NewPtrDescribeUserSCRAMCredentialsResponse()
	resp.Version = q.Version
	err := r.mayCluster(kmsg.ACLOperationDescribe)
	var users *auth.Auth
	if err == nil {
		if users = s.access.Users(); users == nil {
			err = broker.ErrNotOwner
		}
	}
	if err != nil {
		resp.ErrorCode, resp.ErrorMessage = code(err, controller), message(err)
		return resp, nil
	}
	known := make(map[string]auth.User)
	for _, u := range users.Users() {
		known[u.Name] = u
	}
	asked := make(map[string]int)
	for _, u := range q.Users {
		asked[u.Name]++
	}
	if len(q.Users) == 0 {
		for name := range known {
			asked[name] = 1
		}
	}
	for _, name := range slices.Sorted(maps.Keys(asked)) {
		u, ok := known[name]
		switch {
		case asked[name] > 1:
			err = refused(kerr.DuplicateResource, "user %q is in the request twice", name)
		case !ok:
			err = fmt.Errorf("%w: user %q", auth.ErrUnknownUser, name)
		default:
			err = nil
		}
		rr := kmsg.NewDescribeUserSCRAMCredentialsResponseResult()
		rr.User, rr.ErrorCode, rr.ErrorMessage = name, code(err, controller), message(err)
		for _, m := range slices.Sorted(maps.Keys(u.Credentials)) {
			if err == nil {
				ri := kmsg.NewDescribeUserSCRAMCredentialsResponseResultCredentialInfo()
				ri.Mechanism, ri.Iterations = int8(m), int32(u.Credentials[m])
				rr.CredentialInfos = append(rr.CredentialInfos, ri)
			}
		}
		resp.Results = append(resp.Results, rr)
	}
	return resp, nil
}
