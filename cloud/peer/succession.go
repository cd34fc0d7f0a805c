package peer

import "context"

const successionPath = "/peer/v1/succession"

// maxSuccession bounds a step of a hand-over and the answer to it, in bytes. Package cluster
// has the format of both.
const maxSuccession = 4 << 10

// Succession sends a step of a hand-over to a node, by its name and host:port, and returns
// the answer, for which the node waits a moment. Errors: ErrUnknownVerb; any other says
// nothing about the node, unless Refused reports true for it.
func (c *Client) Succession(ctx context.Context, node, address string, step []byte) ([]byte, error) {
	return c.post(ctx, successionPath, node, address, successionPath, step, maxSuccession)
}
