package auth

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/weirmq/weir/cloud/admin"
	"github.com/weirmq/weir/cloud/machine"
)

// snapshotVersion is that of the JSON below.
const snapshotVersion = 1

// snapshot is a checkpoint: credentials by user and mechanism, ACLs in their order,
// administrators by name, permissions by user, vhost and exchange. What format level 1
// does not have is left out.
type snapshot struct {
	Version          int                `json:"version"`
	Credentials      []userCredential   `json:"credentials"`
	ACLs             []ACL              `json:"acls"`
	Admins           []Admin            `json:"admins,omitempty"`
	Ended            [][]byte           `json:"ended_admins,omitempty"` // hashes, oldest first
	Permissions      []VhostPermissions `json:"permissions,omitempty"`
	TopicPermissions []TopicPermissions `json:"topic_permissions,omitempty"`
}

// Snapshot implements state.Machine.
func (a *Auth) Snapshot() []byte {
	a.mu.RLock()
	defer a.mu.RUnlock()
	s := snapshot{Version: snapshotVersion, Credentials: []userCredential{}, ACLs: a.acls.all()}
	for _, user := range slices.Sorted(maps.Keys(a.users)) {
		for _, m := range slices.Sorted(maps.Keys(a.users[user])) {
			s.Credentials = append(s.Credentials, userCredential{user, a.users[user][m]})
		}
	}
	s.Admins = a.admins.list()
	for _, hash := range a.admins.ended {
		s.Ended = append(s.Ended, hash[:])
	}
	s.Permissions = a.vhosts.list(userVhost{})
	s.TopicPermissions = a.vhosts.listTopics(topicSelector{})
	return machine.Encode(s)
}

// Restore implements state.Machine. An error changes nothing.
func (a *Auth) Restore(body []byte) error {
	next := New(Options{})
	if len(body) > 0 {
		if err := next.decode(body); err != nil {
			return fmt.Errorf("restore users and ACLs: %w", err)
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.users, a.acls, a.admins, a.vhosts = next.users, next.acls, next.admins, next.vhosts
	return nil
}

// decode fills an empty Auth that is not shared yet.
func (a *Auth) decode(body []byte) error {
	var s snapshot
	if err := json.Unmarshal(body, &s); err != nil || s.Version != snapshotVersion {
		return fmt.Errorf("snapshot of version %d: %w", s.Version, errors.Join(err, machine.ErrShape))
	}
	for _, u := range s.Credentials {
		if err := u.check(); err != nil {
			return errors.Join(err, machine.ErrShape)
		}
		a.put(u)
	}
	for _, acl := range s.ACLs {
		if err := acl.Check(); err != nil {
			return errors.Join(err, machine.ErrShape)
		}
		a.acls.add(acl)
	}
	for _, one := range s.Admins {
		if err := one.check(); err != nil {
			return errors.Join(err, machine.ErrShape)
		}
		a.admins.put(one)
	}
	for _, hash := range s.Ended {
		if len(hash) != len(admin.Hash{}) || len(s.Ended) > maxEnded {
			return fmt.Errorf("%d administrators that have ended: %w", len(s.Ended), machine.ErrShape)
		}
		a.admins.ended = append(a.admins.ended, admin.Hash(hash))
	}
	if err := a.putPermissions(s.Permissions, s.TopicPermissions); err != nil {
		return errors.Join(err, machine.ErrShape)
	}
	return machine.Canonical(a.Snapshot(), body)
}

// putPermissions fills an empty Auth that is not shared yet.
func (a *Auth) putPermissions(vhosts []VhostPermissions, topics []TopicPermissions) error {
	for _, p := range vhosts {
		if err := p.check(); err != nil {
			return err
		}
		a.vhosts.put(p)
	}
	for _, p := range topics {
		if err := p.check(); err != nil {
			return err
		}
		a.vhosts.putTopic(p)
	}
	return nil
}
