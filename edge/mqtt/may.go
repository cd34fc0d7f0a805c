package mqtt

import (
	"errors"

	"github.com/mochi-mqtt/server/v2/packets"
)

// errNotReadable: the client may not read the topic (any more). The message
// counts as delivered.
var errNotReadable = errors.New("client may not read the topic")

// mayPublish reports whether the message's client may publish to its topic.
func (s *Server) mayPublish(m *Message) bool {
	may := s.o.MayPublish
	return may == nil || may(m.ClientID, m.Username, m.Topic)
}

// mayRead reports whether the client may read the topic.
func (c *conn) mayRead(topic string) bool {
	may := c.s.o.MayRead
	if may == nil || may(c.clientID, c.username, topic) {
		return true
	}
	c.s.count.unreadable.Inc()
	return false
}

// mayRead reports whether a message of the topic is worth a place in the queue.
// A session that had no connection since the server began has no user name yet:
// then it is asked when the message is sent, as it is in any case.
func (s *session) mayRead(topic string) bool {
	s.mu.Lock()
	named, username := s.named, s.username
	s.mu.Unlock()
	return !named || s.o.MayRead(s.id, username, topic)
}

// readable is mayRead for the committer's pages; nil where everything may be read.
func (o *Options) readable() func(c *client, topic string) bool {
	if o.MayRead == nil {
		return nil
	}
	return func(c *client, topic string) bool { return !c.named || o.MayRead(c.id, c.username, topic) }
}

// Expel ends the connections of users that gone reports, after they were removed
// or given another password, and returns how many there were. A connection that is
// logging in meanwhile is asked for its password again.
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
