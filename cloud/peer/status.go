package peer

import (
	"context"
	"net/http"
)

const statusPath = "/peer/v1/status"

// maxStatus bounds the answer of status, in bytes.
const maxStatus = 8 << 20

// status answers with what this node says of itself. Package console has its format.
func (s *Server) status(w http.ResponseWriter, r *http.Request) {
	if s.o.Status == nil {
		http.NotFound(w, r)
		return
	}
	body, err := s.o.Status(r.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body) // fails only if the caller has gone
}

// Status asks a node, by its name and host:port, what it says of itself. The answer is
// what Options.Status of that node returned. Errors: ErrUnknownVerb; any other means that
// no answer came.
func (c *Client) Status(ctx context.Context, node, address string) ([]byte, error) {
	return c.get(ctx, node, address, statusPath, maxStatus)
}
