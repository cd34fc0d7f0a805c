package peer

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"time"
)

const managementPath = "/peer/v1/management"

// maxManagementQuestion and maxManagementAnswer bound the bodies, in bytes: definitions, and
// lists of all queues of a node.
const (
	maxManagementQuestion = 12 << 20
	maxManagementAnswer   = 64 << 20
	managementTime        = 30 * time.Second // for the other node to read the answer
)

// management answers a request to the management HTTP API that another node passes on.
func (s *Server) management(w http.ResponseWriter, r *http.Request) {
	if s.o.Management == nil {
		http.NotFound(w, r)
		return
	}
	question, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, "read the request: "+err.Error(), http.StatusBadRequest)
		return
	}
	answer, err := s.o.Management(r.Context(), question)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(managementTime))
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(answer)))
	_, _ = w.Write(answer) // fails only if the caller has gone, or is too slow
}

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
