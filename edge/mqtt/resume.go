package mqtt

import (
	"hash/fnv"
	"slices"
	"time"
)

// What a persistent session is owed lies in the OwedLog, in the order of its numbers. The
// session's progress is its position there: every delivery up to sentTo was sent, and is
// settled unless it is in open. Later deliveries are read when there is room. So a restart
// loses nothing, and what waits for a session without connection takes no memory.
//
// The packet id follows from the number. So a message that is sent again after a crash has the
// same id, by which the subscriber recognizes it.
const (
	owedIDs   = 0xBFFF // packet ids 1 to owedIDs are for owed messages
	replayIDs = 0xFFFF - owedIDs
)

// openDelivery is a delivery that was sent and is not settled.
type openDelivery struct {
	number   uint64
	released bool // PUBREC came
}

// progress is how far a session has got, as in the state file. It is immutable.
type progress struct {
	sentTo uint64
	open   []openDelivery // in order
}

// settled reports whether a delivery was sent and acknowledged.
func (p *progress) settled(number uint64) bool {
	if number > p.sentTo {
		return false
	}
	_, open := p.find(number)
	return !open
}

func (p *progress) find(number uint64) (int, bool) {
	return slices.BinarySearchFunc(p.open, number, func(o openDelivery, number uint64) int {
		switch {
		case o.number < number:
			return -1
		case o.number > number:
			return 1
		default:
			return 0
		}
	})
}

// copy returns a progress that shares nothing.
func (p *progress) copy() progress { return progress{p.sentTo, slices.Clone(p.open)} }

// first returns the number at which reading begins.
func (p *progress) first() uint64 {
	if len(p.open) > 0 {
		return min(p.open[0].number, p.sentTo+1)
	}
	return p.sentTo + 1
}

// resume continues the session of an earlier process. doubt: it was connected when the process
// died, so that more may have been sent.
func (s *session) resume(at progress, doubt bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.progress, s.saved = at.copy(), at.copy()
	s.dispatched = s.owed.last()
	if doubt {
		s.doubt, s.doubtTo = s.o.MaxInflight, s.dispatched
	}
	s.rewindLocked()
}

// rewindLocked removes owed messages from the queue: they are read again.
func (s *session) rewindLocked() {
	if !s.durable {
		return
	}
	s.generation++
	s.loading = false
	for n := s.waiting.len(); n > 0; n-- {
		d := s.waiting.pop()
		if d.owed == 0 {
			s.waiting.push(d)
		} else if d.message != nil {
			s.account.release(&d)
		}
	}
	kept := s.inflight[:0]
	for i := range s.inflight {
		if s.inflight[i].owed > 0 {
			s.dropPayloadLocked(i)
		} else {
			kept = append(kept, s.inflight[i])
		}
	}
	clear(s.inflight[len(kept):])
	s.inflight = kept
	s.loaded = s.progress.first() - 1
	s.lagging = s.dispatched > s.loaded && s.account.owed.n.Load() > 0
	if !s.lagging {
		s.loaded = max(s.loaded, s.dispatched)
		s.forgetMissingLocked()
	}
}

// deliverOwedLocked queues what the session is owed if the session keeps up. Otherwise the
// delivery stays in the log, and is read from there.
func (s *session) deliverOwedLocked(d delivery) {
	s.dispatched = d.owed
	if s.lagging || s.conn == nil || !s.fitsLocked(&d) {
		s.lagging = true
	} else {
		s.account.hold(&d)
		s.waiting.push(d)
		s.loaded = d.owed
	}
	s.pumpLocked()
}

// Limits of what a session reads from the log at once.
const (
	loadMessages = 256
	loadBytes    = 128 << 10
	loadRetry    = 250 * time.Millisecond // if the memory is full
)

// loadLocked begins to read what the session is owed, if there is something and nothing else
// waits.
func (s *session) loadLocked() {
	if !s.lagging || s.loading || s.conn == nil || s.waiting.len() > 0 {
		return
	}
	s.loading = true
	generation, from, to := s.generation, s.loaded+1, s.dispatched
	s.loaders.Go(func() { s.load(generation, from, to) })
}

