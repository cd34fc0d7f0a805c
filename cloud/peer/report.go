package peer

import (
	"context"
	"io"
	"net/http"
)

const reportPath = "/peer/v1/report"

// maxReport bounds a report and the answer to it, in bytes.
const maxReport = 256 << 10

// report answers a node's report with this node's own. Package cluster has their format.
func (s *Server) report(w http.ResponseWriter, r *http.Request) {
	if s.o.Report == nil {
		http.NotFound(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, "read the report: "+err.Error(), http.StatusBadRequest)
		return
	}
	s.o.Heard(asker(r))
	answer, err := s.o.Report(asker(r), body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(answer) // fails only if the caller has gone
}

// Report sends this node's report to a node, by its name and host:port, and returns that
// of the other one. It has a connection of its own: if there is no answer, requests of
// other kinds go on. Errors: ErrUnknownVerb, if the node must be asked by Ping; any other
// says nothing about the node, unless Refused reports true for it.
func (c *Client) Report(ctx context.Context, node, address string, report []byte) ([]byte, error) {
	return c.post(ctx, reportPath, node, address, reportPath, report, maxReport)
}
