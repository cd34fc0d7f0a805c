package queue

import "errors"

// Errors of an Engine, to be tested with errors.Is. What is wrong with an exchange or a
// binding is a *routing.Error.
var (
	ErrNoVhost    = errors.New("no such vhost")
	ErrNoQueue    = errors.New("no such queue")
	ErrExclusive  = errors.New("the queue is exclusive to another session")
	ErrInUse      = errors.New("the queue is in use")
	ErrConsumed   = errors.New("the queue has a consumer, and one of the two is exclusive")
	ErrNotEmpty   = errors.New("the queue is not empty")
	ErrStream     = errors.New("not supported by stream queues")
	ErrNoTopic    = errors.New("the topic of the stream queue does not exist")
	ErrUnroutable = errors.New("no queue takes the message")
	ErrOverflow   = errors.New("a queue is full and rejects the message")
	ErrRefused    = errors.New("a topic refuses the message")
	ErrTooLarge   = errors.New("larger than a message can be")
	ErrInvalid    = errors.New("invalid properties of a message")
	ErrClosed     = errors.New("this node does not serve the queues any more")
	ErrStarting   = errors.New("the queues of the shard are being started")
)
