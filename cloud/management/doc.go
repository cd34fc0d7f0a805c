// Package management serves the part of RabbitMQ's management HTTP API that tools and
// clients of work queues use: rabbitmqadmin, monitoring, autoscalers, test suites. Paths,
// members of answers, status codes and errors are RabbitMQ's; README.md lists what is
// there and what differs.
//
// A request is authenticated as a client of AMQP is, by the user's password, and may do
// what the user's permissions in the vhost allow. What is listed is what is in the vhosts
// that the user may open. Super users see and administer all.
package management
