// Package auth keeps the users of the doors, how they log in and what they may do, and
// the administrators of the admin port. It never stores passwords or tokens, only what
// a SCRAM server needs to check a password [RFC-5802], and the hash of a token.
// Everything is in the journal, so every owner of the shard has the same.
package auth

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/weirmq/weir/cloud/machine"
)

// Limits that keep an administrator's mistake from filling the memory.
const (
	MaxUsers = 10_000
	MaxACLs  = 20_000
	MaxName  = 1_000 // bytes: of a user, a principal, a host, a resource

	// chunkACLs is the most ACLs in one journal entry.
	chunkACLs = 250
)

// Options configure an Auth. The zero value is usable.
type Options struct {
	SuperUsers []string // principals ("User:name") that may do everything

	// Decoy is the key of the salts that nonexistent users seem to have. Nodes with the
	// same key show the same salts. nil: random.
	Decoy []byte

	// Changed is called when a credential of a user was replaced or removed, so that
	// sessions which used it can be closed. It is called for each such entry, also for
	// those read by a recovery, and must not block. A door that checks Generation
	// before and after a login misses no change between the two.
	Changed func(user string)
}

// Auth is a state.Machine.
type Auth struct {
	super      map[string]bool
	everything *VhostRights // of a super user
	changed    func(user string)
	decoy      []byte // key of the salts that nonexistent users seem to have

	changing machine.Turn // one change at a time, from the check to the durable entry
	log      machine.Log  // set by Start
	partial  bool         // it is a copy without some credentials; not changed

	mu     sync.RWMutex // guards what Apply changes
	users  map[string]map[Mechanism]Credential
	acls   rules
	admins admins
	vhosts vhosts

	generation atomic.Uint64 // counts the calls of Changed
	changes    atomic.Uint64 // see Changes
}

// New returns an empty Auth.
func New(o Options) *Auth {
	a := &Auth{super: make(map[string]bool), everything: &VhostRights{all: true}, changed: o.Changed, decoy: o.Decoy,
		users: make(map[string]map[Mechanism]Credential), acls: newRules(), admins: newAdmins(), vhosts: make(vhosts)}
	for _, principal := range o.SuperUsers {
		a.super[principal] = true
	}
	if a.decoy == nil {
		a.decoy = make([]byte, 32)
		rand.Read(a.decoy) // never fails
	}
	return a
}

// Start begins to serve.
func (a *Auth) Start(_ context.Context, log machine.WaitingLog) { a.Serve(log) }

// Serve makes Auth accept changes, which it writes to log.
func (a *Auth) Serve(log machine.Log) { a.log = log }

// Close ends the service, for which nothing runs.
func (a *Auth) Close() error { return nil }

// Generation counts the credentials that were replaced or removed. If it changes during
// a login, the credential may be gone: the login must be refused, and the client tries
// again.
func (a *Auth) Generation() uint64 { return a.generation.Load() }

// checkName refuses a name that does not fit in a line or a request.
func checkName(what, name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%w: the name of the %s is empty", ErrInvalid, what)
	case len(name) > MaxName:
		return fmt.Errorf("%w: the name of the %s has more than %d bytes", ErrInvalid, what, MaxName)
	case strings.ToValidUTF8(name, "") != name || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return fmt.Errorf("%w: the name of the %s has control characters or is not UTF-8", ErrInvalid, what)
	}
	return nil
}

// User is a user with the mechanisms of its credentials.
type User struct {
	Name        string
	Credentials map[Mechanism]int // iterations
}

// Users lists the users by name.
func (a *Auth) Users() []User {
	a.mu.RLock()
	defer a.mu.RUnlock()
	all := make([]User, 0, len(a.users))
	for _, name := range slices.Sorted(maps.Keys(a.users)) {
		u := User{Name: name, Credentials: make(map[Mechanism]int)}
		for m, c := range a.users[name] {
			u.Credentials[m] = c.Iterations
		}
		all = append(all, u)
	}
	return all
}

// Empty reports whether there are no users. A copy in which a credential was left out
// has some.
func (a *Auth) Empty() bool {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return len(a.users) == 0 && !a.partial
}

