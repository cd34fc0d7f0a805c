package mqtt

import (
	"errors"

	"github.com/mochi-mqtt/server/v2/packets"
)

// Permissions decide what a client may do. A nil function allows everything. They are called
// for each message, by many goroutines, some of which hold a lock. So they must not wait:
// the data that they need must be in memory. ACL has all three.
type Permissions struct {
	Publish   func(clientID, username, topic string) bool  // a message or a will
	Subscribe func(clientID, username, filter string) bool // filter has its $share prefix
	Read      func(clientID, username, topic string) bool  // a message may be delivered, whatever was subscribed to
}

// errNotReadable: the client may not read the topic, or may no longer read it. The message counts as
// delivered.
var errNotReadable = errors.New("client may not read the topic")

// mayPublish reports whether the message's client may publish to its topic.
func (s *Server) mayPublish(m *Message) bool {
	may := s.o.May.Publish
	return may == nil || may(m.ClientID, m.Username, m.Topic)
}

// mayRead reports whether the client may read the topic.
func (c *conn) mayRead(topic string) bool {
	may := c.s.o.May.Read
	if may == nil || may(c.clientID, c.username, topic) {
		return true
	}
	c.s.count.unreadable.Inc()
	return false
}

// readable returns a function that reports whether a message of the topic may be delivered to
// the client, nil if everything may be read. A client that had no connection since the server
// started has no user name yet. Its messages are checked when they are sent, as all messages are.
func (o *Options) readable() func(c *client, topic string) bool {
	if o.May.Read == nil {
		return nil
	}
	return func(c *client, topic string) bool { return !c.named || o.May.Read(c.id, c.username, topic) }
}

// Expel ends the connections of users for which gone reports true, and returns how many
// there were. Call it after users were removed or given another password. A connection that
// is logging in meanwhile has its password checked again.
func (s *Server) Expel(gone func(username string) bool) (ended int) {
	s.logins.Add(1)
	var out []*conn
	s.mu.Lock()
	for c := range s.conns {
		if c.greeted.Load() && gone(c.username) {
			out = append(out, c)
		}
	}
	s.mu.Unlock()
	for _, c := range out {
		c.stop(packets.ErrAdministrativeAction)
	}
	return len(out)
}
