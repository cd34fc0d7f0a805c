package peer

import (
	"context"
	"net/http"
)

const racePath = "/peer/v1/race"

func (s *Server) race(w http.ResponseWriter, r *http.Request) {
	if s.o.Race == nil {
		http.NotFound(w, r)
		return
	}
	s.o.Race()
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte("{}\n")) // fails only if the caller has gone
}

// Race asks a node, by its name and host:port, to look in the bucket for an
// invitation to a race for names (storage.Race). It returns when the node knows of
// it. Errors: ErrUnknownVerb; after any other the outcome is not known.
func (c *Client) Race(ctx context.Context, node, address string) error {
	_, err := c.get(ctx, node, address, racePath, maxAnswer)
	return err
}
