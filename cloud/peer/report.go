package peer

import (
	"context"
	"net/http"
)

const reportPath = "/peer/v1/report"

// maxReport bounds a report and the answer to it, in bytes.
const maxReport = 256 << 10

// report answers a node's report with this node's own. Package cluster has their format.
func (s *Server) report() asked {
	if s.o.Report == nil {
		return nil
	}
	return func(r *http.Request, report []byte) ([]byte, error) {
		s.o.Heard(asker(r))
		return s.o.Report(asker(r), report)
	}
}

// Report sends this node's report to a node, by its name and host:port, and returns that
// of the other one. It has a connection of its own: if there is no answer, requests of
// other kinds go on. Errors: ErrUnknownVerb, if the node must be asked by Ping; any other
// says nothing about the node, unless Refused reports true for it.
func (c *Client) Report(ctx context.Context, node, address string, report []byte) ([]byte, error) {
	return c.post(ctx, reportPath, node, address, reportPath, report, maxReport)
}
