package auth

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/weirmq/weir/cloud/machine"
)

// PermissionsLevel is the format level from which on the log has permissions in vhosts.
const PermissionsLevel = 2

// Bounds of permissions.
const (
	MaxPermissions = 20_000 // of users in vhosts, and for exchanges
	MaxExchanges   = 100    // for which a user has permissions in a vhost
	MaxExpression  = 1_000  // bytes
)

// VhostPermissions are the permissions of a user in a vhost, as in RabbitMQ. Each is a
// regular expression that finds a match in the names of the queues and exchanges for
// which it is given. The empty expression matches no name.
type VhostPermissions struct {
	User      string `json:"user"`
	Vhost     string `json:"vhost"`
	Configure string `json:"configure"` // to declare and delete
	Write     string `json:"write"`     // to publish to an exchange, to bind a queue
	Read      string `json:"read"`      // to consume from a queue and purge it, to bind to an exchange
}

// TopicPermissions are the permissions of a user for the routing keys of a topic
// exchange, in addition to those for its name. A user without an entry for an exchange
// may use any key. {username} and {vhost} in an expression are the user and the vhost.
type TopicPermissions struct {
	User     string `json:"user"`
	Vhost    string `json:"vhost"`
	Exchange string `json:"exchange"`
	Write    string `json:"write"` // keys of messages that are published
	Read     string `json:"read"`  // keys of bindings
}

// userVhost is a user and a vhost. In an entry that removes permissions, an empty name
// stands for all.
type userVhost struct {
	User  string `json:"user,omitempty"`
	Vhost string `json:"vhost,omitempty"`
}

// topicSelector selects topic permissions; an empty name stands for all.
type topicSelector struct {
	userVhost
	Exchange string `json:"exchange,omitempty"`
}

func (w userVhost) selects(o userVhost) bool {
	return (w.User == "" || w.User == o.User) && (w.Vhost == "" || w.Vhost == o.Vhost)
}

func (w userVhost) compare(o userVhost) int {
	return cmp.Or(cmp.Compare(w.User, o.User), cmp.Compare(w.Vhost, o.Vhost))
}

func (p VhostPermissions) of() userVhost { return userVhost{p.User, p.Vhost} }
func (p TopicPermissions) of() userVhost { return userVhost{p.User, p.Vhost} }

// check returns an error if p cannot be in the log. Whether an expression can be used
// depends on the version of the program: SetVhostPermissions tests that.
func (p VhostPermissions) check() error { return p.of().check(p.Configure, p.Write, p.Read) }

func (p TopicPermissions) check() error {
	return cmp.Or(checkName("exchange", p.Exchange), p.of().check(p.Write, p.Read))
}

func (w userVhost) check(expressions ...string) error {
	if err := cmp.Or(checkName("user", w.User), checkName("vhost", w.Vhost)); err != nil {
		return err
	}
	for _, x := range expressions {
		if len(x) > MaxExpression {
			return fmt.Errorf("%w: an expression has more than %d bytes", ErrInvalid, MaxExpression)
		}
	}
	return nil
}

// vhosts are the permissions in the log. A VhostRights is replaced, never changed.
type vhosts map[userVhost]*VhostRights

func (s vhosts) put(p VhostPermissions) {
	next := s.next(p.of())
	next.permissions = &p
	s[p.of()] = next
}

func (s vhosts) putTopic(p TopicPermissions) {
	next := s.next(p.of())
	next.topics[p.Exchange] = p
	s[p.of()] = next
}

func (s vhosts) remove(w userVhost) {
	for of, r := range s {
		if w.selects(of) && r.permissions != nil {
			next := s.next(of)
			next.permissions = nil
			s.keep(of, next)
		}
	}
}

func (s vhosts) removeTopic(w topicSelector) {
	for of, r := range s {
		if !w.selects(of) || len(r.topics) == 0 {
			continue
		}
		next := s.next(of)
		if delete(next.topics, w.Exchange); w.Exchange == "" {
			clear(next.topics)
		}
		s.keep(of, next)
	}
}

// next returns a copy that can be changed.
func (s vhosts) next(of userVhost) *VhostRights {
	next := &VhostRights{topics: make(map[string]TopicPermissions)}
	if r := s[of]; r != nil {
		next.permissions = r.permissions
		maps.Copy(next.topics, r.topics)
	}
	return next
}

// keep stores what remains after a removal.
func (s vhosts) keep(of userVhost, r *VhostRights) {
	if s[of] = r; r.permissions == nil && len(r.topics) == 0 {
		delete(s, of)
	}
}

// selected lists what w selects, by user and vhost.
func (s vhosts) selected(w userVhost) []*VhostRights {
	var all []*VhostRights
	for _, of := range slices.SortedFunc(maps.Keys(s), userVhost.compare) {
		if w.selects(of) {
			all = append(all, s[of])
		}
	}
	return all
}

// list lists permissions by user and vhost.
func (s vhosts) list(w userVhost) []VhostPermissions {
	all := []VhostPermissions{}
	for _, r := range s.selected(w) {
		if r.permissions != nil {
			all = append(all, *r.permissions)
		}
	}
	return all
}

