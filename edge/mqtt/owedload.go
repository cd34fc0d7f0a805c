package mqtt

import (
	"fmt"
	"maps"
)

// maxReading is how many sessions read what they are owed at the same time. Each needs
// memory for a file.
const maxReading = 2

// loadOwed reads the log of what is owed, and finds which of its records count. It reports
// whether the state must be rewritten.
func (s *Server) loadOwed(l *state) (changed bool, err error) {
	changed = l.forget(s.o.Backend.Stored)
	if s.o.Owed == nil {
		return changed, nil
	}
	lost, err := s.o.Owed.load(known{l.segments, l.owedLast}, func(seg *segment, number uint64, body []byte) {
		r, err := decodeOwed(body)
		if err != nil {
			s.log.Error("a stored message for sessions cannot be read: it is dropped", "number", number, "err", err)
			return
		}
		for _, to := range r.to {
			page := l.numbers[to.number]
			if page == nil || number <= page.account.since || page.progress.settled(number) || l.void[number] {
				continue
			}
			s.o.Owed.owe(seg, to.number, 1)
			page.account.owed.add(1, int64(r.size()))
		}
	})
	if err != nil {
		return false, fmt.Errorf("load messages for sessions: %w", err)
	}
	s.count.owedLost.Add(int(lost))
	l.compare(s.o.Owed.last())
	oldest := s.o.Owed.start(l.reached(), l.void)
	maps.DeleteFunc(l.void, func(number uint64, _ bool) bool { return number < oldest })
	for _, page := range l.clients {
		if l.assignNumber(page, s.o.Owed.last()) {
			changed = true // an earlier version had no numbers
		}
	}
	return changed, nil
}
