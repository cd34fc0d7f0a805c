package auth

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/weirmq/weir/cloud/machine"
)

// A node that stands by has a copy of what the owner knows: credentials and ACLs,
// not administrators. Unlike a snapshot, it may come from a node of another version.

// copied is a copy: JSON as in a snapshot. Members that this program does not know
// are left out of account.
type copied struct {
	Credentials []json.RawMessage `json:"credentials"` // userCredential
	ACLs        []ACL             `json:"acls"`
	Decoy       []byte            `json:"decoy,omitempty"` // see Auth
}

// Changes counts the entries that were applied. What Copy says afterwards has all
// that were counted, and perhaps more.
func (a *Auth) Changes() uint64 { return a.changes.Load() }

// Copy encodes the credentials and the ACLs for a node that stands by.
func (a *Auth) Copy() []byte {
	a.mu.RLock()
	defer a.mu.RUnlock()
	c := copied{Credentials: []json.RawMessage{}, ACLs: a.acls.all(), Decoy: a.decoy}
	for _, user := range slices.Sorted(maps.Keys(a.users)) {
		for _, m := range slices.Sorted(maps.Keys(a.users[user])) {
			c.Credentials = append(c.Credentials, machine.Encode(userCredential{user, a.users[user][m]}))
		}
	}
	return machine.Encode(c)
}

// Copied returns what another node's Copy has encoded. It can be asked, not changed.
// A credential of a mechanism that this program does not know is left out: nobody can
// log in by it here. An ACL that it does not know is an error: it may deny something.
func Copied(body []byte, o Options) (*Auth, error) {
	var c copied
	if err := json.Unmarshal(body, &c); err != nil {
		return nil, fmt.Errorf("decode a copy of users and ACLs: %w", err)
	}
	if len(c.ACLs) > MaxACLs {
		return nil, fmt.Errorf("decode a copy of users and ACLs: %w: %d ACLs", ErrTooMany, len(c.ACLs))
	}
	a := New(o)
	if len(c.Decoy) > 0 {
		a.decoy = c.Decoy // who does not exist seems to have one salt at all nodes
	}
	for _, body := range c.Credentials {
		var u userCredential
		if json.Unmarshal(body, &u) == nil && u.check() == nil {
			a.put(u)
		}
	}
	if len(a.users) > MaxUsers {
		return nil, fmt.Errorf("decode a copy of users and ACLs: %w: %d users", ErrTooMany, len(a.users))
	}
	for _, acl := range c.ACLs {
		if err := acl.Check(); err != nil {
			return nil, fmt.Errorf("decode a copy of users and ACLs: %w", err)
		}
		a.acls.add(acl)
	}
	return a, nil
}

// Supersede ends a copy that next, which is newer, takes the place of: logins that are
// under way fail, and Options.Changed of the copy is told of each user who had a
// credential that next does not have. It is called once next is in the copy's place.
func (a *Auth) Supersede(next *Auth) {
	var gone []string
	a.mu.RLock()
	for user, credentials := range a.users {
		for m, c := range credentials {
			if now, ok := next.credential(user, m); !ok || !c.equal(now) {
				gone = append(gone, user)
				break
			}
		}
	}
	a.mu.RUnlock()
	a.generation.Add(1)
	for _, user := range gone {
		if a.changed != nil {
			a.changed(user)
		}
	}
}

func (c Credential) equal(o Credential) bool {
	return c.Mechanism == o.Mechanism && c.Iterations == o.Iterations && slices.Equal(c.Salt, o.Salt) &&
		slices.Equal(c.StoredKey, o.StoredKey) && slices.Equal(c.ServerKey, o.ServerKey)
}
