package cluster

import (
	"encoding/json"
	"testing"
)

// TestRoles: names become roles and names again, and what a later version says does no
// harm.
func TestRoles(t *testing.T) {
	for text, want := range map[string]Roles{`["door"]`: RoleDoor, `["log","meta"]`: RoleMeta | RoleLog, `["log","store"]`: RoleLog, `["store"]`: 0} {
		n, err := ReadInfo([]byte(`{"name":"a","roles":` + text + `}`))
		if err != nil {
			t.Fatal(err)
		}
		for _, role := range []Roles{RoleDoor, RoleMeta, RoleLog} {
			if n.Roles.Has(role) != (want&role != 0) {
				t.Errorf("%s: %v has %v: %v", text, n.Roles, role, n.Roles.Has(role))
			}
		}
	}
	if n, err := ReadInfo([]byte(`{"name":"a"}`)); err != nil || !n.Roles.Has(allRoles) {
		t.Errorf("a node of an earlier version has the roles %v, %v", n.Roles, err)
	}
	if _, err := ReadInfo([]byte(`{"name":"a","roles":"all"}`)); err == nil {
		t.Error("roles that cannot be read are none of a node's")
	}
	for _, names := range [][]string{nil, {"doors"}, {"door", ""}} {
		if r, err := ParseRoles(names); err == nil {
			t.Errorf("%q are the roles %v", names, r)
		}
	}
	for _, r := range []Roles{0, allRoles} { // as earlier versions write it
		body, err := Node{Name: "a", Roles: r}.Info(AddressesLevel)
		if err != nil {
			t.Fatal(err)
		}
		var members map[string]any
		if err := json.Unmarshal(body, &members); err != nil || members["roles"] != nil {
			t.Errorf("%s, %v", body, err)
		}
	}
	body, err := Node{Name: "a", Roles: RoleDoor | RoleLog}.Info(AddressesLevel)
	if n, read := ReadInfo(body); err != nil || read != nil || n.Roles.String() != "door,log" {
		t.Errorf("%s: %v, %v, %v", body, n.Roles, err, read)
	}
}

// TestWantRoles: only nodes with the roles for a shard are candidates, those that can own
// data have even parts, and who has the catalogue has no less of them for it if another
// node could have it alone.
func TestWantRoles(t *testing.T) {
	for name, c := range map[string]struct {
		nodes       []candidate
		first       string // of shard 0; "": any
		none        bool   // nobody can have the catalogue
		least, most int    // shards of each log node
	}{
		"tiers":          {[]candidate{{"a", RoleDoor}, {"b", RoleMeta}, {"c", RoleLog}, {"d", RoleLog}, {"e", RoleLog | RoleMeta}}, "b", false, 5, 6},
		"no meta alone":  {[]candidate{{"a", RoleDoor}, {"c", RoleLog}, {"d", RoleLog}, {"e", RoleLog | RoleMeta}}, "e", false, 5, 6},
		"no meta":        {[]candidate{{"c", RoleLog}, {"d", RoleLog | RoleDoor}, {"e", RoleLog}, {"f", RoleLog}, {"g", RoleLog}, {"h", RoleLog}}, "", true, 2, 3},
		"two for it":     {[]candidate{{"a", RoleMeta}, {"b", RoleMeta | RoleDoor}, {"c", 0}}, "", false, 15, 15},
		"older versions": {[]candidate{{"a", 0}, {"b", 0}, {"c", RoleDoor}}, "", false, 8, 8},
	} {
		load := make(map[string]int)
		for shard, order := range want(16, c.nodes) {
			if c.none && shard == 0 {
				if len(order) > 0 {
					t.Errorf("%s: %v for the catalogue", name, order)
				}
				continue
			}
			if shard == 0 && c.first != "" && order[0] != c.first {
				t.Errorf("%s: %v for the catalogue", name, order)
			}
			candidates := 0
			for _, n := range c.nodes {
				if n.roles.Has(needed(uint32(shard), 16)) {
					candidates++
				}
			}
			if len(order) != candidates {
				t.Errorf("%s: %d candidates for shard %d, want %d", name, len(order), shard, candidates)
			}
			load[order[0]]++
		}
		for _, n := range c.nodes {
			if has := load[n.name]; n.roles.Has(RoleLog) && (has < c.least || has > c.most) {
				t.Errorf("%s: %s should have %d shards", name, n.name, has)
			}
		}
	}
	one := want(1, []candidate{{"a", RoleMeta}, {"b", RoleLog}, {"c", RoleMeta | RoleLog}})
	if len(one[0]) != 1 || one[0][0] != "c" {
		t.Errorf("%v for the only shard", one[0])
	}
}
