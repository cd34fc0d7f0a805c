//go:build weirtest

package commitlog

import (
	"sync"

	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/weir"
)

// Mutations break single rules of the log, so that a model test can show that it
// notices. They exist only in a build with the tag weirtest.
type Mutations struct {
	NoPrev       bool // append whatever lies above the mark, whatever came before it
	DurableMarks bool // compare with the durable marks only, not with what is in flight
	AckFlying    bool // ack a batch when it is admitted, not when its slot is durable
	AckDuplicate bool // ack a duplicate at once, while the slot that set the mark may be in flight
	PromiseMarks bool // tell gateways the marks of slots that are in flight

	StopAtOnce bool // stop slices without waiting for what is in flight
	VoidUnsaid bool // say that slices did not move out, and may decide otherwise later

	State state.Mutations // of the rules that the state keeps
}

func noPrev(m Mutations) bool       { return m.NoPrev }
func durableMarks(m Mutations) bool { return m.DurableMarks }
func ackFlying(m Mutations) bool    { return m.AckFlying }
func ackDuplicate(m Mutations) bool { return m.AckDuplicate }
func promiseMarks(m Mutations) bool { return m.PromiseMarks }
func stopAtOnce(m Mutations) bool   { return m.StopAtOnce }
func voidUnsaid(m Mutations) bool   { return m.VoidUnsaid }

// any reports whether a rule is broken.
func (m Mutations) any() bool { return m != (Mutations{}) }

// promises are marks that are not durable yet. Only PromiseMarks has any.
type promises struct {
	mu   sync.Mutex
	last map[state.MarkKey]uint64 // guarded by mu
}

func (p *promises) set(key state.MarkKey, last uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last == nil {
		p.last = make(map[state.MarkKey]uint64)
	}
	p.last[key] = last
}

// add appends the marks of a gateway that are higher than the ones in marks.
func (p *promises) add(gateway string, marks []weir.Mark) []weir.Mark {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, last := range p.last {
		if key.Stream.Gateway == gateway {
			marks = append(marks, weir.Mark{Buffer: key.Stream.Buffer, Lane: key.Stream.Lane, Topic: key.Place.Topic, Partition: key.Place.Partition, Last: last})
		}
	}
	return marks
}