// listTopics lists permissions by user, vhost and exchange.
func (s vhosts) listTopics(w topicSelector) []TopicPermissions {
	all := []TopicPermissions{}
	for _, r := range s.selected(w.userVhost) {
		for _, exchange := range slices.Sorted(maps.Keys(r.topics)) {
			if w.Exchange == "" || w.Exchange == exchange {
				all = append(all, r.topics[exchange])
			}
		}
	}
	return all
}

// count returns the number of permissions.
func (s vhosts) count() int {
	n := 0
	for _, r := range s {
		if n += len(r.topics); r.permissions != nil {
			n++
		}
	}
	return n
}

// VhostPermissions lists permissions by user and vhost. An empty name selects all.
func (a *Auth) VhostPermissions(user, vhost string) []VhostPermissions {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.vhosts.list(userVhost{user, vhost})
}

// TopicPermissions lists permissions by user, vhost and exchange. An empty name selects
// all.
func (a *Auth) TopicPermissions(user, vhost, exchange string) []TopicPermissions {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.vhosts.listTopics(topicSelector{userVhost{user, vhost}, exchange})
}

// SetVhostPermissions sets the permissions of a user in a vhost, in place of those that
// the user has there. Neither needs to exist: users of certificates and tokens are not
// stored. Durable on return. Errors: ErrInvalid, ErrTooMany, machine.ErrLevel.
func (a *Auth) SetVhostPermissions(ctx context.Context, p VhostPermissions) error {
	defer a.changing.Take(ctx)()
	if err := p.check(); err != nil {
		return err
	}
	if err := (&VhostRights{permissions: &p}).compile(); err != nil {
		return err
	}
	if err := a.mayGrow(p.of(), ""); err != nil {
		return err
	}
	return a.propose(ctx, kindPermissions, p)
}

// SetTopicPermissions sets the permissions of a user for the keys of an exchange, in
// place of those that the user has for it. Durable on return. Errors: ErrInvalid,
// ErrTooMany, machine.ErrLevel.
func (a *Auth) SetTopicPermissions(ctx context.Context, p TopicPermissions) error {
	defer a.changing.Take(ctx)()
	if err := p.check(); err != nil {
		return err
	}
	if err := (&VhostRights{topics: map[string]TopicPermissions{p.Exchange: p}}).compile(); err != nil {
		return err
	}
	if err := a.mayGrow(p.of(), p.Exchange); err != nil {
		return err
	}
	return a.propose(ctx, kindTopicPermissions, p)
}

// mayGrow returns an error if the log cannot take another entry of permissions.
func (a *Auth) mayGrow(of userVhost, exchange string) error {
	if a.log.Level() < PermissionsLevel {
		return machine.ErrLevel
	}
	a.mu.RLock()
	defer a.mu.RUnlock()
	r := a.vhosts[of]
	has := r != nil && r.permissions != nil
	if exchange != "" && r != nil {
		if _, has = r.topics[exchange]; !has && len(r.topics) >= MaxExchanges {
			return fmt.Errorf("%w: the user has permissions for %d exchanges of the vhost already", ErrTooMany, MaxExchanges)
		}
	}
	if !has && a.vhosts.count() >= MaxPermissions {
		return fmt.Errorf("%w: there are %d permissions already", ErrTooMany, MaxPermissions)
	}
	return nil
}

// ClearVhostPermissions removes the permissions of a user in a vhost; topic permissions
// stay, as in RabbitMQ. Durable on return. The error is ErrUnknownPermissions if there
// are none.
func (a *Auth) ClearVhostPermissions(ctx context.Context, user, vhost string) error {
	of := userVhost{user, vhost}
	if err := of.check(); err != nil {
		return err
	}
	defer a.changing.Take(ctx)()
	if len(a.VhostPermissions(user, vhost)) == 0 {
		return fmt.Errorf("%w of user %q in vhost %q", ErrUnknownPermissions, user, vhost)
	}
	return a.propose(ctx, kindPermissionsGone, of)
}

// ClearTopicPermissions removes the topic permissions of a user in a vhost: those for an
// exchange, or for all if it is "". Durable on return. The error is
// ErrUnknownPermissions if there are none.
func (a *Auth) ClearTopicPermissions(ctx context.Context, user, vhost, exchange string) error {
	of := topicSelector{userVhost{user, vhost}, exchange}
	if err := of.check(); err != nil {
		return err
	}
	defer a.changing.Take(ctx)()
	if len(a.TopicPermissions(user, vhost, exchange)) == 0 {
		return fmt.Errorf("%w for topics of user %q in vhost %q", ErrUnknownPermissions, user, vhost)
	}
	return a.propose(ctx, kindTopicPermissionsGone, of)
}

// ClearVhost removes all permissions in a vhost, as its deletion does. Durable on
// return.
func (a *Auth) ClearVhost(ctx context.Context, vhost string) error {
	if err := checkName("vhost", vhost); err != nil {
		return err
	}
	return a.removePermissions(ctx, userVhost{Vhost: vhost})
}

// removePermissions removes all permissions that w selects.
func (a *Auth) removePermissions(ctx context.Context, w userVhost) error {
	defer a.changing.Take(ctx)()
	if len(a.VhostPermissions(w.User, w.Vhost)) > 0 {
		if err := a.propose(ctx, kindPermissionsGone, w); err != nil {
			return err
		}
	}
	if len(a.TopicPermissions(w.User, w.Vhost, "")) > 0 {
		return a.propose(ctx, kindTopicPermissionsGone, topicSelector{userVhost: w})
	}
	return nil
}
