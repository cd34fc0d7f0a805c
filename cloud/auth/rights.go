package auth

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"
	"sync"
)

// maxExpressionSize bounds the program that an expression becomes, in instructions: a
// few bytes such as (a{30}){30} can ask for many.
const maxExpressionSize = 2_000

// VhostRights is what one user may do in one vhost. It does not change: after a change
// of the permissions Auth.VhostRights returns another one. It may be used by many
// goroutines. nil is a user without any permissions.
type VhostRights struct {
	all         bool                        // of a super user
	permissions *VhostPermissions           // nil: none
	topics      map[string]TopicPermissions // by exchange

	once     sync.Once                 // guards what follows
	compiled compiled                  // of permissions
	keys     map[string]compiledTopics // of topics
}

// An expression that this program cannot compile is nil, and matches nothing.
type compiled struct{ configure, write, read *regexp.Regexp }
type compiledTopics struct{ write, read *regexp.Regexp }

// VhostRights returns what a user may do in a vhost.
func (a *Auth) VhostRights(principal, vhost string) *VhostRights {
	if a.super[principal] {
		return a.everything
	}
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.vhosts[userVhost{UserOf(principal), vhost}]
}

// Open reports whether the user may open the vhost: some permissions are set, whatever
// they allow.
func (r *VhostRights) Open() bool { return r != nil && (r.all || r.permissions != nil) }

// Everything reports whether the user is a super user.
func (r *VhostRights) Everything() bool { return r != nil && r.all }

// Configure reports whether the user may declare and delete a queue or an exchange.
func (r *VhostRights) Configure(name string) bool {
	return r.Open() && (r.all || matches(r.ready().compiled.configure, name))
}

// Write reports whether the user may publish to an exchange, or bind a queue.
func (r *VhostRights) Write(name string) bool {
	return r.Open() && (r.all || matches(r.ready().compiled.write, name))
}

// Read reports whether the user may read a queue, or bind to an exchange.
func (r *VhostRights) Read(name string) bool {
	return r.Open() && (r.all || matches(r.ready().compiled.read, name))
}

// WriteTopic reports whether the user, who may write to a topic exchange, may publish
// to it with a routing key.
func (r *VhostRights) WriteTopic(exchange, key string) bool {
	if !r.Open() {
		return false
	}
	of, limited := r.ready().keys[exchange]
	return !limited || matches(of.write, key)
}

// ReadTopic reports whether the user, who may read a topic exchange, may bind to it with
// a routing key.
func (r *VhostRights) ReadTopic(exchange, key string) bool {
	if !r.Open() {
		return false
	}
	of, limited := r.ready().keys[exchange]
	return !limited || matches(of.read, key)
}

func matches(x *regexp.Regexp, name string) bool { return x != nil && x.MatchString(name) }

// ready compiles the expressions at the first use.
func (r *VhostRights) ready() *VhostRights {
	r.once.Do(func() { _ = r.compile() }) // what cannot be compiled matches nothing
	return r
}

// compile compiles all expressions. The error is an ErrInvalid that names the first one
// which cannot be compiled.
func (r *VhostRights) compile() error {
	var failed error
	expression := func(what, text string) *regexp.Regexp {
		x, err := compile(text)
		if err != nil && failed == nil {
			failed = fmt.Errorf("%w: expression %q for %s: %w", ErrInvalid, text, what, err)
		}
		return x
	}
	if p := r.permissions; p != nil {
		r.compiled = compiled{expression("configure", p.Configure), expression("write", p.Write), expression("read", p.Read)}
	}
	r.keys = make(map[string]compiledTopics, len(r.topics))
	for exchange, p := range r.topics {
		names := strings.NewReplacer("{username}", regexp.QuoteMeta(p.User), "{vhost}", regexp.QuoteMeta(p.Vhost))
		r.keys[exchange] = compiledTopics{expression("write", names.Replace(p.Write)), expression("read", names.Replace(p.Read))}
	}
	return failed
}

// compile compiles an expression, which then takes time that is linear in a name's
// length.
func compile(text string) (*regexp.Regexp, error) {
	if text == "" {
		text = "^$"
	}
	tree, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return nil, fmt.Errorf("%w (the syntax is RE2's: without look-around and back-references)", err)
	}
	if n := size(tree); n > maxExpressionSize {
		return nil, fmt.Errorf("it repeats too much: %d steps, of at most %d", n, maxExpressionSize)
	}
	return regexp.Compile(text)
}

// size estimates the number of instructions of an expression.
func size(x *syntax.Regexp) int {
	n := max(len(x.Rune), 1)
	if x.Op == syntax.OpCharClass {
		n = 1
	}
	for _, sub := range x.Sub {
		n += size(sub)
	}
	if x.Op == syntax.OpRepeat {
		n *= max(x.Min, x.Max, 1) // their product over a nesting is at most 1,000
	}
	return n
}
