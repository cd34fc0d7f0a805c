package console

import (
	"encoding"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/weirmq/weir/cloud/admin"
	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/quota"
)

// User is one line of GET /v1/users.
type User struct {
	Name       string           `json:"name"`
	Mechanisms []auth.Mechanism `json:"mechanisms"`
}

// NewUser is the body of POST /v1/users. The password itself is not sent.
type NewUser struct {
	Name        string            `json:"name"`
	Credentials []auth.Credential `json:"credentials"`
}

// Removed is the answer to DELETE /v1/acls.
type Removed struct {
	ACLs []auth.ACL `json:"acls"`
}

func (c *console) security() (*auth.Auth, error) {
	if a := c.Users(); a != nil {
		return a, nil
	}
	return nil, broker.ErrNotOwner
}

func (c *console) users(*http.Request) (any, error) {
	a, err := c.security()
	if err != nil {
		return nil, err
	}
	all := []User{}
	for _, u := range a.Users() {
		all = append(all, User{u.Name, slices.Sorted(maps.Keys(u.Credentials))})
	}
	return all, nil
}

func (c *console) setUser(r *http.Request) (any, error) {
	req, err := decode[NewUser](r)
	if err != nil {
		return nil, err
	}
	a, err := c.security()
	if err != nil {
		return nil, err
	}
	admin.Note(r, "user", req.Name)
	if len(req.Credentials) == 0 {
		return nil, fmt.Errorf("%w: credentials is empty: a user needs at least one", errInput)
	}
	return struct{}{}, a.SetCredentials(r.Context(), req.Name, req.Credentials...)
}

func (c *console) deleteUser(r *http.Request) (any, error) {
	a, err := c.security()
	if err != nil {
		return nil, err
	}
	return struct{}{}, a.RemoveUser(r.Context(), named(r, "name"))
}

// filter returns the filter for ACLs in a request. Each parameter selects; a missing
// one selects all.
func filter(q url.Values) (auth.Filter, error) {
	f := auth.Filter{Name: q.Get("name"), Principal: q.Get("principal"), Host: q.Get("host")}
	for name, of := range map[string]encoding.TextUnmarshaler{
		"type": &f.Type, "pattern": &f.Pattern, "operation": &f.Operation, "permission": &f.Permission,
	} {
		if q.Has(name) {
			if err := of.UnmarshalText([]byte(q.Get(name))); err != nil {
				return f, err
			}
		}
	}
	return f, nil
}

func (c *console) acls(r *http.Request) (any, error) {
	a, err := c.security()
	if err != nil {
		return nil, err
	}
	f, err := filter(r.URL.Query())
	if err != nil {
		return nil, err
	}
	return a.ACLs(f), nil
}

func (c *console) addACLs(r *http.Request) (any, error) {
	req, err := decode[[]auth.ACL](r)
	if err != nil {
		return nil, err
	}
	a, err := c.security()
	if err != nil {
		return nil, err
	}
	for _, acl := range req[:min(len(req), 3)] {
		admin.Note(r, "acl", fmt.Sprint(acl.Permission, " ", acl.Principal, " ", acl.Operation, " ", acl.Type, " ", acl.Name))
	}
	return struct{}{}, a.AddACLs(r.Context(), req...)
}

func (c *console) deleteACLs(r *http.Request) (any, error) {
	a, err := c.security()
	if err != nil {
		return nil, err
	}
	f, err := filter(r.URL.Query())
	if err != nil {
		return nil, err
	}
	if f == (auth.Filter{}) {
		return nil, fmt.Errorf("%w: a filter is needed: name, principal, host, type, pattern, operation or permission", errInput)
	}
	admin.Note(r, "filter", r.URL.RawQuery)
	removed, err := a.RemoveACLs(r.Context(), f)
	return Removed{removed}, err
}

func (c *console) quotas(*http.Request) (any, error) {
	q := c.Quotas()
	if q == nil {
		return nil, broker.ErrNotOwner
	}
	return q.Entries(), nil
}

// setQuota replaces all limits of an entity; without limits the entity is removed.
func (c *console) setQuota(r *http.Request) (any, error) {
	req, err := decode[quota.Entry](r)
	if err != nil {
		return nil, err
	}
	q := c.Quotas()
	if q == nil {
		return nil, broker.ErrNotOwner
	}
	admin.Note(r, "user", req.User, "client", req.Client)
	return struct{}{}, q.Set(r.Context(), req.Entity, func(l *quota.Limits) { *l = req.Limits }, false)
}

// Admin is one line of GET /v1/admins, and the body of POST /v1/admins. The token
// itself is not sent.
type Admin struct {
	Name    string     `json:"name"`
	Role    admin.Role `json:"role"`
	Created time.Time  `json:"created,omitzero"`
	Hash    []byte     `json:"hash,omitempty"` // SHA-256 of the token; POST only
}

func (c *console) admins(*http.Request) (any, error) {
	a, err := c.security()
	if err != nil {
		return nil, err
	}
	all := []Admin{}
	for _, one := range a.Admins() {
		all = append(all, Admin{Name: one.Name, Role: one.Role, Created: one.Created})
	}
	return all, nil
}

func (c *console) setAdmin(r *http.Request) (any, error) {
	req, err := decode[Admin](r)
	if err != nil {
		return nil, err
	}
	a, err := c.security()
	if err != nil {
		return nil, err
	}
	admin.Note(r, "name", req.Name, "role", req.Role)
	switch {
	case len(req.Hash) != len(admin.Hash{}):
		return nil, fmt.Errorf("%w: hash must be the SHA-256 of a token, %d bytes", errInput, len(admin.Hash{}))
	case strings.Contains(req.Name, ":"):
		return nil, fmt.Errorf("%w: a name must not have a colon: such names are reserved for nodes", errInput)
	}
	return struct{}{}, a.SetAdmin(r.Context(), req.Name, req.Role, admin.Hash(req.Hash), time.Now())
}

func (c *console) removeAdmin(r *http.Request) (any, error) {
	a, err := c.security()
	if err != nil {
		return nil, err
	}
	name := named(r, "name")
	if err := a.RemoveAdmin(r.Context(), name); err != nil || c.Removed == nil {
		return struct{}{}, err
	}
	return struct{}{}, c.Removed(r.Context(), name)
}
