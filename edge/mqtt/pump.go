package mqtt

import (
	"slices"

	"github.com/mochi-mqtt/server/v2/packets"
)

// pump sends what the windows allow.
func (s *session) pump() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pumpLocked()
}

// pumpLocked sends first what is in flight from an earlier connection, then what waits. The
// send quota is not a counter but computed as the window minus the packets in flight, so that
// nothing can leak [MQTT-4.9.0-1].
func (s *session) pumpLocked() {
	for s.conn != nil {
		if s.sent < len(s.inflight) {
			if !s.againLocked() {
				return
			}
		} else if s.waiting.len() == 0 || !s.nextLocked() {
			break
		}
	}
	if s.waiting.len() == 0 {
		s.dropping = false
		s.loadLocked()
	}
}

// againLocked sends the next one that is in flight from an earlier connection,
// and reports whether there was room.
func (s *session) againLocked() bool {
	d, size := &s.inflight[s.sent], 0
	if d.message != nil {
		size = d.message.wireSize()
	}
	if s.sent >= s.window || !s.conn.out.hasRoom(size) {
		return false
	}
	s.sendInflightLocked()
	return true
}

// sendInflightLocked sends inflight[sent].
func (s *session) sendInflightLocked() {
	s.sent++
	if err := s.sendLocked(&s.inflight[s.sent-1]); err == errTooBig || err == errNotReadable {
		s.removeLocked(s.sent - 1)
	}
}

// nextLocked sends the oldest delivery that waits, and reports whether to continue.
func (s *session) nextLocked() bool {
	front := s.waiting.front()
	if front.replay != nil {
		return s.replayLocked(front.replay)
	}
	if !front.released && front.expired() {
		d := s.waiting.pop()
		s.account.release(&d)
		s.count.expired.Inc()
		s.endedLocked(&d)
		return true
	}
	if !s.roomLocked(front) {
		return false
	}
	id := uint16(0)
	switch {
	case front.owed > 0:
		if id = s.owedIDLocked(front.owed); id == 0 {
			return false
		}
	case front.qos > 0:
		id = s.freeIDLocked()
	}
	d := s.waiting.pop()
	if d.qos == 0 {
		s.sendLocked(&d)
		s.account.release(&d)
		s.endedLocked(&d)
		return true
	}
	s.sendNewLocked(d, id)
	return true
}

// endedLocked notes that a delivery was acknowledged or given up.
func (s *session) endedLocked(d *delivery) {
	if d.owed > 0 {
		s.settledLocked(d.owed, d.size)
	}
	s.unshareLocked(d)
}

// roomLocked reports whether the delivery may be sent now. If not, pump is called when there is
// room.
func (s *session) roomLocked(d *delivery) bool {
	if d.qos > 0 && (len(s.inflight) >= s.window || s.inflightBytes > 0 && s.inflightBytes+d.size > s.o.MaxQueuedBytes) {
		return false
	}
	size := 0
	if d.message != nil {
		size = d.message.wireSize()
	}
	return s.conn.out.hasRoom(size)
}

// sendNewLocked appends a delivery to those in flight and sends it.
func (s *session) sendNewLocked(d delivery, id uint16) {
	d.id = id
	s.inflight = append(s.inflight, d)
	if d.message != nil {
		s.inflightBytes += d.size
	}
	if d.owed > 0 {
		s.beganLocked(d.owed)
	}
	s.sendInflightLocked()
}

// replayLocked sends the next retained message of a subscription. It keeps its
// retain flag [MQTT-3.3.1-8].
func (s *session) replayLocked(r *replay) bool {
	m := r.take(s.retained)
	if m == nil {
		s.endReplayLocked(r)
		if r.owed > 0 {
			s.settledLocked(r.owed, replaySize)
		}
		return true
	}
	d := delivery{message: m, size: m.size(), qos: min(m.QoS, r.sub.qos), retain: true}
	if r.sub.identifier > 0 {
		d.identifiers = []int{r.sub.identifier}
	}
	if !s.roomLocked(&d) {
		return false
	}
	id := uint16(0)
	switch {
	case d.qos > 0 && s.durable:
		if id = s.replayIDLocked(m.Topic); id == 0 {
			return false
		}
	case d.qos > 0:
		id = s.freeIDLocked()
	}
	r.next = nil
	if d.qos == 0 {
		s.sendLocked(&d)
		return true
	}
	s.account.hold(&d)
	s.sendNewLocked(d, id)
	return true
}

