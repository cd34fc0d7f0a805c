package auth

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// ResourceType is what an ACL is about. The numbers of this and the types below
// are Kafka's.
type ResourceType int8

// Resource types. There is one cluster resource: Cluster.
const (
	Topic           ResourceType = 2
	Group           ResourceType = 3
	ClusterResource ResourceType = 4
	TransactionalID ResourceType = 5
)

// Cluster is the name of the one cluster resource.
const Cluster = "kafka-cluster"

// PatternType is how an ACL names its resources.
type PatternType int8

// Pattern types. Literal "*" is every resource of the type. Match is for filters only:
// it selects the ACLs that apply to a resource of that name.
const (
	Match    PatternType = 2
	Literal  PatternType = 3
	Prefixed PatternType = 4
)

// Permission is the effect of an ACL. A Deny overrides every Allow.
type Permission int8

// Permissions.
const (
	Deny  Permission = 2
	Allow Permission = 3
)

// Operation is something that a user does to a resource.
type Operation int8

// Operations. Permission to Read, Write, Delete or Alter includes Describe, and
// AlterConfigs includes DescribeConfigs; All is every operation.
const (
	All             Operation = 2
	Read            Operation = 3
	Write           Operation = 4
	Create          Operation = 5
	Delete          Operation = 6
	Alter           Operation = 7
	Describe        Operation = 8
	ClusterAction   Operation = 9
	DescribeConfigs Operation = 10
	AlterConfigs    Operation = 11
	IdempotentWrite Operation = 12
)

var (
	resourceTypes = map[ResourceType]string{Topic: "topic", Group: "group", ClusterResource: "cluster", TransactionalID: "transactional-id"}
	patternTypes  = map[PatternType]string{Match: "match", Literal: "literal", Prefixed: "prefixed"}
	permissions   = map[Permission]string{Deny: "deny", Allow: "allow"}
	operations    = map[Operation]string{All: "all", Read: "read", Write: "write", Create: "create", Delete: "delete", Alter: "alter",
		Describe: "describe", ClusterAction: "cluster-action", DescribeConfigs: "describe-configs", AlterConfigs: "alter-configs",
		IdempotentWrite: "idempotent-write"}
)

// supported lists the operations that each resource type has.
var supported = map[ResourceType][]Operation{
	Topic:           {Read, Write, Create, Describe, Delete, Alter, DescribeConfigs, AlterConfigs},
	Group:           {Read, Describe, Delete, DescribeConfigs, AlterConfigs},
	ClusterResource: {Create, ClusterAction, DescribeConfigs, AlterConfigs, IdempotentWrite, Alter, Describe},
	TransactionalID: {Describe, Write},
}

// Operations lists the operations that a resource type has.
func Operations(t ResourceType) []Operation { return supported[t] }

// implied lists the operations that include this one.
func implied(op Operation) []Operation {
	switch op {
	case Describe:
		return []Operation{Describe, All, Read, Write, Delete, Alter}
	case DescribeConfigs:
		return []Operation{DescribeConfigs, All, AlterConfigs}
	}
	return []Operation{op, All}
}

// Resource is the pattern of an ACL.
type Resource struct {
	Type    ResourceType `json:"type"`
	Pattern PatternType  `json:"pattern"` // Literal or Prefixed
	Name    string       `json:"name"`
}

// Rule is what an ACL says about its resources.
type Rule struct {
	Principal  string     `json:"principal"` // "User:name", or Everybody
	Host       string     `json:"host"`      // IP address of the client, or "*"
	Operation  Operation  `json:"operation"`
	Permission Permission `json:"permission"`
}

// ACL allows or denies an operation on resources to a user.
type ACL struct {
	Resource
	Rule
}

const (
	// Everybody is the principal of an ACL for all users.
	Everybody = "User:*"
	// Any is every host, and the name of every resource of a type.
	Any = "*"

	userPrefix = "User:"
)

// Principal is how ACLs name a user.
func Principal(user string) string { return userPrefix + user }

// UserOf is the inverse of Principal.
func UserOf(principal string) string { return strings.TrimPrefix(principal, userPrefix) }