// load reads a part of what the session is owed.
func (s *session) load(generation, from, to uint64) {
	var got []delivery
	upTo, bytes := to, 0
	s.reading <- struct{}{}
	err := s.owed.read(from, to, s.number, func(number uint64, body []byte) bool {
		r, err := decodeOwed(body)
		if err != nil {
			s.log.Error("a stored message for a session cannot be read: it is lost for that session", "client", s.id, "number", number, "err", err)
			return true
		}
		d, ok := r.delivery(s.number)
		if !ok {
			return true
		}
		if r.message == nil {
			d.replay = &replay{sub: r.sub, filter: r.sub.filter, owed: number}
		}
		d.owed = number
		got = append(got, d)
		if bytes += d.size; len(got) >= loadMessages || bytes >= loadBytes {
			upTo = number
			return false
		}
		return true
	})
	<-s.reading
	if err != nil {
		s.log.Error("the stored messages for a session cannot be read: trying again when the client reconnects", "client", s.id, "err", err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.generation == generation {
		s.loading = false
		s.loadedLocked(got, upTo)
	}
}

// loadedLocked queues what was read, up to a number.
func (s *session) loadedLocked(got []delivery, upTo uint64) {
	for _, d := range got {
		if i, open := s.progress.find(d.owed); open {
			d.dup, d.released = true, s.progress.open[i].released
		} else if d.owed <= s.progress.sentTo {
			continue
		} else if s.doubt > 0 && d.owed <= s.doubtTo {
			d.dup = true
			s.doubt--
		}
		switch {
		case d.released:
			d.message = nil
		case d.replay != nil:
			d.replay = s.knownReplayLocked(d.replay)
		case !s.fitsLocked(&d):
			if s.waiting.len() == 0 {
				time.AfterFunc(loadRetry, s.pump)
			}
			s.pumpLocked()
			return
		default:
			s.account.hold(&d)
		}
		s.waiting.push(d)
		s.loaded = d.owed
	}
	s.loaded = max(s.loaded, upTo)
	if s.lagging = s.loaded < s.dispatched; !s.lagging {
		s.forgetMissingLocked()
	}
	s.pumpLocked()
}

// forgetMissingLocked removes deliveries that were sent but are not in the log any more: they
// were dropped there, so they will never be settled.
func (s *session) forgetMissingLocked() {
	there := make(map[uint64]bool)
	for i := range s.inflight {
		there[s.inflight[i].owed] = true
	}
	for i := range s.waiting.items[s.waiting.head:] {
		there[s.waiting.items[s.waiting.head+i].owed] = true
	}
	before := len(s.progress.open)
	s.progress.open = slices.DeleteFunc(s.progress.open, func(o openDelivery) bool { return !there[o.number] })
	if len(s.progress.open) < before {
		s.markChangedLocked()
	}
}

// knownReplayLocked returns the session's existing replay for this record, if it has one.
func (s *session) knownReplayLocked(r *replay) *replay {
	for _, known := range s.replays {
		if known.owed == r.owed {
			return known
		}
	}
	r.until = s.retained.now()
	s.replays = append(s.replays, r)
	return r
}

// owedIDLocked returns the packet id of an owed delivery, 0 if another delivery may still have
// it.
func (s *session) owedIDLocked(number uint64) uint16 {
	id := uint16(number%owedIDs) + 1
	if s.indexLocked(id) >= 0 || s.since > 0 && number-s.since >= owedIDs {
		return 0
	}
	for _, o := range s.saved.open {
		if o.number != number && o.number%owedIDs == number%owedIDs {
			return 0
		}
	}
	return id
}

// replayIDLocked returns the packet id of a retained message, 0 if another delivery has it. It
// depends on the topic, so it is the same after a crash.
func (s *session) replayIDLocked(topic string) uint16 {
	h := fnv.New32a()
	h.Write([]byte(topic))
	id := uint16(owedIDs + 1 + h.Sum32()%replayIDs)
	if s.indexLocked(id) >= 0 {
		return 0
	}
	return id
}

// beganLocked notes that a delivery is being sent.
func (s *session) beganLocked(number uint64) {
	if i, found := s.progress.find(number); !found {
		s.progress.open = slices.Insert(s.progress.open, i, openDelivery{number: number})
	}
	s.progress.sentTo = max(s.progress.sentTo, number)
	if s.since == 0 {
		s.since = number
	}
	s.markChangedLocked()
}

// settledLocked notes that a delivery has ended.
func (s *session) settledLocked(number uint64, size int) {
	if s.progress.settled(number) {
		return
	}
	if i, found := s.progress.find(number); found {
		s.progress.open = slices.Delete(s.progress.open, i, i+1)
	}
	s.progress.sentTo = max(s.progress.sentTo, number)
	if s.owed.settle(number, s.number) {
		s.account.owed.add(-1, -int64(size))
	}
	s.markChangedLocked()
}

// releasedLocked notes that PUBREC came for a delivery.
func (s *session) releasedLocked(number uint64) {
	if i, found := s.progress.find(number); found {
		s.progress.open[i].released = true
	}
	s.markChangedLocked()
}

// markChangedLocked arranges that the session's progress is written soon.
func (s *session) markChangedLocked() {
	if !s.changed {
		s.changed = true
		s.changes.add(s)
	}
}

// markChanged arranges that the session's progress is written again.
func (s *session) markChanged() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.markChangedLocked()
}

// snapshot returns the session's progress, to be written.
func (s *session) snapshot() progress {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed = false
	return s.progress.copy()
}

// written notes that progress is durable: packet ids of deliveries that it has as settled may be
// used again.
func (s *session) written(at progress) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.saved, s.since = at, 0
	if s.progress.sentTo > at.sentTo {
		s.since = at.sentTo + 1
	}
	s.pumpLocked()
}
