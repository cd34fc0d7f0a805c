package auth

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/weirmq/weir/cloud/admin"
	"github.com/weirmq/weir/cloud/machine"
)

// AdminLevel is the format level from which on the log has administrators.
const AdminLevel = 2

// Bounds of administrators.
const (
	MaxAdmins = 1_000
	maxEnded  = 1_000 // removed credentials that are remembered; the oldest is forgotten
)

// Admin is a user of the admin port.
type Admin struct {
	Name    string     `json:"name"`
	Role    admin.Role `json:"role"`
	Hash    []byte     `json:"hash"` // of the token
	Created time.Time  `json:"created"`
}

// check returns an error if a cannot be in the log.
func (a Admin) check() error {
	if err := checkName("administrator", a.Name); err != nil {
		return err
	}
	if a.Role < admin.Read || a.Role > admin.Administer {
		return fmt.Errorf("%w: an administrator cannot have %s", ErrInvalid, a.Role)
	}
	if len(a.Hash) != len(admin.Hash{}) {
		return fmt.Errorf("%w: hash of %d bytes", ErrInvalid, len(a.Hash))
	}
	return nil
}

// admins are the administrators in the log.
type admins struct {
	byName map[string]Admin
	byHash map[admin.Hash]string
	ended  []admin.Hash // hashes of removed or replaced tokens; oldest first
}

func newAdmins() admins {
	return admins{byName: make(map[string]Admin), byHash: make(map[admin.Hash]string)}
}

func (s *admins) put(a Admin) {
	hash := admin.Hash(a.Hash)
	if s.byName[a.Name].Hash != nil && !slices.Equal(s.byName[a.Name].Hash, a.Hash) {
		s.remove(a.Name)
	}
	if other, ok := s.byHash[hash]; ok {
		delete(s.byName, other) // one token is one administrator's
	}
	s.ended = slices.DeleteFunc(s.ended, func(h admin.Hash) bool { return h == hash })
	s.byName[a.Name], s.byHash[hash] = a, a.Name
}

func (s *admins) remove(name string) {
	a, ok := s.byName[name]
	if !ok {
		return
	}
	delete(s.byName, name)
	delete(s.byHash, admin.Hash(a.Hash))
	s.ended = append(s.ended, admin.Hash(a.Hash))
	if len(s.ended) > maxEnded {
		s.ended = slices.Delete(s.ended, 0, len(s.ended)-maxEnded)
	}
}

func (s *admins) list() []Admin {
	all := make([]Admin, 0, len(s.byName))
	for _, name := range slices.Sorted(maps.Keys(s.byName)) {
		all = append(all, s.byName[name])
	}
	return all
}

// SetAdmin gives the holder of a token access to the admin port. If the name exists, it
// gets this role and this token, and its old token becomes invalid. Durable on return.
// Errors: ErrInvalid, ErrTooMany, machine.ErrLevel.
func (a *Auth) SetAdmin(ctx context.Context, name string, role admin.Role, hash admin.Hash, now time.Time) error {
	defer a.changing.Take(ctx)()
	entry := Admin{Name: name, Role: role, Hash: hash[:], Created: now.UTC().Truncate(time.Second)}
	if err := entry.check(); err != nil {
		return err
	}
	if a.log.Level() < AdminLevel {
		return machine.ErrLevel
	}
	a.mu.RLock()
	_, known := a.admins.byName[name]
	full := len(a.admins.byName) >= MaxAdmins
	holder, used := a.admins.byHash[hash]
	ended := slices.Contains(a.admins.ended, hash)
	a.mu.RUnlock()
	switch {
	case used && holder != name:
		return fmt.Errorf("%w: that token belongs to %s", ErrInvalid, holder)
	case ended:
		return fmt.Errorf("%w: that token was removed and cannot be used again", ErrInvalid)
	case full && !known:
		return fmt.Errorf("%w: there are %d administrators already", ErrTooMany, MaxAdmins)
	}
	return a.propose(ctx, kindAdmin, entry)
}

// RemoveAdmin removes a credential. Durable on return. The error is ErrUnknownAdmin if
// there is none of that name.
func (a *Auth) RemoveAdmin(ctx context.Context, name string) error {
	defer a.changing.Take(ctx)()
	a.mu.RLock()
	_, known := a.admins.byName[name]
	a.mu.RUnlock()
	if !known {
		return fmt.Errorf("%w: %q", ErrUnknownAdmin, name)
	}
	return a.propose(ctx, kindAdminGone, struct {
		Name string `json:"name"`
	}{name})
}

// Admins lists the administrators by name.
func (a *Auth) Admins() []Admin {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.admins.list()
}

// Administrator returns the caller whose token has that hash, or admin.ErrUnknown.
func (a *Auth) Administrator(hash admin.Hash) (admin.Caller, error) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	name, ok := a.admins.byHash[hash]
	if !ok {
		return admin.Caller{}, admin.ErrUnknown
	}
	return admin.Caller{Name: name, Role: a.admins.byName[name].Role}, nil
}

// Ended reports whether a token was an administrator's and is no longer.
func (a *Auth) Ended(hash admin.Hash) bool {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return slices.Contains(a.admins.ended, hash)
}
