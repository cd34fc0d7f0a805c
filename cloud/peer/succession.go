package peer

import (
	"context"
	"io"
	"net/http"
)

const successionPath = "/peer/v1/succession"

// maxSuccession bounds a step of a hand-over and the answer to it, in bytes.
const maxSuccession = 4 << 10

// succession answers a step of a hand-over. Package cluster has the format of both.
func (s *Server) succession(w http.ResponseWriter, r *http.Request) {
	if s.o.Succession == nil {
		http.NotFound(w, r)
		return
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxSuccession))
	if err != nil {
		http.Error(w, "read the step: "+err.Error(), http.StatusBadRequest)
		return
	}
	answer, err := s.o.Succession(r.Context(), body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(answer) // fails only if the caller has gone
}

// Succession sends a step of a hand-over to a node, by its name and host:port, and returns
// the answer, for which the node waits a moment. Errors: ErrUnknownVerb; any other says
// nothing about the node, unless Refused reports true for it.
func (c *Client) Succession(ctx context.Context, node, address string, step []byte) ([]byte, error) {
	return c.post(ctx, successionPath, node, address, successionPath, step, maxSuccession)
}
