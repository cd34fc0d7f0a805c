package amqp

import (
	"fmt"
	"strings"
)

// table lists the methods of AMQP 0-9-1 as RabbitMQ speaks it: name, class and method id,
// arguments with their types, and behind > the answers. It is written from the specification
// and shares nothing with the cloud's own codec, so that a mistake there shows.
//
// Types: o octet, s short, l long, L longlong, S shortstr, G longstr, b bit, T table. An
// argument that begins with "-" is reserved: it is sent as zero and not shown.
const table = `
connection.start 10.10 version-major:o version-minor:o server-properties:T mechanisms:G locales:G
connection.start-ok 10.11 client-properties:T mechanism:S response:G locale:S
connection.secure 10.20 challenge:G
connection.secure-ok 10.21 response:G
connection.tune 10.30 channel-max:s frame-max:l heartbeat:s
connection.tune-ok 10.31 channel-max:s frame-max:l heartbeat:s
connection.open 10.40 virtual-host:S -capabilities:S -insist:b > connection.open-ok
connection.open-ok 10.41 -known-hosts:S
connection.close 10.50 reply-code:s reply-text:S class-id:s method-id:s > connection.close-ok
connection.close-ok 10.51
connection.blocked 10.60 reason:S
connection.unblocked 10.61
connection.update-secret 10.70 new-secret:G reason:S > connection.update-secret-ok
connection.update-secret-ok 10.71
channel.open 20.10 -out-of-band:S > channel.open-ok
channel.open-ok 20.11 -channel-id:G
channel.flow 20.20 active:b > channel.flow-ok
channel.flow-ok 20.21 active:b
channel.close 20.40 reply-code:s reply-text:S class-id:s method-id:s > channel.close-ok
channel.close-ok 20.41
access.request 30.10 realm:S exclusive:b passive:b active:b write:b read:b > access.request-ok
access.request-ok 30.11 ticket:s
exchange.declare 40.10 -ticket:s exchange:S type:S passive:b durable:b auto-delete:b internal:b no-wait:b arguments:T > exchange.declare-ok
exchange.declare-ok 40.11
exchange.delete 40.20 -ticket:s exchange:S if-unused:b no-wait:b > exchange.delete-ok
exchange.delete-ok 40.21
exchange.bind 40.30 -ticket:s destination:S source:S routing-key:S no-wait:b arguments:T > exchange.bind-ok
exchange.bind-ok 40.31
exchange.unbind 40.40 -ticket:s destination:S source:S routing-key:S no-wait:b arguments:T > exchange.unbind-ok
exchange.unbind-ok 40.51
queue.declare 50.10 -ticket:s queue:S passive:b durable:b exclusive:b auto-delete:b no-wait:b arguments:T > queue.declare-ok
queue.declare-ok 50.11 queue:S message-count:l consumer-count:l
queue.bind 50.20 -ticket:s queue:S exchange:S routing-key:S no-wait:b arguments:T > queue.bind-ok
queue.bind-ok 50.21
queue.purge 50.30 -ticket:s queue:S no-wait:b > queue.purge-ok
queue.purge-ok 50.31 message-count:l
queue.delete 50.40 -ticket:s queue:S if-unused:b if-empty:b no-wait:b > queue.delete-ok
queue.delete-ok 50.41 message-count:l
queue.unbind 50.50 -ticket:s queue:S exchange:S routing-key:S arguments:T > queue.unbind-ok
queue.unbind-ok 50.51
basic.qos 60.10 prefetch-size:l prefetch-count:s global:b > basic.qos-ok
basic.qos-ok 60.11
basic.consume 60.20 -ticket:s queue:S consumer-tag:S no-local:b no-ack:b exclusive:b no-wait:b arguments:T > basic.consume-ok
basic.consume-ok 60.21 consumer-tag:S
basic.cancel 60.30 consumer-tag:S no-wait:b > basic.cancel-ok
basic.cancel-ok 60.31 consumer-tag:S
basic.publish 60.40 -ticket:s exchange:S routing-key:S mandatory:b immediate:b
basic.return 60.50 reply-code:s reply-text:S exchange:S routing-key:S
basic.deliver 60.60 consumer-tag:S delivery-tag:L redelivered:b exchange:S routing-key:S
basic.get 60.70 -ticket:s queue:S no-ack:b > basic.get-ok basic.get-empty
basic.get-ok 60.71 delivery-tag:L redelivered:b exchange:S routing-key:S message-count:l
basic.get-empty 60.72 -cluster-id:S
basic.ack 60.80 delivery-tag:L multiple:b
basic.reject 60.90 delivery-tag:L requeue:b
basic.recover-async 60.100 requeue:b
basic.recover 60.110 requeue:b > basic.recover-ok
basic.recover-ok 60.111
basic.nack 60.120 delivery-tag:L multiple:b requeue:b
confirm.select 85.10 no-wait:b > confirm.select-ok
confirm.select-ok 85.11
tx.select 90.10 > tx.select-ok
tx.select-ok 90.11
tx.commit 90.20 > tx.commit-ok
tx.commit-ok 90.21
tx.rollback 90.30 > tx.rollback-ok
tx.rollback-ok 90.31
`

// properties lists the properties of a message, in the order of their flags. The last is
// reserved, but RabbitMQ carries it.
const properties = "content-type:S content-encoding:S headers:T delivery-mode:o priority:o correlation-id:S reply-to:S expiration:S message-id:S timestamp:L type:S user-id:S app-id:S cluster-id:S"

type argument struct {
	name     string
	kind     byte
	reserved bool
}

type method struct {
	name      string
	class, id uint16
	arguments []argument
	answers   []string
	content   bool // a header and a body follow
}

// catalogue knows the methods by name and by number.
type catalogue struct {
	byName     map[string]*method
	byID       map[[2]uint16]*method
	properties []argument
}

func newCatalogue() *catalogue {
	c := &catalogue{byName: make(map[string]*method), byID: make(map[[2]uint16]*method)}
	for line := range strings.Lines(strings.TrimSpace(table)) {
		left, answers, _ := strings.Cut(line, ">")
		fields := strings.Fields(left)
		m := &method{name: fields[0], answers: strings.Fields(answers)}
		if _, err := fmt.Sscanf(fields[1], "%d.%d", &m.class, &m.id); err != nil {
			panic(err) // the table is wrong
		}
		m.arguments = argumentsOf(fields[2:])
		switch m.name {
		case "basic.publish", "basic.return", "basic.deliver", "basic.get-ok":
			m.content = true
		}
		c.byName[m.name], c.byID[[2]uint16{m.class, m.id}] = m, m
	}
	c.properties = argumentsOf(strings.Fields(properties))
	return c
}

func argumentsOf(fields []string) []argument {
	var all []argument
	for _, f := range fields {
		name, kind, _ := strings.Cut(f, ":")
		name, reserved := strings.CutPrefix(name, "-")
		all = append(all, argument{name, kind[0], reserved})
	}
	return all
}
