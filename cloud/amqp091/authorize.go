package amqp091

import (
	"net"

	"github.com/weirmq/weir/cloud/amqp091/declaration"
	"github.com/weirmq/weir/cloud/amqp091/wire"
	"github.com/weirmq/weir/cloud/auth"
)

// What a client may do in its vhost, with RabbitMQ's rules and texts. Only read calls the
// functions below.

// mayConfigure returns an error unless the client may declare and delete a name.
func (c *conn) mayConfigure(k declaration.Thing, name string) error {
	return c.allowed(c.rights.Configure(name), k, name)
}

// mayWrite returns an error unless the client may publish to an exchange, or bind a queue.
func (c *conn) mayWrite(k declaration.Thing, name string) error {
	return c.allowed(c.rights.Write(name), k, name)
}

// mayRead returns an error unless the client may read a queue, or bind to an exchange.
func (c *conn) mayRead(k declaration.Thing, name string) error {
	return c.allowed(c.rights.Read(name), k, name)
}

func (c *conn) allowed(ok bool, k declaration.Thing, name string) error {
	if ok {
		return nil
	}
	if name == "" && k == declaration.AnExchange {
		name = "amq.default"
	}
	return refused(wire.AccessRefused, "access to %s refused for user '%s'", c.of(k, name), c.user)
}

// mayWriteTopic returns an error unless the client may publish with a routing key to a
// topic exchange.
func (c *conn) mayWriteTopic(exchange, key string) error {
	return c.allowedTopic(c.rights.WriteTopic(exchange, key), exchange, key)
}

// mayReadTopic returns an error unless the client may bind with a routing key to a topic
// exchange.
func (c *conn) mayReadTopic(exchange, key string) error {
	return c.allowedTopic(c.rights.ReadTopic(exchange, key), exchange, key)
}

func (c *conn) allowedTopic(ok bool, exchange, key string) error {
	if ok {
		return nil
	}
	return refused(wire.AccessRefused, "access to topic '%s' in %s refused for user '%s'", key, c.of(declaration.AnExchange, exchange), c.user)
}

// host returns the IP address of the client, as ACLs name it.
func (c *conn) host() string {
	host, _, err := net.SplitHostPort(c.peer)
	if err != nil {
		return c.peer
	}
	return host
}

// mayUseTopic returns an error unless the client may do op to the topic of a stream queue.
func (c *conn) mayUseTopic(op auth.Operation, name string) error {
	return c.allowed(c.rights.Topic(op, c.host(), name), declaration.ATopic, name)
}

// mayGiveTopic returns an error unless the client may declare a stream queue. That gives
// its topic to the vhost: whoever may publish to the queue may write to the topic.
func (c *conn) mayGiveTopic(name string) error {
	there, err := c.engine.HasTopic(name)
	if err != nil {
		return c.failed(err, name)
	}
	for _, op := range declaration.GivingTopic(there) {
		if err := c.mayUseTopic(op, name); err != nil {
			return err
		}
	}
	return nil
}
