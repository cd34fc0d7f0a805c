// Package admin guards an admin port: the HTTP port over which a node or a gateway is
// administered. It identifies the caller (by a credential in the Authorization header,
// or by a browser's session), checks the caller's role, and checks the host name of
// each request.
//
// A credential is a random token. The caller shows the token; this end keeps only its
// hash. The exception is the process's own token, which is in a file that only its
// service and its administrators can read.
package admin

import (
	"fmt"
	"slices"
	"strings"
)

// Role is what a caller may do. Each role includes the ones before it.
type Role uint8

// Roles.
const (
	Open       Role = iota // anybody who reaches the port; no credential is needed
	Read                   // read everything except secrets and the content of records and messages
	Operate                // topics, queues, groups, gateways; read and write records and messages
	Administer             // users, permissions, limits, credentials
)

var roleNames = []string{"open", "read", "operate", "administer"}

func (r Role) String() string {
	if int(r) < len(roleNames) {
		return roleNames[r]
	}
	return fmt.Sprintf("role %d", uint8(r))
}

// MarshalText gives the name.
func (r Role) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText takes the name of a role that a credential can have.
func (r *Role) UnmarshalText(text []byte) error {
	i := slices.Index(roleNames, string(text))
	if i <= int(Open) {
		return fmt.Errorf("unknown role %q: use one of %s", text, strings.Join(roleNames[Read:], ", "))
	}
	*r = Role(i)
	return nil
}

// Caller is the author of a request.
type Caller struct {
	Name string `json:"name"` // of the credential; "" for one without
	Role Role   `json:"role"`
}
