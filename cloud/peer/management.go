package peer

import "context"

const managementPath = "/peer/v1/management"

// maxManagementQuestion and maxManagementAnswer bound the bodies, in bytes: definitions, and
// lists of all queues of a node.
const (
	maxManagementQuestion = 12 << 20
	maxManagementAnswer   = 64 << 20
)

// Management has a node, by its name and host:port, perform a request to the management HTTP
// API. Package management has the bodies. view says that the request changes nothing, and that
// who asks may not wait long: such requests have a link of their own, which is given up when
// one is not answered in time. After an error it is not known whether the node has performed
// the request, but for ErrUnknownVerb.
func (c *Client) Management(ctx context.Context, node, address string, view bool, question []byte) ([]byte, error) {
	kind := managementPath
	if view {
		kind += "/view"
	}
	return c.post(ctx, kind, node, address, managementPath, question, maxManagementAnswer)
}
