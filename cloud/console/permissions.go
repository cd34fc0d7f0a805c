package console

import (
	"net/http"

	"github.com/weirmq/weir/cloud/admin"
	"github.com/weirmq/weir/cloud/auth"
)

// Permissions is the answer to GET /v1/permissions: what users may do in vhosts.
type Permissions struct {
	Permissions      []auth.VhostPermissions `json:"permissions"`
	TopicPermissions []auth.TopicPermissions `json:"topic_permissions"`
}

// permissions lists the permissions that the parameters user and vhost select; a missing
// one selects all.
func (c *console) permissions(r *http.Request) (any, error) {
	a, err := c.security()
	if err != nil {
		return nil, err
	}
	user, vhost := r.URL.Query().Get("user"), r.URL.Query().Get("vhost")
	return Permissions{a.VhostPermissions(user, vhost), a.TopicPermissions(user, vhost, "")}, nil
}

func (c *console) setPermissions(r *http.Request) (any, error) {
	req, err := decode[auth.VhostPermissions](r)
	if err != nil {
		return nil, err
	}
	a, err := c.security()
	if err != nil {
		return nil, err
	}
	admin.Note(r, "user", req.User, "vhost", req.Vhost, "configure", req.Configure, "write", req.Write, "read", req.Read)
	if err := c.checkVhost(r.Context(), req.Vhost); err != nil {
		return nil, err
	}
	return struct{}{}, a.SetVhostPermissions(r.Context(), req)
}

func (c *console) clearPermissions(r *http.Request) (any, error) {
	a, err := c.security()
	if err != nil {
		return nil, err
	}
	user, vhost := r.URL.Query().Get("user"), r.URL.Query().Get("vhost")
	admin.Note(r, "user", user, "vhost", vhost)
	return struct{}{}, a.ClearVhostPermissions(r.Context(), user, vhost)
}

func (c *console) setTopicPermissions(r *http.Request) (any, error) {
	req, err := decode[auth.TopicPermissions](r)
	if err != nil {
		return nil, err
	}
	a, err := c.security()
	if err != nil {
		return nil, err
	}
	admin.Note(r, "user", req.User, "vhost", req.Vhost, "exchange", req.Exchange, "write", req.Write, "read", req.Read)
	if err := c.checkVhost(r.Context(), req.Vhost); err != nil {
		return nil, err
	}
	return struct{}{}, a.SetTopicPermissions(r.Context(), req)
}

// clearTopicPermissions removes those for one exchange, or without that parameter those
// for all.
func (c *console) clearTopicPermissions(r *http.Request) (any, error) {
	a, err := c.security()
	if err != nil {
		return nil, err
	}
	q := r.URL.Query()
	user, vhost, exchange := q.Get("user"), q.Get("vhost"), q.Get("exchange")
	admin.Note(r, "user", user, "vhost", vhost, "exchange", exchange)
	return struct{}{}, a.ClearTopicPermissions(r.Context(), user, vhost, exchange)
}
