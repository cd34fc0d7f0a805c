// Package mqtt is the MQTT server: 3.1, 3.1.1 and 5, every quality of service,
// with one promise that ordinary servers do not make. A PUBACK or PUBREC
// leaves only after the Backend says that the message is durable.
//
// The way of a PUBLISH, which is also the order of the files:
//
//	admit.go       who may connect, and who gives way
//	connect.go     CONNECT; users.go and login.go check the password
//	takeover.go    what an older connection of the client id has sent comes first
//	conn.go        the reader: one goroutine per connection, never waits for a disk
//	frame.go       fixed header, size limit before allocation
//	guard.go       what the codec does not check
//	publish.go     topic, alias, quota; then onto the queue
//	refused.go     what is refused for good becomes a letter
//	queue.go       one bounded queue for everything that changes state
//	committer.go   one goroutine: Accept, state events, Store, for a whole batch;
//	               prepare.go applies it to ledger.go, which store.go keeps
//	storing.go     batches that the Backend has not answered for
//	dispatcher.go  one goroutine: the ack, then the local subscribers
//	session.go     what waits for one subscriber; pump.go sends it
//	resume.go      what a session that outlives its connection is owed: a place
//	               in owedlog.go, which the committer fills (owe.go)
//	outbox.go      the bounded buffer in front of one socket
//	sys.go         what the broker says of itself below $SYS
//
// Who owns what: the reader owns its connection's aliases; the committer owns
// the ledger (what must survive a restart) and fills the log of what sessions
// are owed; the dispatcher owns sessions, trie
// and retained messages; a session's mutex guards its outbound queue. What all
// of it costs is counted in state.go. Nothing else is shared.
//
// Of github.com/mochi-mqtt/server only the packet codec is used.
package mqtt
