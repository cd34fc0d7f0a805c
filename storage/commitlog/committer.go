package commitlog

import (
	"time"

	"github.com/weirmq/weir/storage/commitlog/state"
)

// leaveBytes is how many bytes must be in line for a slot to leave while others are in
// flight, or before the linger is over. Where each request costs money it is a full
// slot: otherwise a busy log would pay for many small ones.
const leaveBytes = 256 << 10

// pauses is how many lingers must have passed without a slot for the log to count as
// idle. The next slot of an idle log leaves at once: with so few writers no other
// request will join it.
const pauses = 2

// commit is the committer. While slots are in flight, requests collect in line; the
// next slot leaves when one lands, or when leaveBytes have collected. So a slow bucket
// gets few large slots and a fast one many small ones, without a timer unless there is
// a linger. The pacer alone holds requests back, and only those of writers.
func (l *Log) commit() {
	defer close(l.committed)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for number := uint64(1); ; {
		wait, held, ready := l.ready()
		if ready {
			if l.build(number, held) {
				number++
			}
			continue
		}
		timer.Reset(wait)
		select {
		case <-l.line.wake:
		case <-timer.C:
		case <-l.closing:
			return
		case <-l.journal.Done():
			l.fail(l.journal.Err())
			return
		}
	}
}

// idle is how long the committer sleeps when only an event can wake it.
const idle = time.Hour

// ready reports whether a slot may leave now; held: with urgent requests only. If not,
// wait is how long to wait if nothing happens.
func (l *Log) ready() (wait time.Duration, held, ready bool) {
	urgent, bytes, since := l.line.state()
	flying, _ := l.flight.state()
	if !urgent && bytes == 0 || flying >= l.depth {
		return idle, false, false
	}
	now := time.Now()
	hold := time.Duration(0)
	if bytes > 0 {
		hold = l.pacer.Hold(now)
	}
	switch held = hold > 0; {
	case held && !urgent:
		return hold, held, false
	case !held && bytes >= l.leaveBytes:
		return 0, held, true
	case held && flying > 0:
		return hold, held, false
	case flying > 0:
		return idle, held, false
	}
	if now.Sub(l.left) >= pauses*l.linger {
		return 0, held, true
	}
	wait = l.linger - now.Sub(since)
	return wait, held, wait <= 0
}

// build makes a slot of the requests in line, or of the urgent ones if held, and writes
// it. It reports whether the number was used.
func (l *Log) build(number uint64, held bool) bool {
	requests := l.line.pull(l.fillBytes, held)
	l.left = time.Now()
	if !held {
		l.pacer.Leave(time.Now())
	}
	b := newBuilder(l, number)

	_, landed := l.flight.state()
	l.mu.RLock()
	l.spec.forgetUpTo(landed)
	for _, r := range requests {
		r.admit(b)
	}
	l.mu.RUnlock()

	if len(b.slot.entries) == 0 && !b.slot.alone {
		if !l.flight.join(b.slot.answers) {
			b.slot.end(l.Err())
		}
		return false
	}
	if l.unsaid != nil {
		b.put(state.KindIdentity, state.EncodeIdentity(l.unsaid))
		l.unsaid = nil
	}
	err := b.seal()
	if err == nil {
		// The slot is in flight before it is written, because it may land before Write
		// returns.
		err = l.flight.launch(b.slot)
	}
	if err != nil {
		l.fail(err)
		b.slot.end(l.Err())
		return true
	}
	if _, err := l.journal.WriteInPlace(&b.slot.memory.laid, b.slot.entries); err != nil {
		l.fail(err)
	}
	return true
}
