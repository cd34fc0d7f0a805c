package mqtt

import "sync/atomic"

// What clients make the server remember is counted in bytes, at what it costs
// in memory, rounded up. The state file never holds more bytes than these for
// what it keeps, so the file and the copy that a rewrite makes of it stay
// within three times Options.MaxState.
const (
	sessionCost      = 1024 // a session without subscriptions, and the client id once
	subscriptionCost = 256  // beside the filter and its levels
	inboundCost      = 128  // a QoS 2 packet id between PUBLISH and PUBREL
	aliasCost        = 64   // beside the topic
	deliveryCost     = 128  // a message's place in one session's queue
	retainedCost     = 128  // beside the message and its levels
	retainedLevel    = 96   // one level of a retained topic
)

// smallAccount is how many bytes of a client may use the eighth of the memory
// that larger ones leave free: whatever a few clients store, others find room.
const smallAccount = 8 << 10

// Eighths of the memory. Sessions leave some for queues, queues some for
// sessions, and in both cases clients that need little find some left.
const (
	allEighths      = 7 // what sessions, retained messages and queues may take together
	sessionEighths  = 5 // what sessions and retained messages may take of it
	reservedEighths = 1 // more of both, for small accounts
)

// state counts the bytes of all clients: sessions, subscriptions, wills, QoS 2
// packet ids, topic aliases, retained messages, and messages that wait for
// subscribers or for their acknowledgement.
type state struct {
	limit     int64 // of used
	perClient int64 // of one account
	queues    int64 // of waiting
	used      atomic.Int64
	waiting   atomic.Int64 // the part of used that messages in queues take
}

func newState(o *Options) *state {
	return &state{limit: int64(o.MaxState), perClient: int64(o.MaxClientState), queues: int64(o.MaxQueuedTotal)}
}

// shortage is how many bytes of sessions would have to go before there is room
// for n more, with some eighths more than others may use.
func (s *state) shortage(n, eighths int64) int64 {
	used := s.used.Load()
	sessions := used - s.waiting.Load()
	return max(0, used+n-s.limit/8*(allEighths+eighths), sessions+n-s.limit/8*(sessionEighths+eighths))
}

// hold notes that the client's session has the message in its queue. A message
// that many sessions have is in memory once.
func (a *account) hold(d *delivery) { a.count(d, 1) }

// release is the end of hold.
func (a *account) release(d *delivery) { a.count(d, -1) }

func (a *account) count(d *delivery, n int32) {
	cost, size := d.cost()*int64(n), int64(d.size)*int64(n)
	a.queued.Add(cost + size)
	if left := atomic.AddInt32(&d.message.holders, n); left == max(n, 0) {
		cost += size
	}
	a.state.used.Add(cost)
	a.state.waiting.Add(cost)
}

// mayHold reports whether there is room for one more message in a queue. As
// long as a quarter is all that is used, any message finds room.
func (s *state) mayHold(d *delivery) bool {
	n := d.cost()
	if atomic.LoadInt32(&d.message.holders) == 0 {
		n += int64(d.size)
	}
	return s.waiting.Load() <= s.queues/4 || s.waiting.Load()+n <= s.queues && s.used.Load()+n <= s.limit/8*allEighths
}

// account is what one client has of the state, apart from the messages that
// wait for it. The committer charges what is in the ledger, the reader its
// aliases.
type account struct {
	state  *state
	used   atomic.Int64
	queued atomic.Int64 // bytes of messages that wait for the client; no part of used

	since   uint64                  // nothing up to this number of the log is owed to the session
	number  uint32                  // of a session that outlives its connection, in the log of what is owed; 0: none
	owed    owedAmount              // of the log; no part of used
	shared  atomic.Int64            // messages under way because the client was chosen among those who share a subscription
	session atomic.Pointer[session] // set by the dispatcher
}

// owedAmount is what a session is owed.
type owedAmount struct{ n, bytes atomic.Int64 }

func (a *owedAmount) add(n, bytes int64) {
	a.n.Add(n)
	a.bytes.Add(bytes)
}

// part is the share of so many messages in the bytes.
func (a *owedAmount) part(n int) int64 {
	if all := a.n.Load(); all > 0 {
		return a.bytes.Load() * int64(n) / all
	}
	return 0
}

// fits reports whether the client itself may have n bytes more.
func (a *account) fits(n int64) bool { return a.used.Load()+n <= a.state.perClient }

// shortage is how many bytes of others would have to go before the client can
// have n more.
func (a *account) shortage(n int64) int64 {
	if a.used.Load()+n <= smallAccount {
		return a.state.shortage(n, reservedEighths)
	}
	return a.state.shortage(n, 0)
}

// charge adds n bytes, which may be negative, and asks nobody.
func (a *account) charge(n int64) {
	a.used.Add(n)
	a.state.used.Add(n)
}

func subscriptionSize(id, filter string) int64 {
	return subscriptionCost + int64(len(id)+2*len(filter)+levelCost*levels(filter))
}

func retainedSize(m *Message) int64 {
	return retainedCost + int64(m.size()+retainedLevel*levels(m.Topic))
}
