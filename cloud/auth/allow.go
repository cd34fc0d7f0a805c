package auth

import "slices"

// Who is the user and host of a request.
type Who struct {
	Principal string // "User:name"
	Host      string // IP address
}

// Allows reports whether who may do op to the resource of that name: who is a super
// user, or some ACL allows it and none denies it.
func (a *Auth) Allows(who Who, op Operation, t ResourceType, name string) bool {
	if a.super[who.Principal] {
		return true
	}
	a.mu.RLock()
	defer a.mu.RUnlock()
	allowed, denied := false, false
	a.acls.each(t, name, func(set map[Rule]bool) bool {
		denied = denied || says(set, who, Deny, op, All)
		allowed = allowed || says(set, who, Allow, implied(op)...)
		return !denied
	})
	return allowed && !denied
}

// AllowsAll reports whether who may do op to all possible resources of the type: who is a
// super user, or an ACL for all of them allows it and none denies it for any.
func (a *Auth) AllowsAll(who Who, op Operation, t ResourceType) bool {
	if a.super[who.Principal] {
		return true
	}
	a.mu.RLock()
	defer a.mu.RUnlock()
	if !says(a.acls.of[Resource{t, Literal, Any}], who, Allow, implied(op)...) {
		return false
	}
	for resource, set := range a.acls.of {
		if resource.Type == t && says(set, who, Deny, op, All) {
			return false
		}
	}
	return true
}

// AllowsSome reports whether who may do op to some possible resource of the type: an
// ACL allows it, and no ACL denies everything that this one allows (KIP-679).
func (a *Auth) AllowsSome(who Who, op Operation, t ResourceType) bool {
	if a.super[who.Principal] {
		return true
	}
	a.mu.RLock()
	defer a.mu.RUnlock()
	if says(a.acls.of[Resource{t, Literal, Any}], who, Deny, op, All) {
		return false
	}
	for resource, set := range a.acls.of {
		if resource.Type != t || !says(set, who, Allow, implied(op)...) {
			continue
		}
		if resource == (Resource{t, Literal, Any}) || !a.denies(who, op, resource) {
			return true
		}
	}
	return false
}

// denies reports whether a Deny covers everything that the pattern of an Allow covers.
func (a *Auth) denies(who Who, op Operation, r Resource) bool {
	if r.Pattern == Literal && says(a.acls.of[r], who, Deny, op, All) {
		return true
	}
	for length := range a.acls.prefixes[r.Type] {
		if length <= len(r.Name) && says(a.acls.of[Resource{r.Type, Prefixed, r.Name[:length]}], who, Deny, op, All) {
			return true
		}
	}
	return false
}

// says reports whether set has a rule that gives who the permission p for one of the
// operations.
func says(set map[Rule]bool, who Who, p Permission, ops ...Operation) bool {
	if len(set) == 0 {
		return false
	}
	return slices.ContainsFunc(ops, func(op Operation) bool {
		for _, principal := range []string{who.Principal, Everybody} {
			for _, host := range []string{who.Host, Any} {
				if set[Rule{principal, host, op, p}] {
					return true
				}
			}
		}
		return false
	})
}
