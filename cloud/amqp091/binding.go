package amqp091

import (
	"github.com/weirmq/weir/cloud/amqp091/declaration"
	"github.com/weirmq/weir/cloud/amqp091/wire"
	"github.com/weirmq/weir/cloud/queue/routing"
)

// readBinding sets the arguments of a binding to the exchange x, and checks whether the
// client may use its key.
func (c *conn) readBinding(b *routing.Binding, x routing.Exchange, arguments wire.Table) (err error) {
	if x.Type == routing.Topic {
		if err := c.mayReadTopic(b.Source, b.Key); err != nil {
			return err
		}
	}
	*b, err = declaration.Binding(*b, x, arguments)
	return err
}
