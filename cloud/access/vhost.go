package access

import (
	"strings"
	"time"

	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/login"
	"github.com/weirmq/weir/cloud/quota"
)

// defaultExchange is how permissions name the exchange without a name.
const defaultExchange = "amq.default"

// maxAnswers bounds what a Vhost remembers: a client may use any number of names.
const maxAnswers = 64

// Vhost says what the client of a connection may do in a vhost. It remembers its
// answers until the permissions change. It is used by one goroutine at a time; others
// make their own.
//
// A permission is always needed, but a super user's, and without Options.Authorize an
// anonymous client's and a guest's. On a standby the answers are those of the copy: a
// door does nothing there, since the vhost is at the owner.
type Vhost struct {
	access *Access
	name   string

	principal string
	guest     bool // see login.Session
	anonymous bool

	users   *auth.Auth // who gave the answers, nil: nobody
	changes uint64     // see auth.Auth.Changes
	all     bool       // everything is allowed
	rights  *auth.VhostRights
	answers map[question]bool
}

// question is what a client would do to a queue or an exchange, or with a routing key.
type question struct {
	do       action
	exchange string // that the routing key is for
	name     string
}

type action uint8

const (
	configure action = iota
	write
	read
	writeTopic
	readTopic
)

// Vhost returns what the client of a session that has logged in may do in a vhost. The
// caller is the goroutine that performs the session's requests.
func (a *Access) Vhost(x *login.Session, name string) *Vhost {
	return &Vhost{access: a, name: name, principal: x.Principal(), guest: x.Guest(), anonymous: x.Anonymous(), answers: make(map[question]bool)}
}

// Open reports whether the client may open the vhost.
func (v *Vhost) Open() bool {
	v.refresh()
	return v.all || v.rights.Open()
}

// Everything reports whether the client may do everything, in all vhosts.
func (v *Vhost) Everything() bool {
	v.refresh()
	return v.all || v.rights.Everything()
}

// Configure reports whether the client may declare and delete a queue or an exchange of
// that name.
func (v *Vhost) Configure(name string) bool { return v.may(question{do: configure, name: name}) }

// Write reports whether the client may publish to an exchange of that name, or bind a
// queue of that name. The default exchange is "".
func (v *Vhost) Write(name string) bool { return v.may(question{do: write, name: name}) }

// Read reports whether the client may read a queue of that name, or bind to an exchange
// of that name.
func (v *Vhost) Read(name string) bool { return v.may(question{do: read, name: name}) }

// WriteTopic reports whether the client may publish with a routing key to a topic
// exchange that it may write.
func (v *Vhost) WriteTopic(exchange, key string) bool {
	return v.may(question{writeTopic, exchange, key})
}

// ReadTopic reports whether the client may bind with a routing key to a topic exchange
// that it may read.
func (v *Vhost) ReadTopic(exchange, key string) bool {
	return v.may(question{readTopic, exchange, key})
}

// Topic reports whether the client, which is at the IP address host, may do op to a topic
// through a stream queue, or through an exchange. It needs an ACL where clients of Kafka do:
// see Options.Authorize.
func (v *Vhost) Topic(op auth.Operation, host, topic string) bool {
	if !v.access.o.Authorize {
		return true
	}
	users := v.access.Users()
	return users != nil && users.Allows(auth.Who{Principal: v.principal, Host: host}, op, auth.Topic, topic)
}

// CountRead counts bytes of a topic that a consumer of a stream queue gets, as if it had
// fetched them. It returns for how long it must get no more.
func (v *Vhost) CountRead(client string, bytes int) time.Duration {
	quotas := v.access.Quotas()
	if quotas == nil || bytes <= 0 {
		return 0
	}
	return quotas.Take(quota.Consume, auth.UserOf(v.principal), client, bytes)
}

// ReadTopics reports whether the client, which is at the IP address host, may give all
// topics to the vhost: with a binding of amq.topic all that may read there get what
// arrives in them. As Topic it needs an ACL.
func (v *Vhost) ReadTopics(host string) bool {
	if !v.access.o.Authorize {
		return true
	}
	users := v.access.Users()
	return users != nil && users.AllowsAll(auth.Who{Principal: v.principal, Host: host}, auth.Read, auth.Topic)
}

func (v *Vhost) may(q question) bool {
	if v.refresh(); v.all {
		return true
	}
	answer, known := v.answers[q]
	if !known {
		answer = v.ask(q)
		if len(v.answers) >= maxAnswers {
			clear(v.answers)
		}
		v.answers[question{q.do, strings.Clone(q.exchange), strings.Clone(q.name)}] = answer
	}
	return answer
}

// refresh forgets the answers if the permissions have changed.
func (v *Vhost) refresh() {
	users := v.access.Users()
	if users == nil {
		v.users, v.all, v.rights = nil, v.mayAll(nil), nil
		clear(v.answers)
		return
	}
	changes := users.Changes() // before what it counts
	if users == v.users && changes == v.changes {
		return
	}
	v.users, v.changes, v.all = users, changes, v.mayAll(users)
	rights := users.VhostRights(v.principal, v.name)
	if v.guest && !users.Empty() {
		rights = nil // a guest's name may be a user's by now
	}
	if rights != v.rights {
		v.rights = rights
		clear(v.answers)
	}
}

// mayAll reports whether the client needs no permission.
func (v *Vhost) mayAll(users *auth.Auth) bool {
	switch {
	case v.access.o.Authorize:
		return false
	case v.guest:
		return users != nil && users.Empty()
	}
	return v.anonymous
}

func (v *Vhost) ask(q question) bool {
	if q.name == "" && q.do <= read {
		q.name = defaultExchange
	}
	switch q.do {
	case configure:
		return v.rights.Configure(q.name)
	case write:
		return v.rights.Write(q.name)
	case read:
		return v.rights.Read(q.name)
	case writeTopic:
		return v.rights.WriteTopic(q.exchange, q.name)
	}
	return v.rights.ReadTopic(q.exchange, q.name)
}