// Check returns ErrInvalid if the ACL cannot be added.
func (a ACL) Check() error {
	for _, err := range []error{
		checkName("resource", a.Name), checkName("principal", a.Principal), checkName("host", a.Host),
		known(a.Type, resourceTypes), known(a.Pattern, patternTypes), known(a.Permission, permissions), known(a.Operation, operations),
	} {
		if err != nil {
			return err
		}
	}
	switch {
	case a.Pattern == Match:
		return fmt.Errorf("%w: an ACL is literal or prefixed", ErrInvalid)
	case !strings.HasPrefix(a.Principal, userPrefix) || a.Principal == userPrefix:
		return fmt.Errorf("%w: principal %q is not User:NAME", ErrInvalid, a.Principal)
	case a.Type == ClusterResource && a.Name != Cluster:
		return fmt.Errorf("%w: the only cluster is called %s", ErrInvalid, Cluster)
	}
	return nil
}

func known[T ~int8](v T, names map[T]string) error {
	if _, ok := names[v]; !ok {
		return fmt.Errorf("%w: %T %d", ErrInvalid, v, v)
	}
	return nil
}

func compare(a, b ACL) int {
	return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Pattern, b.Pattern), cmp.Compare(a.Name, b.Name),
		cmp.Compare(a.Principal, b.Principal), cmp.Compare(a.Host, b.Host), cmp.Compare(a.Operation, b.Operation), cmp.Compare(a.Permission, b.Permission))
}

// Filter selects ACLs; a zero field selects all. With Pattern Match, Name selects the
// ACLs that apply to the resource of that name.
type Filter struct {
	Type       ResourceType
	Pattern    PatternType
	Name       string
	Principal  string
	Host       string
	Operation  Operation
	Permission Permission
}

func (f Filter) matches(a ACL) bool {
	return (f.Type == 0 || f.Type == a.Type) && (f.Principal == "" || f.Principal == a.Principal) &&
		(f.Host == "" || f.Host == a.Host) && (f.Operation == 0 || f.Operation == a.Operation) &&
		(f.Permission == 0 || f.Permission == a.Permission) && f.matchesName(a.Resource)
}

func (f Filter) matchesName(r Resource) bool {
	if f.Pattern != Match {
		return (f.Pattern == 0 || f.Pattern == r.Pattern) && (f.Name == "" || f.Name == r.Name)
	}
	return f.Name == "" || r.covers(f.Name)
}

// covers reports whether the pattern applies to a resource of that name.
func (r Resource) covers(name string) bool {
	if r.Pattern == Prefixed {
		return strings.HasPrefix(name, r.Name)
	}
	return r.Name == name || r.Name == Any
}

// rules are ACLs, stored so that those for one resource are found at once.
type rules struct {
	of       map[Resource]map[Rule]bool
	prefixes map[ResourceType]map[int]int // number of prefixed patterns of each length
	count    int
}

func newRules() rules {
	return rules{of: make(map[Resource]map[Rule]bool), prefixes: make(map[ResourceType]map[int]int)}
}

func (r *rules) has(a ACL) bool { return r.of[a.Resource][a.Rule] }

func (r *rules) add(a ACL) {
	if r.has(a) {
		return
	}
	if r.of[a.Resource] == nil {
		r.of[a.Resource] = make(map[Rule]bool)
		if a.Pattern == Prefixed {
			if r.prefixes[a.Type] == nil {
				r.prefixes[a.Type] = make(map[int]int)
			}
			r.prefixes[a.Type][len(a.Name)]++
		}
	}
	r.of[a.Resource][a.Rule] = true
	r.count++
}

func (r *rules) remove(a ACL) {
	if !r.has(a) {
		return
	}
	delete(r.of[a.Resource], a.Rule)
	r.count--
	if len(r.of[a.Resource]) > 0 {
		return
	}
	delete(r.of, a.Resource)
	if a.Pattern == Prefixed {
		if r.prefixes[a.Type][len(a.Name)]--; r.prefixes[a.Type][len(a.Name)] == 0 {
			delete(r.prefixes[a.Type], len(a.Name))
		}
	}
}

func (r *rules) all() []ACL {
	list := make([]ACL, 0, r.count)
	for resource, set := range r.of {
		for rule := range set {
			list = append(list, ACL{resource, rule})
		}
	}
	slices.SortFunc(list, compare)
	return list
}

// each calls visit for the patterns that apply to a resource, until it returns
// false.
func (r *rules) each(t ResourceType, name string, visit func(map[Rule]bool) bool) {
	if !visit(r.of[Resource{t, Literal, name}]) || name != Any && !visit(r.of[Resource{t, Literal, Any}]) {
		return
	}
	for length := range r.prefixes[t] {
		if length <= len(name) && !visit(r.of[Resource{t, Prefixed, name[:length]}]) {
			return
		}
	}
}
