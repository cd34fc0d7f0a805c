package kafka

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/broker"
)

// What the operations on users and ACLs share.

// users returns the users and ACLs, for a change.
func (s *Server) users() (*auth.Auth, error) {
	if a := s.access.OwnUsers(); a != nil {
		return a, nil
	}
	return nil, broker.ErrNotOwner
}

// mayACLs returns the ACLs if the client may do op to them. On a standby, a client
// that may describe them gets those of the copy.
func (r *request) mayACLs(op kmsg.ACLOperation) (*auth.Auth, error) {
	if err := r.mayCluster(op); err != nil {
		return nil, err
	}
	if !r.conn.s.access.Authorizes() {
		return nil, errNoACLs
	}
	if users := r.conn.s.access.Users(); users != nil && op == kmsg.ACLOperationDescribe {
		return users, nil
	}
	return r.conn.s.users()
}

// anything is the value in Kafka's filters that matches every value of an
// enumeration.
const anything = 1

// filterOf translates a filter. null or 1 matches anything; 0 is an unknown value,
// which is an error.
func filterOf(typ kmsg.ACLResourceType, pattern kmsg.ACLResourcePatternType, name, principal, host *string, op kmsg.ACLOperation, permission kmsg.ACLPermissionType) (auth.Filter, error) {
	for _, v := range []int8{int8(typ), int8(pattern), int8(op), int8(permission)} {
		if v <= 0 {
			return auth.Filter{}, errFilter
		}
	}
	for _, s := range []*string{name, principal, host} {
		if s != nil && *s == "" { // not the same as null
			return auth.Filter{}, errFilter
		}
	}
	return auth.Filter{
		Type: auth.ResourceType(chosen(typ)), Pattern: auth.PatternType(chosen(pattern)), Name: text(name),
		Principal: text(principal), Host: text(host),
		Operation: auth.Operation(chosen(op)), Permission: auth.Permission(chosen(permission)),
	}, nil
}

func chosen[T ~int8](v T) T {
	if v == anything {
		return 0
	}
	return v
}
