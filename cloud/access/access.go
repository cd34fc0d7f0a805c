// Package access says what clients of a node's doors may do, and how much: by the
// users, ACLs and quotas of the log, or on a node that stands by, by its copy of them
// (broker.Copy).
//
// All doors of a node share one Access. A door judges each request before it performs
// it (Judge), asks the Rights what the client may do, and says when the request touches
// the broker no more (Rights.Settle): so a node that becomes the owner does nothing by
// rights that may have been taken away. A login is checked against Users, and what a
// client uses is counted in Quotas.
package access

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/quota"
)

// errSettled ends a request that a node which becomes the owner does not wait for.
var errSettled = errors.New("this node has become the owner")

// settleTime is how long a request that is judged by the copy may go on when the node
// becomes the owner.
const settleTime = 100 * time.Millisecond

// Options of an Access. Broker is required; the zero value of any other field means
// its default.
type Options struct {
	Broker    *broker.Broker
	Users     func() *auth.Auth    // users and ACLs, nil while this node does not own the catalogue
	Quotas    func() *quota.Quotas // likewise
	Authorize bool                 // a request needs an ACL that allows it; false: every request is allowed
}

// Access may be used by many goroutines.
type Access struct {
	o Options

	mu     sync.Mutex
	judged map[*Rights]context.CancelCauseFunc // requests under way that are judged by the copy
	empty  chan struct{}                       // of Settle: closed when judged becomes empty
}

// New returns an Access.
func New(o Options) *Access {
	if o.Users == nil {
		o.Users = func() *auth.Auth { return nil }
	}
	if o.Quotas == nil {
		o.Quotas = func() *quota.Quotas { return nil }
	}
	return &Access{o: o, judged: make(map[*Rights]context.CancelCauseFunc)}
}

// Authorizes reports whether requests need an ACL.
func (a *Access) Authorizes() bool { return a.o.Authorize }

// OwnUsers are the users and ACLs of the log, which can be changed; nil while this node
// does not own the catalogue.
func (a *Access) OwnUsers() *auth.Auth { return a.o.Users() }

// Users are those of the log, or on a standby a copy of them that can be asked and not
// changed; nil if neither is there.
func (a *Access) Users() *auth.Auth {
	if users := a.o.Users(); users != nil {
		return users
	}
	if c := a.o.Broker.Copy(); c != nil {
		return c.Users
	}
	return nil
}

// OwnQuotas are the limits of the log, which can be changed; nil while this node does
// not own the catalogue.
func (a *Access) OwnQuotas() *quota.Quotas { return a.o.Quotas() }

// Quotas are those of the log, or on a standby a copy of them; nil if neither is there.
func (a *Access) Quotas() *quota.Quotas {
	if q := a.o.Quotas(); q != nil {
		return q
	}
	if c := a.o.Broker.Copy(); c != nil {
		return c.Quotas
	}
	return nil
}

// Rights are what one request is judged by. They are made by Judge, used by one
// goroutine at a time, and not copied.
type Rights struct {
	access *Access
	acls   *auth.Auth // nil: none are known, or none count
	copied bool       // acls are those of the copy: Settle ends that
}

// Judge finds out by which ACLs a request is judged: the owner's, or those of the copy,
// until Settle. It reports false if ACLs count and none are known: then the request may
// do nothing. cancel ends the request when it does not settle in time.
func (a *Access) Judge(r *Rights, cancel context.CancelCauseFunc) bool {
	*r = Rights{access: a}
	if !a.o.Authorize {
		return true
	}
	if r.acls = a.o.Users(); r.acls != nil {
		return true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if r.acls = a.o.Users(); r.acls != nil { // it has just become the owner: see Access.Settle
		return true
	}
	c := a.o.Broker.Copy()
	if c == nil {
		return false
	}
	r.acls, r.copied = c.Users, true
	a.judged[r] = cancel
	return true
}

// Settle ends what Judge began. The request must not touch the broker any more, unless
// it is judged anew.
func (r *Rights) Settle() {
	if !r.copied {
		return
	}
	r.copied = false
	a := r.access
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.judged, r)
	if len(a.judged) == 0 && a.empty != nil {
		close(a.empty)
		a.empty = nil
	}
}

// Copied reports whether the ACLs are those of the copy, and the request has not
// settled.
func (r *Rights) Copied() bool { return r.copied }

// Unknown reports whether nobody knows what the client may do.
func (r *Rights) Unknown() bool { return r.acls == nil && r.access.o.Authorize }

// May reports whether the client may do op to the resource of that name. It may do
// nothing while the ACLs are not known.
func (r *Rights) May(who auth.Who, op auth.Operation, t auth.ResourceType, name string) bool {
	if r.acls == nil {
		return !r.access.o.Authorize
	}
	return r.acls.Allows(who, op, t, name)
}

// MaySome reports whether there can be a resource of the type that the client may do op
// to (KIP-679).
func (r *Rights) MaySome(who auth.Who, op auth.Operation, t auth.ResourceType) bool {
	if r.acls == nil {
		return !r.access.o.Authorize
	}
	return r.acls.AllowsSome(who, op, t)
}

// Later returns May for what goes on when the request is answered.
func (r *Rights) Later(who auth.Who, op auth.Operation, t auth.ResourceType) func(name string) bool {
	later := Rights{access: r.access, acls: r.acls}
	return func(name string) bool { return later.May(who, op, t, name) }
}

// Settle returns when no request is under way any more that is judged by the copy. The
// node calls it before the broker leads, and after Options.Users has what the log says.
func (a *Access) Settle() {
	a.mu.Lock()
	if len(a.judged) == 0 {
		a.mu.Unlock()
		return
	}
	empty := make(chan struct{})
	a.empty = empty
	a.mu.Unlock()
	timer := time.NewTimer(settleTime)
	defer timer.Stop()
	select {
	case <-empty:
		return
	case <-timer.C:
	}
	a.mu.Lock()
	for _, cancel := range a.judged { // it waits for something: its client comes again
		cancel(errSettled)
	}
	a.mu.Unlock()
	<-empty
}
