package console

import (
	"cmp"
	"context"
	"fmt"
	"net/http"

	"github.com/weirmq/weir/cloud/admin"
	"github.com/weirmq/weir/cloud/queue"
)

// Vhost is one line of GET /v1/vhosts.
type Vhost struct {
	Name     string `json:"name"`
	Queues   int    `json:"queues"`
	Messages int64  `json:"messages"` // in its queues, those that consumers have not settled included
}

// NewVhost is the body of POST /v1/vhosts.
type NewVhost struct {
	Name string `json:"name"`
}

func (c *console) vhosts(r *http.Request) (any, error) {
	engines, err := c.Broker.AllQueues()
	if err != nil {
		return nil, err
	}
	all := []Vhost{}
	for _, e := range engines {
		for _, name := range e.Vhosts() {
			v := Vhost{Name: name}
			queues, err := e.Queues(name)
			if err != nil {
				return nil, err
			}
			for _, q := range queues {
				v.Queues++
				v.Messages += q.Ready + q.Unsettled
			}
			all = append(all, v)
		}
	}
	return withOthers(c, r, all, func(a, b Vhost) int { return cmp.Compare(a.Name, b.Name) })
}

// createVhost creates a vhost, unless there is one of that name.
func (c *console) createVhost(r *http.Request) (any, error) {
	req, err := decode[NewVhost](r)
	if err != nil {
		return nil, err
	}
	admin.Note(r, "vhost", req.Name)
	e, err := c.Broker.Queues(req.Name)
	if err != nil {
		return nil, err
	}
	return struct{}{}, e.CreateVhost(r.Context(), req.Name)
}

// deleteVhost deletes a vhost with all that is in it, and the permissions in it before:
// they must not be left for another vhost of that name.
func (c *console) deleteVhost(r *http.Request) (any, error) {
	name := named(r, "name")
	e, elsewhere := c.Broker.Queues(name)
	if elsewhere == nil && c.gathered(r) { // that node has done the rest
		return struct{}{}, e.DeleteVhost(r.Context(), name)
	}
	a, err := c.security()
	if err != nil {
		return nil, err
	}
	if err := c.checkVhost(r.Context(), name); err != nil {
		return nil, err
	}
	if elsewhere != nil && !c.Broker.Several() {
		return nil, elsewhere
	}
	if err := a.ClearVhost(r.Context(), name); err != nil {
		return nil, err
	}
	if elsewhere != nil {
		return nil, elsewhere // its node deletes it
	}
	return struct{}{}, e.DeleteVhost(r.Context(), name)
}

// checkVhost returns an error if a vhost of that name would be on this node and is not.
func (c *console) checkVhost(ctx context.Context, name string) error {
	e, err := c.Broker.Queues(name)
	if err != nil {
		return nil // another node knows
	}
	has, err := e.OpenVhost(ctx, name)
	if err == nil && !has {
		err = fmt.Errorf("%w: %q", queue.ErrNoVhost, name)
	}
	return err
}
