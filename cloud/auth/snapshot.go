package auth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// snapshotVersion is that of the JSON below.
const snapshotVersion = 1

var errShape = errors.New("unexpected shape")

// snapshot is a checkpoint: credentials by user and mechanism, ACLs in their
// order.
type snapshot struct {
	Version     int              `json:"version"`
	Credentials []userCredential `json:"credentials"`
	ACLs        []ACL            `json:"acls"`
}

// Snapshot implements commitlog.Machine.
func (a *Auth) Snapshot() []byte {
	a.mu.RLock()
	defer a.mu.RUnlock()
	s := snapshot{Version: snapshotVersion, Credentials: []userCredential{}, ACLs: a.acls.all()}
	for _, user := range slices.Sorted(maps.Keys(a.users)) {
		for _, m := range slices.Sorted(maps.Keys(a.users[user])) {
			s.Credentials = append(s.Credentials, userCredential{user, a.users[user][m]})
		}
	}
	body, err := json.Marshal(s)
	if err != nil {
		panic(fmt.Sprintf("encode what was decoded from JSON: %v", err))
	}
	return body
}

// Restore implements commitlog.Machine. An error changes nothing.
func (a *Auth) Restore(body []byte) error {
	next := New(Options{})
	if len(body) > 0 {
		if err := next.decode(body); err != nil {
			return fmt.Errorf("restore users and ACLs: %w", err)
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.users, a.acls = next.users, next.acls
	return nil
}

// decode fills an empty Auth that nobody else knows.
func (a *Auth) decode(body []byte) error {
	var s snapshot
	if err := json.Unmarshal(body, &s); err != nil || s.Version != snapshotVersion {
		return fmt.Errorf("snapshot of version %d: %w", s.Version, errors.Join(err, errShape))
	}
	for _, u := range s.Credentials {
		if err := u.check(); err != nil {
			return errors.Join(err, errShape)
		}
		a.put(u)
	}
	for _, acl := range s.ACLs {
		if err := acl.Check(); err != nil {
			return errors.Join(err, errShape)
		}
		a.acls.add(acl)
	}
	// One state has one encoding: what is out of order, or there twice, or
	// unknown, is not what Snapshot wrote.
	if !bytes.Equal(a.Snapshot(), body) {
		return fmt.Errorf("another encoding than this program's: %w", errShape)
	}
	return nil
}
