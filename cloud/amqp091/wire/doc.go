// Package wire is the codec of AMQP 0-9-1 in RabbitMQ's dialect, for servers and clients:
// frames, methods, content headers and field tables. It does not act on them, and keeps no
// state but that of the frames of a channel (see Assembler). README.md tells which sections
// of the specification it follows, and where RabbitMQ differs.
//
// Methods and properties are generated from methods.txt. After a change of it, run
// go generate. Lengths and counts are checked against what has arrived before memory is
// allocated for them, and arguments must be used up exactly.
package wire

//go:generate go run ./gen
