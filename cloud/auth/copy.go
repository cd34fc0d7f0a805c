package auth

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/weirmq/weir/cloud/machine"
)

// A standby has a copy of the owner's credentials, ACLs and permissions, but not of the
// administrators. Unlike a snapshot, the copy may come from a node of another version.

// copied is a copy: JSON as in a snapshot. Members that this program does not know are
// ignored.
type copied struct {
	Credentials []json.RawMessage `json:"credentials"` // userCredential
	ACLs        []ACL             `json:"acls"`
	Decoy       []byte            `json:"decoy,omitempty"` // see Auth

	Permissions      []VhostPermissions `json:"permissions,omitempty"`
	TopicPermissions []TopicPermissions `json:"topic_permissions,omitempty"`
}

// Changes counts the entries that were applied. A later Copy contains at least those
// that were counted.
func (a *Auth) Changes() uint64 { return a.changes.Load() }

// Copy encodes the credentials, the ACLs and the permissions for a standby.
func (a *Auth) Copy() []byte {
	a.mu.RLock()
	defer a.mu.RUnlock()
	c := copied{Credentials: []json.RawMessage{}, ACLs: a.acls.all(), Decoy: a.decoy,
		Permissions: a.vhosts.list(userVhost{}), TopicPermissions: a.vhosts.listTopics(topicSelector{})}
	for _, user := range slices.Sorted(maps.Keys(a.users)) {
		for _, m := range slices.Sorted(maps.Keys(a.users[user])) {
			c.Credentials = append(c.Credentials, machine.Encode(userCredential{user, a.users[user][m]}))
		}
	}
	return machine.Encode(c)
}

// Copied returns an Auth with the content of another node's Copy. It can be queried,
// not changed. A credential of an unknown mechanism is left out, since it cannot be
// used here. An unknown ACL is an error: it may deny something. So are permissions that
// cannot be in a log.
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
		a.decoy = c.Decoy // nonexistent users seem to have the same salt at all nodes
	}
	for _, body := range c.Credentials {
		var u userCredential
		if json.Unmarshal(body, &u) != nil || u.check() != nil {
			a.partial = true
			continue
		}
		a.put(u)
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
	if err := a.putPermissions(c.Permissions, c.TopicPermissions); err != nil {
		return nil, fmt.Errorf("decode a copy of users and ACLs: %w", err)
	}
	if n := a.vhosts.count(); n > MaxPermissions {
		return nil, fmt.Errorf("decode a copy of users and ACLs: %w: %d permissions", ErrTooMany, n)
	}
	return a, nil
}

// Supersede ends a copy that the newer copy next has replaced: logins under way fail,
// and Options.Changed of the old copy is called for each user with a credential that
// next does not have. Call it once next is in place.
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
