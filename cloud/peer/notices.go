package peer

import (
	"context"
	"io"
	"net/http"
)

const noticesPath = "/peer/v1/notices"

// notices takes what the node that asks has noticed of gateways.
func (s *Server) notices(w http.ResponseWriter, r *http.Request) {
	if s.o.Notices == nil {
		http.NotFound(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = s.o.Notices(asker(r), body)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.WriteHeader(http.StatusOK)
}

// Notices tells the owner of the catalogue, by its name and host:port, what this node has
// noticed of gateways. nil means that it has taken that up, in memory. Errors:
// ErrUnknownVerb; with any other it may have.
func (c *Client) Notices(ctx context.Context, node, address string, body []byte) error {
	_, err := c.post(ctx, noticesPath, node, address, noticesPath, body, maxRefusal)
	return err
}
