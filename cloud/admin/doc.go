// Package admin guards an admin port: the HTTP port of a node or of a gateway by
// which it is administered. It knows who asks (a credential in the Authorization
// header, or a browser's session), what each may do (a role), and under which
// names the port may be asked at all.
//
// A credential is a random token. Who holds one shows it; this end keeps its hash,
// but for the process's own one, which lies in a file that only its service and
// its administrators can read.
package admin

import (
	"fmt"
	"slices"
	"strings"
)

// Role is what a caller may do. Each role may do what the ones before it may.
type Role uint8

// Roles.
const (
	Open       Role = iota // whoever reaches the port; no credential is asked for
	Read                   // look at everything but secrets and what records say
	Operate                // topics, groups, gateways; read and write records
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
		return fmt.Errorf("role %q: there are %s", text, strings.Join(roleNames[Read:], ", "))
	}
	*r = Role(i)
	return nil
}

// Caller is who makes a request.
type Caller struct {
	Name string `json:"name"` // of the credential; "" for one without
	Role Role   `json:"role"`
}
