// Package amqp091 is the door for clients of AMQP 0-9-1, in RabbitMQ's dialect. A
// connection is in one vhost, whose queues the engine of package queue keeps. The door
// holds no messages but those on their way.
//
// README.md lists the methods, the limits, and where RabbitMQ differs.
package amqp091
