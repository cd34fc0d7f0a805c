package peer

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// adminPath comes before the path of a forwarded request to the admin port.
const adminPath = "/peer/v1/admin"

// ownHeader carries the hash of the sender's own admin token, in hex: the caller has
// shown that token to the sender. Without the header the receiver checks the
// request's credential.
const ownHeader = "Weir-Own"

// Forward is a request to the admin port that this node forwards to the owner.
type Forward struct {
	Method        string
	Target        string // path and query
	Body          []byte
	Authorization string // header, for the owner to check; or
	Own           string // hash of this node's own token, in hex, if the caller has shown that
}

// Forward forwards a request to a node, by its name and host:port. The caller closes
// the body of the answer. ErrUnknownVerb means that the node has no admin port, or is
// of an earlier version. After any other error it is not known whether the node has
// performed the request.
func (c *Client) Forward(ctx context.Context, node, address string, f Forward) (*http.Response, error) {
	key := node + "\n" + address + "\n" + adminPath // a connection of its own, so that pings do not wait behind callers' bodies
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
	if res.Header.Get(ownHeader) == "" { // the answer does not come from forwarded
		_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, maxAnswer))
		res.Body.Close()
		return nil, ErrUnknownVerb
	}
	return res, nil
}

// forwarded answers a request that another node forwards.
func (s *Server) forwarded(w http.ResponseWriter, r *http.Request) {
	w.Header().Set(ownHeader, "heard") // tells the other node that the admin port answered
	own := r.Header.Get(ownHeader)
	r.Header.Del(ownHeader)
	next := *r.URL
	next.Path, next.RawPath = strings.TrimPrefix(next.Path, adminPath), strings.TrimPrefix(next.RawPath, adminPath)
	r.URL = &next
	s.o.Forwarded(w, r, asker(r), own)
}
