package console

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/weirmq/weir/cloud/admin"
	"github.com/weirmq/weir/cloud/fleet"
	"github.com/weirmq/weir/storage/journal"
)

// ErrNode: a node cannot be revoked or reset.
var ErrNode = errors.New("cannot change this node")

// NodeChange is the body of a request to revoke or reset a node.
type NodeChange struct {
	Name    string `json:"name"`
	Unknown bool   `json:"unknown,omitempty"` // revoke: no node of that name need be known
}

// RevokedNode is the answer to revoking a node.
type RevokedNode struct {
	Name   string `json:"name"`
	Secret bool   `json:"had_secret"` // it has not joined with a token: it had the secret, and the CA's key
}

// NewNodeToken is the body of a request for a token for a node.
type NewNodeToken struct {
	Name    string `json:"name"`
	Seconds int    `json:"seconds,omitempty"` // for which it can be used; 0: a day
}

func (c *console) newNodeToken(r *http.Request) (any, error) {
	req, err := decode[NewNodeToken](r)
	if err != nil {
		return nil, err
	}
	admin.Note(r, "node", req.Name)
	if req.Name == "" || len(req.Name) > journal.MaxNode {
		return nil, fmt.Errorf("%w: name must be that of a node, of %d bytes at most", errInput, journal.MaxNode)
	}
	if req.Seconds < 0 || req.Seconds > maxTokenSeconds {
		return nil, fmt.Errorf("%w: seconds must be from 0 to %d", errInput, maxTokenSeconds)
	}
	life := fleet.DefaultTokenLife
	if req.Seconds != 0 {
		life = time.Duration(req.Seconds) * time.Second
	}
	token, err := c.NodeToken(r.Context(), req.Name, life)
	return Token{token}, err
}

func (c *console) revokeNode(r *http.Request) (any, error) {
	req, err := c.nodeChange(r)
	if err != nil {
		return nil, err
	}
	return c.RevokeNode(r.Context(), req.Name, req.Unknown)
}

func (c *console) resetNode(r *http.Request) (any, error) {
	req, err := c.nodeChange(r)
	if err != nil {
		return nil, err
	}
	return struct{}{}, c.ResetNode(r.Context(), req.Name)
}

func (c *console) nodeChange(r *http.Request) (NodeChange, error) {
	req, err := decode[NodeChange](r)
	if err == nil && req.Name == "" {
		err = fmt.Errorf("%w: name must be that of a node", errInput)
	}
	admin.Note(r, "node", req.Name)
	return req, err
}
