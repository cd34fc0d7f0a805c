// Package mqtt is the MQTT server: 3.1, 3.1.1 and 5, every quality of service,
// with one promise that ordinary servers do not make. A PUBACK or PUBREC
// leaves only after the Backend says that the message is durable.
//
// The way of a PUBLISH, which is also the order in which to read the files:
//
//	server.go      options, and the beginning and end of all goroutines
//	message.go     a message, and the Backend that keeps it
//	admit.go       who may connect, and who gives way
//	connect.go     CONNECT; users.go, password.go and login.go check the password
//	takeover.go    what an older connection of the client id has sent comes first
//	conn.go        the reader: one goroutine per connection, never waits for a disk
//	frame.go       fixed header, size limit before allocation
//	guard.go       what the codec does not check
//	publish.go     topic, alias, quota; then onto the queue
//	may.go         what the client may do; acl.go reads it from a file
//	refused.go     what is refused for good becomes a letter
//	queue.go       one bounded queue for everything that changes state
//	committer.go   one goroutine takes whole batches through these steps:
//	prepare.go     1. it applies the batch to the state;
//	recipients.go     finds the recipients of each message (trie.go, share.go)
//	storing.go     2. Accept: the Backend says which messages it takes
//	event.go       3. what has changed in the state becomes events; store.go writes them
//	storing.go     4. Store; beside it owe.go writes down what sessions are owed
//	settling.go    5. when all have answered, the state (state.go) gets the outcome
//	dispatcher.go  one goroutine: the ack, then the local subscribers, and the retained
//	               messages (retained.go)
//	session.go     what waits for one subscriber; pump.go sends it
//	resume.go      how far a session that outlives its connection got with what it is
//	               owed, and how it goes on there
//	owedlog.go     the files of that; owedrecord.go has its records, owedfiles.go which
//	               files may go, owedload.go the start
//	outbox.go      the bounded buffer in front of one socket
//	memoryuse.go   what all of it costs
//	sys.go         what the broker says of itself below $SYS
//
// Who owns what: the reader owns its connection's aliases. The committer owns the
// state, which is what must survive a restart, and the trie of subscriptions in it. It
// calls the Backend, and writes the log of what sessions are owed. The dispatcher owns
// sessions and retained messages.
// A session's mutex guards its outbound queue. Nothing else is shared.
//
// Of github.com/mochi-mqtt/server only the packet codec is used.
package mqtt
