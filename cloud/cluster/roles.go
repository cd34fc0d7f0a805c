package cluster

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Roles are what a node does in its cluster. The zero value means all of them, as for a
// version that does not know roles.
type Roles uint8

// The roles of a node.
const (
	RoleDoor Roles = 1 << iota // clients and gateways come to it
	RoleMeta                   // it may own the catalogue, shard 0
	RoleLog                    // it may own the other shards

	allRoles = RoleDoor | RoleMeta | RoleLog
)

// roleNames are the names of the roles, as in --roles, in the order of their bits.
var roleNames = []string{"door", "meta", "log"}

// RoleNames lists the names of all roles.
func RoleNames() []string { return append([]string(nil), roleNames...) }

// ParseRoles returns the roles of those names, of which there is at least one. A name that
// is not known is an error.
func ParseRoles(names []string) (Roles, error) {
	var r Roles
	for _, name := range names {
		known := false
		for i, of := range roleNames {
			if name == of {
				r, known = r|1<<i, true
			}
		}
		if !known {
			return 0, fmt.Errorf("unknown role %q: there are %s", name, strings.Join(roleNames, ", "))
		}
	}
	if r == 0 {
		return 0, fmt.Errorf("no role: there are %s", strings.Join(roleNames, ", "))
	}
	return r, nil
}

// Has reports whether all of some roles are among r.
func (r Roles) Has(some Roles) bool { return r == 0 || r&some == some }

// Names lists the names of the roles.
func (r Roles) Names() []string {
	var all []string
	for i, name := range roleNames {
		if r.Has(1 << i) {
			all = append(all, name)
		}
	}
	return all
}

func (r Roles) String() string { return strings.Join(r.Names(), ",") }

// MarshalJSON encodes the names.
func (r Roles) MarshalJSON() ([]byte, error) { return json.Marshal(r.Names()) }

// UnmarshalJSON decodes names. It passes over those of later versions. If none is left,
// the node has none of the roles that this version knows.
func (r *Roles) UnmarshalJSON(body []byte) error {
	var names []string
	if err := json.Unmarshal(body, &names); err != nil {
		return err
	}
	*r = otherRoles
	for _, name := range names {
		if one, err := ParseRoles([]string{name}); err == nil {
			*r |= one
		}
	}
	return nil
}

// otherRoles is set in roles that were read, so that they are not 0 if none of them is
// known.
const otherRoles Roles = 1 << 7

// needed returns the roles that the owner of a shard needs. A cluster of one shard keeps
// everything in it.
func needed(shard, shards uint32) Roles {
	switch {
	case shards == 1:
		return RoleMeta | RoleLog
	case shard == 0:
		return RoleMeta
	}
	return RoleLog
}

// Missing returns the roles that shards need and no live node has. It is 0 for a short time
// after nodes have come or gone.
func (m *Manager) Missing() Roles {
	m.mu.Lock()
	defer m.mu.Unlock()
	var missing Roles
	order := m.candidates()
	if m.draining() || time.Since(m.viewAt) < m.settled() {
		return 0
	}
	for shard, nodes := range order {
		if len(nodes) == 0 {
			missing |= needed(uint32(shard), m.o.Shards())
		}
	}
	return missing
}

// watchRoles logs once that no node can have some shards, and once that there is one.
func (m *Manager) watchRoles() {
	missing := m.Missing()
	switch {
	case missing == m.missing:
	case missing != 0:
		m.missing = missing
		m.o.Log.Warn("no live node has the roles that the cluster needs: clients are told to try again until one starts", "roles", missing.String())
	case m.seen() >= m.settled():
		m.missing = 0
		m.o.Log.Info("there are nodes with all the roles that the cluster needs")
	}
}
