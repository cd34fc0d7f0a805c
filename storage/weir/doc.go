// Package weir defines the types that gateways, the wire protocol and the log share. It
// does no I/O and imports only the standard library.
//
// A gateway keeps what its devices send in a buffer, which has three lanes. One
// lane of one buffer is a stream: a sequence that starts at 1 and only grows. The
// cloud spreads the records of a stream over the partitions of topics, by rows,
// and remembers for each partition the mark: the last sequence that is durable
// there. Where records are missing there is a gap.
package weir