// SetCredentials stores the credentials with which a user can log in, one for each
// mechanism. Durable on return; Changed is called if one is replaced. Errors:
// ErrInvalid, ErrTooMany, and machine.ErrLevel for a salt that older programs could not read.
func (a *Auth) SetCredentials(ctx context.Context, user string, credentials ...Credential) error {
	defer a.changing.Take(ctx)()
	for _, c := range credentials {
		u := userCredential{user, c}
		if err := u.check(); err != nil {
			return err
		}
		if len(c.Salt) < minSalt && a.log.Level() < ShortSaltLevel {
			return fmt.Errorf("salt of %d bytes is shorter than %d: %w", len(c.Salt), minSalt, machine.ErrLevel)
		}
		if a.full(user) {
			return fmt.Errorf("%w: there are %d users already", ErrTooMany, MaxUsers)
		}
		if err := a.propose(ctx, kindCredential, u); err != nil {
			return err
		}
	}
	return nil
}

func (a *Auth) full(user string) bool {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return len(a.users) >= MaxUsers && a.users[user] == nil
}

// RemoveCredential removes a mechanism from a user, and the user with the last one.
// Durable on return; Changed is called. The error is ErrUnknownUser if there is nothing
// to remove.
func (a *Auth) RemoveCredential(ctx context.Context, user string, m Mechanism) error {
	defer a.changing.Take(ctx)()
	if _, ok := a.credential(user, m); !ok {
		return fmt.Errorf("%w: %s of user %q", ErrUnknownUser, m, user)
	}
	return a.propose(ctx, kindCredentialGone, struct {
		User      string    `json:"user"`
		Mechanism Mechanism `json:"mechanism"`
	}{user, m})
}

// RemoveUser removes the permissions of a user in vhosts, and then all its mechanisms;
// its ACLs stay. Durable on return; after an error some may be left. The error is
// ErrUnknownUser if there is no user of that name.
func (a *Auth) RemoveUser(ctx context.Context, user string) error {
	a.mu.RLock()
	mechanisms := slices.Sorted(maps.Keys(a.users[user]))
	a.mu.RUnlock()
	if len(mechanisms) == 0 {
		return fmt.Errorf("%w: user %q", ErrUnknownUser, user)
	}
	if err := a.removePermissions(ctx, userVhost{User: user}); err != nil {
		return err
	}
	for _, m := range mechanisms {
		if err := a.RemoveCredential(ctx, user, m); err != nil {
			return err
		}
	}
	return nil
}

func (a *Auth) credential(user string, m Mechanism) (Credential, bool) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	c, ok := a.users[user][m]
	return c, ok
}

// AddACLs adds ACLs; existing ones stay. Durable on return: all of them, or after an
// error with more than chunkACLs perhaps only the first ones. Errors: ErrInvalid,
// ErrTooMany.
func (a *Auth) AddACLs(ctx context.Context, acls ...ACL) error {
	defer a.changing.Take(ctx)()
	for _, acl := range acls {
		if err := acl.Check(); err != nil {
			return err
		}
	}
	a.mu.RLock()
	acls = slices.DeleteFunc(slices.Clone(acls), a.acls.has)
	full := a.acls.count+len(acls) > MaxACLs
	a.mu.RUnlock()
	if full {
		return fmt.Errorf("%w: at most %d ACLs are allowed", ErrTooMany, MaxACLs)
	}
	return a.proposeACLs(ctx, kindACLs, acls)
}

// RemoveACLs removes the ACLs that a filter matches, and returns them. Durable on
// return.
func (a *Auth) RemoveACLs(ctx context.Context, f Filter) ([]ACL, error) {
	defer a.changing.Take(ctx)()
	found := a.ACLs(f)
	return found, a.proposeACLs(ctx, kindACLsGone, found)
}

// ACLs lists the ACLs that a filter matches, in a fixed order.
func (a *Auth) ACLs(f Filter) []ACL {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return slices.DeleteFunc(a.acls.all(), func(acl ACL) bool { return !f.matches(acl) })
}
