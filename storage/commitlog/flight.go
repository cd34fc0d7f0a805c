package commitlog

import (
	"sync"

	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/journal"
)

// flight holds the slots that were written and whose answers are not all given. All
// answers are given in order. The journal's goroutine gives those of slots that landed;
// the committer's gives those that wait for nothing, while nothing is in flight.
type flight struct {
	mu      sync.Mutex
	slots   []*slot // guarded by mu; oldest first
	landed  uint64  // guarded by mu: number of the last slot that landed
	landing bool    // guarded by mu: the oldest slot has landed, its answers are being given
	err     error   // guarded by mu: why nothing lands any more
}

// launch adds a slot that is about to be written.
func (f *flight) launch(s *slot) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.slots = append(f.slots, s)
	}
	return f.err
}

// join lets answers without a slot of their own wait for the youngest slot in
// flight. It reports false if there is none to wait for.
func (f *flight) join(answers []func(error)) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.slots) == 0 {
		return false
	}
	last := f.slots[len(f.slots)-1]
	last.answers = append(last.answers, answers...)
	return true
}

// state returns how many slots have not landed, and the number of the last one that
// has.
func (f *flight) state() (flying int, landed uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	flying = len(f.slots)
	if f.landing {
		flying--
	}
	return flying, f.landed
}

// memory returns the memory of the oldest slot, whose entries are about to be applied, if
// it can be used again when nobody refers to it: nil if the slot is not one of this Log
// (in recovery), if somebody may still be sending it, or if it has other entries than
// runs, because a Machine may keep those.
func (f *flight) memory(entries []journal.Entry) *memory {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.slots) == 0 {
		return nil
	}
	s := f.slots[0]
	if len(entries) == 0 || len(s.entries) != len(entries) || &s.entries[0] != &entries[0] || !s.memory.laid.Clear {
		return nil
	}
	for i := range entries {
		if entries[i].Kind != state.KindRun {
			return nil
		}
	}
	return s.memory
}

// applied notes that the oldest slot was applied. settle must follow.
func (f *flight) applied() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.slots) > 0 {
		f.landing, f.landed = true, f.slots[0].number
	}
}

// settle gives the answers of the slot that has landed, including those that join
// meanwhile.
func (f *flight) settle() {
	for {
		answers := f.take()
		if len(answers) == 0 {
			return
		}
		for _, answer := range answers {
			answer(nil)
		}
	}
}

// take returns the answers that the landed slot still owes; when there are none
// the slot is gone.
func (f *flight) take() []func(error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.landing {
		return nil
	}
	answers := f.slots[0].answers
	f.slots[0].answers = nil
	if len(answers) == 0 {
		f.slots, f.landing = f.slots[1:], false
	}
	return answers
}

// crash gives up every slot that has not landed.
func (f *flight) crash(err error) {
	f.mu.Lock()
	if f.err == nil {
		f.err = err
	}
	var lost []*slot
	if f.landing {
		f.slots, lost = f.slots[:1:1], f.slots[1:]
	} else {
		f.slots, lost = nil, f.slots
	}
	f.mu.Unlock()
	for _, s := range lost {
		s.end(err)
	}
}

// end gives the answers of a slot that is not in flight: with nil if it had nothing to
// wait for, else with the reason why it was lost or never written.
func (s *slot) end(err error) {
	for _, answer := range s.answers {
		answer(err)
	}
}
