// Package queue is the work queues of a shard. A topic is a log: its readers keep an
// offset, and nothing is taken away. A queue has a state for each message: it waits, it
// is leased to a consumer, or it is gone.
//
// The messages of a vhost lie in one hidden topic of one partition (see
// weir.VhostTopicPrefix), each body once, however many queues it is in. The id of a
// message is its offset there. What is durable of the queues is in package state, which
// is rebuilt from the log's entries: which messages wait in which queue, and how often
// they were delivered. An Engine adds what only the owner of the shard needs: leases,
// consumers, timers, messages that were read from the log.
//
// What happens to a message:
//
//	Submit      the exchanges route it (package routing); its body and the entry that
//	            puts it into queues become durable in one slot; the publisher is told
//	pump        one goroutine for a queue that has something to do reads the messages
//	            that are next, and leases them to consumers with credit
//	Take        the door takes them, as fast as its client does
//	Submit      the client's verdict: gone, back to its place, or a dead letter. The
//	            verdicts that arrive while an entry is on its way share the next one
//
// The order of a queue is that of the offsets. A message that is released keeps its
// place; one that was delayed or has died is published again, which is one slot with the
// end of its former life.
//
// Memory does not depend on how many messages wait: a queue is a bitmap, bodies are read
// when their turn comes.
package queue
