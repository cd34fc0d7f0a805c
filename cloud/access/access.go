// Package access decides what clients of a node's doors may do, and how much. It uses
// the users, ACLs and quotas of the log, or on a standby a copy of them
// (broker.Copy).
//
// All doors of a node share one Access. A door calls Judge before it performs a
// request, asks the Rights what the client may do, and calls Rights.Settle when the
// request no longer uses the broker. So a node that becomes the owner does nothing on
// rights that may have been revoked. Logins are checked against Users, and usage is
// counted in Quotas.
//
// A door with vhosts asks a Vhost instead, one for each connection.
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

// errSettled ends a request that does not settle in time when the node becomes the
// owner.
var errSettled = errors.New("this node has become the owner")

// settleTime is how long a request judged by the copy may continue when the node
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
	empty  chan struct{}                       // made by Settle; closed when judged becomes empty
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

// OwnUsers returns the users and ACLs of the log, which can be changed, nil while
// this node does not own the catalogue.
func (a *Access) OwnUsers() *auth.Auth { return a.o.Users() }

// Users returns the users and ACLs of the log, or on a standby a read-only copy of
// them, nil if there is neither.
func (a *Access) Users() *auth.Auth {
	if users := a.o.Users(); users != nil {
		return users
	}
	if c := a.o.Broker.Copy(); c != nil {
		return c.Users
	}
	return nil
}

// OwnQuotas returns the limits of the log, which can be changed, nil while this node
// does not own the catalogue.
func (a *Access) OwnQuotas() *quota.Quotas { return a.o.Quotas() }

// Quotas returns the limits of the log, or on a standby a copy of them, nil if there
// is neither.
func (a *Access) Quotas() *quota.Quotas {
	if q := a.o.Quotas(); q != nil {
		return q
	}
	if c := a.o.Broker.Copy(); c != nil {
		return c.Quotas
	}
	return nil
}

// Rights says what the client of one request may do. It is set by Judge, used by one
// goroutine at a time, and must not be copied.
type Rights struct {
	access *Access
	acls   *auth.Auth // nil: no ACLs are known, or none are required
	copied bool       // acls are those of the copy; Settle clears it
}

// Judge sets the ACLs that apply to a request: the owner's, or those of the copy
// until Settle. It reports false if ACLs are required and none are known; then the
// request may do nothing. cancel is called if the request does not settle in time.
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

// Settle ends what Judge began. After it the request must not use the broker, unless
// Judge is called again.
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

// Copied reports whether the request is judged by the copy and has not settled.
func (r *Rights) Copied() bool { return r.copied }

// Unknown reports whether an ACL is required and none are known.
func (r *Rights) Unknown() bool { return r.acls == nil && r.access.o.Authorize }

// May reports whether the client may do op to the resource of that name. It reports
// false while the ACLs are not known.
func (r *Rights) May(who auth.Who, op auth.Operation, t auth.ResourceType, name string) bool {
	if r.acls == nil {
		return !r.access.o.Authorize
	}
	return r.acls.Allows(who, op, t, name)
}

// MaySome reports whether the client may do op to any resource of the type, existing
// or not (KIP-679).
func (r *Rights) MaySome(who auth.Who, op auth.Operation, t auth.ResourceType) bool {
	if r.acls == nil {
		return !r.access.o.Authorize
	}
	return r.acls.AllowsSome(who, op, t)
}

// Later returns a May for work that continues after the request is answered.
func (r *Rights) Later(who auth.Who, op auth.Operation, t auth.ResourceType) func(name string) bool {
	later := Rights{access: r.access, acls: r.acls}
	return func(name string) bool { return later.May(who, op, t, name) }
}

// Settle waits until no request judged by the copy is under way. The node calls it
// before the broker leads, and after Options.Users returns the users of the log.
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
	for _, cancel := range a.judged { // the request is waiting for something; its client will retry
		cancel(errSettled)
	}
	a.mu.Unlock()
	<-empty
}
