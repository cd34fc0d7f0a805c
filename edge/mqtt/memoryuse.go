package mqtt

import "sync/atomic"

// What clients make the server remember is counted in bytes of memory, rounded up. The state
// file never needs more bytes for it than that. So the file, together with the copy that a
// rewrite makes of it, stays within three times Options.MaxState.
const (
	sessionCost      = 1024 // a session without subscriptions, including the client id once
	subscriptionCost = 256  // in addition to the filter and its levels
	inboundCost      = 128  // a QoS 2 packet id between PUBLISH and PUBREL
	aliasCost        = 64   // in addition to the topic
	deliveryCost     = 128  // one entry of a session's queue
	retainedCost     = 128  // in addition to the message and its levels
	retainedLevel    = 96   // one level of a retained topic
)

// smallAccount is up to how many bytes a client may use the eighth of the memory that larger
// clients leave free. So a few clients cannot use up the memory for the others.
const smallAccount = 8 << 10

// Eighths of the memory. Sessions leave some for queues, and queues some for sessions. In both
// cases small accounts find some left.
const (
	allEighths      = 7 // what sessions, retained messages and queues may take together
	sessionEighths  = 5 // what sessions and retained messages may take of these
	reservedEighths = 1 // additional part of both, for small accounts
)

// memoryUse counts the bytes of all clients: sessions, subscriptions, wills, QoS 2
// packet ids, topic aliases, retained messages, and messages that wait for
// subscribers or for their acknowledgement.
type memoryUse struct {
	limit     int64 // of used
	perClient int64 // of one account
	queues    int64 // of waiting
	used      atomic.Int64
	waiting   atomic.Int64 // part of used: the messages in queues
}

func newMemoryUse(o *Options) *memoryUse {
	return &memoryUse{limit: int64(o.MaxState), perClient: int64(o.MaxClientState), queues: int64(o.MaxQueuedTotal)}
}

// shortage returns how many bytes of sessions must be freed before there is room for n more.
// eighths is how many more eighths than usual may be used.
func (m *memoryUse) shortage(n, eighths int64) int64 {
	used := m.used.Load()
	sessions := used - m.waiting.Load()
	return max(0, used+n-m.limit/8*(allEighths+eighths), sessions+n-m.limit/8*(sessionEighths+eighths))
}

// hold notes that the client's session has the message in its queue. A message that many
// sessions have is counted once.
func (a *account) hold(d *delivery) { a.count(d, 1) }

// release is the inverse of hold.
func (a *account) release(d *delivery) { a.count(d, -1) }

func (a *account) count(d *delivery, n int32) {
	cost, size := d.cost()*int64(n), int64(d.size)*int64(n)
	a.queued.Add(cost + size)
	if left := atomic.AddInt32(&d.message.holders, n); left == max(n, 0) {
		cost += size
	}
	a.memory.used.Add(cost)
	a.memory.waiting.Add(cost)
}

// mayHold reports whether there is room for one more message in a queue. While no more than a
// quarter is used, any message has room.
func (m *memoryUse) mayHold(d *delivery) bool {
	n := d.cost()
	if atomic.LoadInt32(&d.message.holders) == 0 {
		n += int64(d.size)
	}
	return m.waiting.Load() <= m.queues/4 || m.waiting.Load()+n <= m.queues && m.used.Load()+n <= m.limit/8*allEighths
}

// account is one client's part of that, without the messages that wait for it. The
// committer charges what is in the state, the reader charges aliases.
type account struct {
	memory *memoryUse
	used   atomic.Int64
	queued atomic.Int64 // bytes of messages that wait for the client; not included in used

	since   uint64                  // the session is owed nothing up to this number of the log
	number  uint32                  // in the log of what is owed, of a session that outlives its connection; 0: none
	owed    owedAmount              // in the log; not included in used
	shared  atomic.Int64            // messages under way to this client as a member of a shared subscription
	session atomic.Pointer[session] // set by the dispatcher
}

// owedAmount is what a session is owed.
type owedAmount struct{ n, bytes atomic.Int64 }

func (a *owedAmount) add(n, bytes int64) {
	a.n.Add(n)
	a.bytes.Add(bytes)
}

// part returns the share of so many messages in the bytes.
func (a *owedAmount) part(n int) int64 {
	if all := a.n.Load(); all > 0 {
		return a.bytes.Load() * int64(n) / all
	}
	return 0
}

// fits reports whether the client's own limit allows n more bytes.
func (a *account) fits(n int64) bool { return a.used.Load()+n <= a.memory.perClient }

// shortage returns how many bytes of others must be freed before the client can have n more.
func (a *account) shortage(n int64) int64 {
	if a.used.Load()+n <= smallAccount {
		return a.memory.shortage(n, reservedEighths)
	}
	return a.memory.shortage(n, 0)
}

// charge adds n bytes, which may be negative, without a check.
func (a *account) charge(n int64) {
	a.used.Add(n)
	a.memory.used.Add(n)
}

func subscriptionSize(id, filter string) int64 {
	return subscriptionCost + int64(len(id)+2*len(filter)+levelCost*levels(filter))
}

func retainedSize(m *Message) int64 {
	return retainedCost + int64(m.size()+retainedLevel*levels(m.Topic))
}
