package auth

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/weirmq/weir/cloud/machine"
)

// Kinds of journal entries (see commitlog's FORMAT.md for the ranges). Bodies
// are JSON: they are few and small.
const (
	kindCredential     uint16 = 140 + iota // a user got a credential
	kindCredentialGone                     // a credential was taken away
	kindACLs                               // ACLs were added
	kindACLsGone                           // ACLs were removed
)

// Kinds of journal entries about administrators. They are of format level 2.
const (
	kindAdmin     uint16 = 144 + iota // an administrator's credential was made or replaced
	kindAdminGone                     // one was removed
)

// Kinds of journal entries about permissions in vhosts. They are of format level 2.
const (
	kindPermissions          uint16 = 146 + iota // permissions of a user in a vhost were set
	kindPermissionsGone                          // permissions in vhosts were removed
	kindTopicPermissions                         // permissions of a user for an exchange's routing keys were set
	kindTopicPermissionsGone                     // permissions for routing keys were removed
)

// Kinds implements state.Machine.
func (a *Auth) Kinds() []uint16 {
	return []uint16{kindCredential, kindCredentialGone, kindACLs, kindACLsGone, kindAdmin, kindAdminGone,
		kindPermissions, kindPermissionsGone, kindTopicPermissions, kindTopicPermissionsGone}
}

// userCredential is the body of kindCredential; kindCredentialGone has no more than
// the user and the mechanism.
type userCredential struct {
	User string `json:"user"`
	Credential
}

// Apply implements state.Machine.
func (a *Auth) Apply(kind uint16, body []byte) error {
	defer a.changes.Add(1)
	switch kind {
	case kindCredential, kindCredentialGone:
		return a.applyCredential(kind, body)
	case kindAdmin, kindAdminGone:
		return a.applyAdmin(kind, body)
	case kindPermissions, kindPermissionsGone, kindTopicPermissions, kindTopicPermissionsGone:
		return a.applyPermissions(kind, body)
	case kindACLs, kindACLsGone:
		a.mu.Lock()
		defer a.mu.Unlock()
		var list []ACL
		if err := json.Unmarshal(body, &list); err != nil {
			return fmt.Errorf("decode an entry of ACLs: %w", err)
		}
		for _, acl := range list {
			if err := acl.Check(); err != nil {
				return fmt.Errorf("decode an entry of ACLs: %w", err)
			}
			if kind == kindACLs {
				a.acls.add(acl)
			} else {
				a.acls.remove(acl)
			}
		}
	default:
		return fmt.Errorf("auth entry of kind %d", kind)
	}
	return nil
}

func (a *Auth) applyCredential(kind uint16, body []byte) error {
	var u userCredential
	if err := json.Unmarshal(body, &u); err != nil {
		return fmt.Errorf("decode a credential entry: %w", err)
	}
	if kind == kindCredential {
		if err := u.check(); err != nil {
			return fmt.Errorf("decode a credential entry: %w", err)
		}
	}
	a.mu.Lock()
	_, had := a.users[u.User][u.Mechanism]
	if kind == kindCredential {
		a.put(u)
	} else if delete(a.users[u.User], u.Mechanism); len(a.users[u.User]) == 0 {
		delete(a.users, u.User)
	}
	a.mu.Unlock()
	if had {
		a.generation.Add(1)
		if a.changed != nil {
			a.changed(u.User)
		}
	}
	return nil
}

func (a *Auth) put(u userCredential) {
	if a.users[u.User] == nil {
		a.users[u.User] = make(map[Mechanism]Credential)
	}
	a.users[u.User][u.Mechanism] = u.Credential
}

func (u userCredential) check() error {
	if err := checkName("user", u.User); err != nil {
		return err
	}
	return u.Credential.Check()
}

func (a *Auth) propose(ctx context.Context, kind uint16, v any) error {
	return machine.Propose(ctx, a.log, kind, "an auth entry", v)
}

func (a *Auth) proposeACLs(ctx context.Context, kind uint16, acls []ACL) error {
	for chunk := range slices.Chunk(acls, chunkACLs) {
		if err := a.propose(ctx, kind, chunk); err != nil {
			return err
		}
	}
	return nil
}

func (a *Auth) applyAdmin(kind uint16, body []byte) error {
	var entry Admin
	if err := json.Unmarshal(body, &entry); err != nil {
		return fmt.Errorf("decode an entry of an administrator: %w", err)
	}
	if kind == kindAdmin {
		if err := entry.check(); err != nil {
			return fmt.Errorf("decode an entry of an administrator: %w", err)
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if kind == kindAdmin {
		a.admins.put(entry)
	} else {
		a.admins.remove(entry.Name)
	}
	return nil
}

func (a *Auth) applyPermissions(kind uint16, body []byte) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var err error
	switch kind {
	case kindPermissions:
		err = decodeThen(body, VhostPermissions.check, a.vhosts.put)
	case kindPermissionsGone:
		err = decodeThen(body, nil, a.vhosts.remove)
	case kindTopicPermissions:
		err = decodeThen(body, TopicPermissions.check, a.vhosts.putTopic)
	case kindTopicPermissionsGone:
		err = decodeThen(body, nil, a.vhosts.removeTopic)
	}
	if err != nil {
		return fmt.Errorf("decode an entry of permissions: %w", err)
	}
	return nil
}

// decodeThen calls do with what body says, if that passes the check.
func decodeThen[T any](body []byte, check func(T) error, do func(T)) error {
	var v T
	if err := json.Unmarshal(body, &v); err != nil {
		return err
	}
	if check != nil {
		if err := check(v); err != nil {
			return err
		}
	}
	do(v)
	return nil
}
