package kafka

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/login"
)

var errLogin = errors.New("login failed")

// greet makes a connection ready for requests.
func (c *conn) greet(ctx context.Context) error {
	if c.tunnel {
		return nil // the client's node has done it
	}
	err := c.session.Greet(ctx, c.nc, c.s.o.LoginTime)
	if errors.Is(err, login.ErrTLS) {
		return gone(violation{err})
	}
	return gone(err)
}

// admits returns nil if the request is allowed in this state of the login.
func (c *conn) admits(key kmsg.Key) error {
	switch {
	case key == kmsg.ApiVersions, key == kmsg.SASLHandshake, key == kmsg.SASLAuthenticate:
		return nil
	case !c.session.Known():
		return fmt.Errorf("%s before the client has logged in", key.Name())
	case c.session.Expired():
		return fmt.Errorf("%s after the login has expired", key.Name())
	}
	return nil
}

// who returns the client, for ACLs. Only perform calls it.
func (c *conn) who() auth.Who {
	host, _, err := net.SplitHostPort(c.peer)
	if err != nil {
		host = c.peer
	}
	return auth.Who{Principal: c.session.Principal(), Host: host}
}

// begin starts a login. A node without the users and without a copy of them cannot
// check passwords: it closes the connection, and clients try the next address.
func (c *conn) begin(mechanism string) (*login.Login, error) {
	l, err := c.s.logins.Begin(mechanism, c.from)
	if errors.Is(err, login.ErrNoUsers) {
		return nil, fmt.Errorf("%w: %w", err, broker.ErrNotOwner)
	}
	return l, err
}

// welcome makes the user of a login the user of the connection, and returns for how
// long; 0 means forever (KIP-368).
func (c *conn) welcome(l *login.Login, p *login.Proved) (time.Duration, error) {
	life, first, err := c.session.Welcome(l, p)
	if first {
		c.memory.Swap(c.s.memory.Peer("")).Close()
		c.seat.Known()
	}
	return life, err
}
