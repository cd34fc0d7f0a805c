// Package declaration reads what clients of RabbitMQ declare: queues, exchanges and bindings
// with their arguments. It has RabbitMQ's rules, and refuses with RabbitMQ's codes and
// texts, for every door whose clients declare them.
package declaration

import (
	"fmt"

	"github.com/weirmq/weir/cloud/amqp091/wire"
)

// Dialect is the version of RabbitMQ that clients are told, since they look at it to know
// what they can ask for. Its rules and texts are those of this package.
const Dialect = "3.10.8"

// Reserved begins the names that clients may not choose.
const Reserved = "amq."

// Thing is what a name is the name of, in texts.
type Thing string

// What can be declared.
const (
	AQueue     Thing = "queue"
	AnExchange Thing = "exchange"
	ATopic     Thing = "topic" // of a stream queue; a permission for it is an ACL
)

// In names a queue or an exchange as RabbitMQ does.
func (t Thing) In(vhost, name string) string {
	return fmt.Sprintf("%s '%s' in vhost '%s'", t, name, vhost)
}

// refused makes an error with RabbitMQ's code and text.
func refused(code wire.Code, format string, args ...any) *wire.Error {
	return &wire.Error{Code: code, Text: fmt.Sprintf(format, args...)}
}
