package cloud

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/weirmq/weir/cloud/admin"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/console"
	"github.com/weirmq/weir/cloud/peer"
)

const (
	// forwardTime is how long the owner may take to answer a forwarded request.
	forwardTime = 25 * time.Second
	// maxUnjudged is how many requests of callers that this node cannot check are
	// forwarded at once, and unjudgedTime how long another one waits. They keep
	// strangers from using standbys to keep the owner busy.
	maxUnjudged  = 8
	unjudgedTime = 2 * time.Second
)

// forward passes a request to the admin port on to the owner, over the peer port, so
// that no client has to send its credential there. It reports whether it has answered;
// if not, the request can still be read.
func (n *Node) forward(w http.ResponseWriter, r *http.Request) bool {
	owner, known := n.broker.Controller()
	if !known || owner.Address(cluster.Peer) == "" || owner.Name == n.o.Node {
		return false
	}
	body, err := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	if err != nil {
		admin.Reply(w, http.StatusRequestEntityTooLarge, console.Error{Error: "read the request: " + err.Error()})
		return true
	}
	f := peer.Forward{Method: r.Method, Target: r.URL.RequestURI(), Body: body}
	if n.guard.OwnRequest(r) {
		hash := admin.HashOf(n.guard.Own())
		f.Own = hex.EncodeToString(hash[:])
	} else if f.Authorization = r.Header.Get("Authorization"); f.Authorization == "" && !n.o.HTTP.Anonymous {
		return false // a reader without a credential, or one with a session here
	}
	ctx, cancel := context.WithTimeout(r.Context(), forwardTime)
	defer cancel()
	if f.Own == "" {
		timer := time.NewTimer(unjudgedTime)
		defer timer.Stop()
		select {
		case n.unjudged <- struct{}{}:
			defer func() { <-n.unjudged }()
		case <-timer.C:
			admin.Reply(w, http.StatusServiceUnavailable, console.Error{Error: "this node stands by, and too many requests wait for the owner: ask the owner itself, at " + owner.Address(cluster.HTTP)})
			return true
		case <-ctx.Done():
			return true
		}
	}
	res, err := n.peers.client.Forward(ctx, owner.Name, owner.Address(cluster.Peer), f)
	switch {
	case errors.Is(err, peer.ErrUnknownVerb):
		return false
	case err != nil && r.Method == http.MethodGet:
		admin.Reply(w, http.StatusServiceUnavailable, console.Error{Error: "this node stands by, and the owner does not answer: " + err.Error()})
		return true
	case err != nil:
		admin.Reply(w, http.StatusServiceUnavailable, console.Error{Error: "this node stands by, and the owner does not answer, so it is not known whether it was done: " + err.Error()})
		return true
	}
	defer res.Body.Close()
	for _, header := range []string{"Content-Type", "Retry-After", "WWW-Authenticate", console.LateHeader} {
		if value := res.Header.Get(header); value != "" {
			w.Header().Set(header, value)
		}
	}
	w.WriteHeader(res.StatusCode)
	_, _ = io.Copy(w, res.Body) // if this fails, the client sees a short answer
	return true
}

// maxAdminAnswer bounds the answer of another node to askAdmin, in bytes.
const maxAdminAnswer = 32 << 20

// askAdmin has another node perform a request to the admin port, with this node's own
// credential.
func (n *Node) askAdmin(r *http.Request, body []byte, node broker.Node) (status int, answer []byte, err error) {
	if node.Address(cluster.Peer) == "" {
		return 0, nil, errors.New("it has no --peer")
	}
	ctx, cancel := context.WithTimeout(r.Context(), forwardTime)
	defer cancel()
	hash := admin.HashOf(n.guard.Own())
	res, err := n.peers.client.Forward(ctx, node.Name, node.Address(cluster.Peer), peer.Forward{Method: r.Method, Target: r.URL.RequestURI(), Body: body, Own: hex.EncodeToString(hash[:])})
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(res.Body, maxAdminAnswer+1))
	if len(answer) > maxAdminAnswer {
		err = errors.New("its answer is too long")
	}
	return res.StatusCode, answer, err
}

// forwarderKey is of the name of the node that has forwarded a request, in its context.
type forwarderKey struct{}

// forwarded answers a request that a standby forwards. The standby's own token is valid
// here unless it was removed; every other credential is checked as if it had come here
// directly.
func (n *Node) forwarded(w http.ResponseWriter, r *http.Request, node, own string) {
	if n.guard == nil {
		admin.Reply(w, http.StatusNotFound, console.Error{Error: "the owner has no admin port"})
		return
	}
	var caller *admin.Caller
	if own != "" {
		r.Header.Del("Authorization")
		hash, err := hex.DecodeString(own)
		users := n.users()
		if err != nil || len(hash) != len(admin.Hash{}) || users != nil && users.Ended(admin.Hash(hash)) {
			admin.Reply(w, http.StatusUnauthorized, console.Error{Error: "the admin token of node " + node + " was removed: delete " + admin.File + " in its data directory and restart it"})
			return
		}
		caller = &admin.Caller{Name: ownName(node), Role: admin.Administer}
	}
	n.guard.Forwarded(w, r.WithContext(context.WithValue(r.Context(), forwarderKey{}, node)), caller)
}
