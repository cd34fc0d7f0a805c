package commitlog

import "sync"

// Mutations break single rules of the log, so that a model test can show that it
// notices. All false, always, outside tests.
type Mutations struct {
	NoPrev         bool // append whatever lies above the mark, whatever came before it
	DurableMarks   bool // compare with the durable marks only, not with what is in flight
	AckFlying      bool // ack a batch when it is admitted, not when its slot is durable
	AckDuplicate   bool // ack a duplicate at once, while the slot that set the mark may be in flight
	PromiseMarks   bool // tell gateways the marks of slots that are in flight
	KeepNoTombs    bool // forget a retired buffer completely
	KeepFirstRow   bool // keep the first row of a stream and topic instead of the newest
	ForgottenIsNew bool // take an unknown buffer for a new one, however old its counter
}

// promises is only used by a mutation: marks that are not durable yet.
type promises struct {
	mu   sync.Mutex
	last map[markKey]uint64 // guarded by mu
}

func (p *promises) set(key markKey, last uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last == nil {
		p.last = make(map[markKey]uint64)
	}
	p.last[key] = last
}

// add appends the marks of a gateway that are higher than the ones in marks.
func (p *promises) add(gateway string, marks []Mark) []Mark {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, last := range p.last {
		if key.stream.Gateway == gateway {
			marks = append(marks, Mark{Stream: key.stream, Topic: key.place.topic, Partition: key.place.partition, Last: last})
		}
	}
	return marks
}

// mutate lets a broken log go on: the state machine has checks of its own, which
// would end it before a test could see what a missing rule does.
func (l *Log) mutate(m Mutations) {
	l.mutations = m
	l.state.forgetful, l.state.ageless, l.state.firstRows = m.KeepNoTombs, m.ForgottenIsNew, m.KeepFirstRow
	if m != (Mutations{}) {
		l.state.tolerate = func(error) {}
	}
}
