package mqtt

import (
	"cmp"
	"context"
	"maps"
	"slices"
)

// SessionInfo describes one client's session.
type SessionInfo struct {
	Client        string   // id
	User          string   // the logged-in user; "" while it is offline, or without a login
	Address       string   // host:port; "" while it is offline
	Subscriptions []string // filters, in order
	InFlight      int      // messages that are sent but not acknowledged
	Queued        int      // messages that wait to be sent
	QueuedBytes   int      // of the queued messages
}

// Sessions lists the sessions, connected and kept, in the order of their clients' ids. It waits
// until the current batch is dispatched.
//
// Errors: that of ctx.
func (s *Server) Sessions(ctx context.Context) ([]SessionInfo, error) {
	answer := make(chan []SessionInfo, 1)
	select {
	case s.dispatcher.asked <- func() { answer <- s.dispatcher.list() }:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	all := <-answer
	slices.SortFunc(all, func(a, b SessionInfo) int { return cmp.Compare(a.Client, b.Client) })
	return all, nil
}

func (d *dispatcher) list() []SessionInfo {
	all := make([]SessionInfo, 0, len(d.sessions))
	for _, s := range d.sessions {
		one := s.info()
		one.Subscriptions = slices.Sorted(maps.Keys(s.filters))
		all = append(all, one)
	}
	return all
}

// info returns everything but the subscriptions, which belong to the dispatcher.
func (s *session) info() SessionInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	one := SessionInfo{Client: s.id, InFlight: len(s.inflight),
		Queued: s.waiting.fast.n + s.waiting.sure.n, QueuedBytes: s.waiting.fast.bytes + s.waiting.sure.bytes}
	if c := s.conn; c != nil {
		one.User, one.Address = c.username, c.peer.String()
	}
	return one
}
