package peer

import (
	"context"
	"net/http"
)

const sessionsPath = "/peer/v1/sessions"

// maxSessions bounds the answer of sessions, in bytes.
const maxSessions = 64 << 20

// sessions answers with the sessions of gateways at this node.
func (s *Server) sessions(w http.ResponseWriter, r *http.Request) {
	if s.o.Sessions == nil {
		http.NotFound(w, r)
		return
	}
	body, err := s.o.Sessions()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body) // fails only if the caller has gone
}

// Sessions asks a node, by its name and host:port, for the sessions of gateways that it
// has. The answer is what Options.Sessions of that node returned. Errors: ErrUnknownVerb;
// any other means that no answer came.
func (c *Client) Sessions(ctx context.Context, node, address string) ([]byte, error) {
	return c.get(ctx, node, address, sessionsPath, maxSessions)
}
