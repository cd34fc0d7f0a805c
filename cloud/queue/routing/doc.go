// Package routing says which queues get a message: the exchanges and bindings of one
// vhost, with the behaviour of RabbitMQ. The engine of the work queues owns a Table per
// vhost and changes it as it applies the entries of its log; the doors declare, bind and
// publish through the engine.
//
// A Table is pure: no I/O, no clock, no locks, and the same calls in the same order make
// the same state, the same answers and the same bytes of Snapshot. It has one owner, also
// for Route, which uses scratch space of the Table.
//
// The exchange types are direct, fanout, topic, headers, x-consistent-hash and
// x-delayed-message. A topic exchange keeps its bindings in a trie: a message costs a step
// per word and matching prefix, however many bindings there are. A headers exchange
// compares a message with each of its bindings, as RabbitMQ does. Route allocates nothing
// once the slices of its Result and the Table's scratch space have grown. A binding takes
// about 450 bytes of memory, its nodes in the trie of a topic exchange with it.
//
// What differs from RabbitMQ: the hash function of x-consistent-hash is another one; a
// message that a delayed exchange holds does not go to its alternate exchange as well.
package routing
