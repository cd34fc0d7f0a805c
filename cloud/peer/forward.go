package peer

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// adminPath is before the path of a request to the admin port that a node passes on.
const adminPath = "/peer/v1/admin"

// ownHeader carries the hash of the sender's own admin token, in hex: the sender knows
// that the caller has it. Without it the request's credential is yet to be judged.
const ownHeader = "Weir-Own"

// Forward is a request to the admin port that this node passes on to the owner.
type Forward struct {
	Method        string
	Target        string // path and query
	Body          []byte
	Authorization string // header, for the owner to judge; or
	Own           string // hash of this node's own token, in hex, which the caller has shown
}

// Forward passes a request on to the node of that name, at host:port. Whoever calls
// it closes the body of the answer. ErrUnknownVerb: the node has no admin port, or is
// of an earlier version. After another error it is not known whether the node has done
// what it was asked for.
func (c *Client) Forward(ctx context.Context, node, address string, f Forward) (*http.Response, error) {
	key := node + "\n" + address + "\n" + adminPath // a connection of its own: pings do not wait behind what callers send
	l := c.link(key, node, address)
	req, err := http.NewRequestWithContext(ctx, f.Method, "http://node"+adminPath+f.Target, bytes.NewReader(f.Body))
	if err != nil {
		return nil, err
	}
	if f.Authorization != "" {
		req.Header.Set("Authorization", f.Authorization)
	}
	if f.Own != "" {
		req.Header.Set(ownHeader, f.Own)
	}
	res, err := l.http.Do(req)
	if err != nil {
		c.drop(key, l)
		return nil, fmt.Errorf("pass a request on to node %q at %s: %w", node, address, err)
	}
	if res.Header.Get(ownHeader) == "" { // no answer of forwarded
		_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, maxAnswer))
		res.Body.Close()
		return nil, ErrUnknownVerb
	}
	return res, nil
}

// forwarded answers what another node passes on.
func (s *Server) forwarded(w http.ResponseWriter, r *http.Request) {
	w.Header().Set(ownHeader, "heard") // it was the admin port that answered
	own := r.Header.Get(ownHeader)
	r.Header.Del(ownHeader)
	next := *r.URL
	next.Path, next.RawPath = strings.TrimPrefix(next.Path, adminPath), strings.TrimPrefix(next.RawPath, adminPath)
	r.URL = &next
	s.o.Forwarded(w, r, asker(r), own)
}
