package mqtt

// moving is a delivery that goes to another member of a shared subscription, because its member
// has gone.
type moving struct {
	from  *session
	what  delivery
	ended bool // the session has ended too
}

// sharedLocked returns what another member is to get. If the session continues, that is what it
// did not acknowledge at QoS 1; it stays here until another member has it. If the session has
// ended, that is everything except what it may have received at QoS 2 [MQTT-4.8.2-4]
// [MQTT-4.8.2-5].
func (s *session) sharedLocked(ended bool) (out []delivery) {
	for _, d := range s.inflight {
		if d.share != "" && d.qos == 1 && d.message != nil {
			out = append(out, d)
		}
	}
	if !ended {
		return out
	}
	for _, d := range s.waiting.items[s.waiting.head:] {
		if d.share != "" && d.message != nil && d.qos > 0 {
			out = append(out, d)
		}
	}
	return out
}

// moved removes a delivery that another member has got.
func (s *session) moved(d *delivery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		return
	}
	if d.owed > 0 {
		s.settledLocked(d.owed, d.size)
		s.unshareLocked(d)
		return
	}
	if i := s.indexLocked(d.id); i >= 0 && s.inflight[i].message == d.message {
		s.removeLocked(i)
	}
}

// moveShared asks the committer for another member.
func (d *dispatcher) moveShared(s *session, what []delivery, ended bool) {
	for _, one := range what {
		d.s.queue.again(&work{kind: workMove, client: s.id, message: one.message, unowed: true,
			req: &request{moving: &moving{from: s, what: one, ended: ended}}})
	}
}

// move chooses another member. If there is none, a session that continues keeps the message.
func (k *committer) move(w *work) {
	page, ended := k.state.clients[w.client], w.req.moving.ended
	g := k.state.subs.group(w.req.moving.what.share)
	if g == nil || !ended && (page == nil || page.conn != nil) {
		return
	}
	leave := func(c *client) bool {
		return c == page || !ended && c.conn == nil || !k.state.subs.allows(c, w.message.Topic)
	}
	for _, m := range g.members {
		if !leave(m.client) {
			k.choose(w, g.pick(leave).match())
			return
		}
	}
}

// move gives the message to the chosen member.
func (d *dispatcher) move(w *work) {
	switch {
	case w.err == nil && len(w.to) > 0:
		if !w.req.moving.ended {
			w.req.moving.from.moved(&w.req.moving.what)
		}
		d.deliver(w)
	case w.req.moving.ended:
		d.s.count.dropped.Inc()
	}
}
