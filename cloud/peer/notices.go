package peer

import (
	"context"
	"net/http"
)

const noticesPath = "/peer/v1/notices"

// notices takes what the node that asks has noticed of gateways. The answer is empty.
func (s *Server) notices() asked {
	if s.o.Notices == nil {
		return nil
	}
	return func(r *http.Request, body []byte) ([]byte, error) { return nil, s.o.Notices(asker(r), body) }
}

// Notices tells the owner of the catalogue, by its name and host:port, what this node has
// noticed of gateways. nil means that it has taken that up, in memory. Errors:
// ErrUnknownVerb; with any other it may have.
func (c *Client) Notices(ctx context.Context, node, address string, body []byte) error {
	_, err := c.post(ctx, noticesPath, node, address, noticesPath, body, maxRefusal)
	return err
}
