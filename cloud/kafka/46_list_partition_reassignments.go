package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// ListPartitionReassignments (key 46): there are none, see
// AlterPartitionReassignments.
//
// Versions:
//   - v0 only
func (s *Server) listPartitionReassignments(_ context.Context, r *request, q *kmsg.ListPartitionReassignmentsRequest) (*kmsg.ListPartitionReassignmentsResponse, error) {
	resp := kmsg.NewPtrListPartitionReassignmentsResponse()
	resp.Version = q.Version
	err := r.mayCluster(kmsg.ACLOperationDescribe)
	if err == nil {
		err = s.broker.Serving() // a standby checks nothing
	}
	resp.ErrorCode, resp.ErrorMessage = code(err, controller), message(err)
	return resp, nil
}