// replay queues the retained messages for a new subscription, behind what waits and before
// what comes later. None is copied. owed is the number of the record for them, 0 if there is
// none.
func (s *session) replay(sub subscription, owed uint64) {
	_, filter, _ := shareName(sub.filter)
	s.mu.Lock()
	defer s.mu.Unlock()
	r := &replay{sub: sub, filter: filter, until: s.retained.now(), owed: owed}
	if owed == 0 && r.take(s.retained) == nil {
		return
	}
	if owed > 0 {
		s.dispatched = owed
	}
	// A client that subscribes repeatedly without reading gets the messages once for
	// all the subscriptions that it made meanwhile.
	if n := len(s.replays); n > 0 {
		for _, old := range slices.Clone(s.replays[1:]) {
			if old.sub == sub {
				s.cancelReplayLocked(old)
			}
		}
	}
	s.replays = append(s.replays, r)
	switch {
	case owed == 0:
		s.waiting.push(delivery{replay: r})
	case s.lagging || s.conn == nil:
		s.lagging = true // it is queued when what precedes it in the log was read
	default:
		s.waiting.push(delivery{replay: r, owed: owed})
		s.loaded = owed
	}
	s.pumpLocked()
}

// endReplays drops the rest of the retained messages of a filter, because the subscription has
// ended.
func (s *session) endReplays(filter string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range slices.Clone(s.replays) {
		if r.sub.filter == filter {
			s.cancelReplayLocked(r)
		}
	}
	s.pumpLocked()
}

// cancelReplayLocked drops the rest of a replay. A replay in the log ends when its turn comes.
func (s *session) cancelReplayLocked(r *replay) {
	if r.owed > 0 {
		r.next, r.ended = nil, true
		return
	}
	s.endReplayLocked(r)
}

// endReplayLocked removes a replay from the queue.
func (s *session) endReplayLocked(r *replay) {
	if i := slices.Index(s.replays, r); i >= 0 {
		s.replays = slices.Delete(s.replays, i, i+1)
		s.waiting.leave(r)
	}
}

// sendLocked writes one PUBLISH, or the PUBREL that has replaced it. A message that is larger
// than the peer accepts counts as delivered [MQTT-3.1.2-25], and so does one that the client
// may not read.
func (s *session) sendLocked(d *delivery) error {
	var err error
	if d.released {
		err = s.conn.ack(packets.Pubrel, d.id, packets.CodeSuccess)
	} else {
		err = s.conn.publish(d)
	}
	if err == errTooBig {
		s.count.tooBig.Inc()
	}
	return err
}

// freeIDLocked returns a packet id that is not in flight. There always is one, because fewer
// than 65535 are in flight.
func (s *session) freeIDLocked() uint16 {
	for {
		s.nextID++
		if s.nextID != 0 && s.indexLocked(s.nextID) < 0 {
			return s.nextID
		}
	}
}

func (s *session) indexLocked(id uint16) int {
	return slices.IndexFunc(s.inflight, func(d delivery) bool { return d.id == id })
}

func (s *session) removeLocked(i int) {
	s.dropPayloadLocked(i)
	d := s.inflight[i]
	s.inflight = slices.Delete(s.inflight, i, i+1)
	if i < s.sent {
		s.sent--
	}
	if len(s.inflight) == 0 {
		s.inflight = nil
	}
	s.endedLocked(&d)
}

// dropPayloadLocked releases the message of inflight[i]: it is not sent again.
func (s *session) dropPayloadLocked(i int) {
	d := &s.inflight[i]
	if d.message == nil {
		return
	}
	s.inflightBytes -= d.size
	s.account.release(d)
	d.message = nil
}

// complete ends the delivery with this id after a PUBACK, a PUBCOMP or a PUBREC with an error
// on connection c, and reports whether there was one.
func (s *session) complete(c *conn, id uint16, qos byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.indexLocked(id)
	if s.conn != c || i < 0 || s.inflight[i].qos != qos {
		return false
	}
	s.removeLocked(i)
	s.pumpLocked()
	return true
}

// release notes a PUBREC: from now on PUBREL is sent for this id, never the message again
// [MQTT-4.3.3-6]. For a durable delivery this must be written before PUBREL is sent.
func (s *session) release(c *conn, id uint16) released {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.indexLocked(id)
	switch {
	case s.conn != c || i < 0 && s.lagging:
		return releasedLater // the delivery may turn up when more of the log has been read
	case i < 0 || s.inflight[i].qos != 2:
		return releasedUnknown
	}
	s.inflight[i].released = true
	s.dropPayloadLocked(i)
	if owed := s.inflight[i].owed; owed > 0 {
		s.releasedLocked(owed)
		return releasedDurable
	}
	return releasedNow
}

// released says what to send after a PUBREC.
type released uint8

const (
	releasedNow     released = iota // PUBREL
	releasedDurable                 // PUBREL, once the release is written
	releasedUnknown                 // PUBREL with a reason code: there is no such id
	releasedLater                   // nothing
)
