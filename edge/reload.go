package edge

import (
	"fmt"
	"slices"

	"github.com/weirmq/weir/edge/mqtt"
)

// Reload reads the files of users, ACL, routes and certificates again, and logs what
// has changed. A file with an error changes nothing: the previous content stays in force.
//
// Connections end whose user was removed or has a new password. A change of the ACL
// applies from the next message on, a change of the routes from the next message that
// is accepted: records in the local log keep their topic.
func (e *Edge) Reload() {
	e.reloading.Lock()
	defer e.reloading.Unlock()
	e.o.Log.Info("reading users, ACL, routes and certificates again", "users", e.o.Users, "acl", e.o.ACL, "routes", e.o.Routes, "certificates", len(e.certificates))
	if e.users != nil {
		e.reloadUsers()
	}
	if e.o.ACL != "" {
		e.reloadACL()
	}
	if e.o.Routes != "" {
		e.reloadRoutes()
	}
	for _, c := range e.certificates {
		c.Reload()
	}
}

func (e *Edge) reloadUsers() {
	c, err := e.users.Reload()
	if err != nil {
		e.o.Log.Error("users not read again: the former ones stay in force", "err", err)
		return
	}
	ended := 0
	if len(c.Changed)+len(c.Removed) > 0 {
		ended = e.mqtt.Expel(func(user string) bool {
			return slices.Contains(c.Changed, user) || slices.Contains(c.Removed, user)
		})
	}
	e.o.Log.Info("users read again", "file", e.o.Users, "added", len(c.Added), "changed", len(c.Changed), "removed", len(c.Removed),
		"connections_ended", ended)
}

func (e *Edge) reloadACL() {
	acl, err := mqtt.LoadACL(e.o.ACL)
	if err != nil {
		e.o.Log.Error("ACL not read again: the former one stays in force", "err", err)
		return
	}
	c := acl.ChangeSince(e.acl.Load())
	e.acl.Store(acl)
	e.o.Log.Info("ACL read again", "file", e.o.ACL, "lines_added", c.Added, "lines_removed", c.Removed)
}

// loadRoutes reads the routes file, if there is one, and warns of routes that can never
// match.
func (e *Edge) loadRoutes() (Routes, error) {
	if e.o.Routes == "" {
		return nil, nil
	}
	routes, err := LoadRoutes(e.o.Routes)
	if err != nil {
		return nil, err
	}
	for _, warning := range routes.Warnings() {
		e.o.Log.Warn(warning, "file", e.o.Routes)
	}
	return routes, nil
}

func (e *Edge) reloadRoutes() {
	routes, err := e.loadRoutes()
	if err != nil {
		e.o.Log.Error("routes not read again: the former ones stay in force", "err", err)
		return
	}
	old := *e.backend.routes.Swap(&routes)
	added, removed := routes.without(old), old.without(routes)
	e.o.Log.Info("routes read again", "file", e.o.Routes, "routes", len(routes), "added", added, "removed", removed,
		"order_changed", added == 0 && removed == 0 && !slices.EqualFunc(routes, old, func(a, b Route) bool { return a.text() == b.text() }))
}

// without counts the routes that are not among others.
func (rs Routes) without(others Routes) (n int) {
	has := make(map[string]int)
	for i := range others {
		has[others[i].text()]++
	}
	for i := range rs {
		if has[rs[i].text()]--; has[rs[i].text()] < 0 {
			n++
		}
	}
	return n
}

// text returns all settings of a route.
func (r *Route) text() string {
	return fmt.Sprintf("%q %q %q %s %d %v %v %v", r.Filter, r.Topic, r.Key, r.Lane, r.QoS, r.Drop, r.Tombstone, r.anonymous)
}
