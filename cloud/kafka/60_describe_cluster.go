package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeCluster (key 60): the nodes, for admin clients (KIP-700).
//
// Behaviour:
//   - The brokers and the controller are those of Metadata. No broker is fenced.
//
// Versions:
//   - v1: type of the endpoint: brokers only, there are no controllers to connect to
//   - v2: fenced brokers
func (s *Server) describeCluster(_ context.Context, r *request, q *kmsg.DescribeClusterRequest) (*kmsg.DescribeClusterResponse, error) {
	resp := kmsg.NewPtrDescribeClusterResponse()
	resp.Version = q.Version
	resp.ControllerID = none
	var err error
	switch q.EndpointType {
	case brokerEndpoint:
	case controllerEndpoint:
		err = refused(kerr.MismatchedEndpointType, "this is a broker, not a controller")
	default:
		err = refused(kerr.UnsupportedEndpointType, "endpoints of type %d are not known", q.EndpointType)
	}
	resp.EndpointType = brokerEndpoint
	if resp.ErrorCode, resp.ErrorMessage = code(err, controller), message(err); err != nil {
		return resp, nil
	}
	resp.ClusterID = s.broker.ClusterID()
	for _, n := range r.nodes() {
		b := kmsg.NewDescribeClusterResponseBroker()
		b.NodeID, b.Host, b.Port = n.id, n.host, n.port
		resp.Brokers = append(resp.Brokers, b)
	}
	resp.ControllerID = r.controller()
	resp.ClusterAuthorizedOperations = r.operations(q.IncludeClusterAuthorizedOperations, kmsg.ACLResourceTypeCluster, clusterName)
	return resp, nil
}

// Types of endpoints (KIP-919).
const (
	brokerEndpoint     = 1
	controllerEndpoint = 2
)
