// Package kafka is the Kafka door: it lets Kafka clients produce, consume and
// manage topics and consumer groups on the broker. README.md has the table of
// what is served.
//
// server.go accepts, conn.go moves the requests of one connection, api.go says
// which keys and versions are served, errors.go gives each error its code,
// metrics.go counts, and each operation has a file named by its number in the
// protocol.
package kafka
