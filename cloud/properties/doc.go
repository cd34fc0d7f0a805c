// Package properties maps what is known of a message besides its body between a record
// of a topic and a message of AMQP 0-9-1. A record of a gateway has what MQTT says of a
// message in its headers; weir-edge writes them. The README has the table.
//
// FromRecord and ToRecord do no I/O and read no clock.
package properties
