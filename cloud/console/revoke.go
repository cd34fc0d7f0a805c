package console

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/weirmq/weir/cloud/admin"
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
	Name string `json:"name"`
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
