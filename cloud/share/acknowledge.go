package share

import (
	"fmt"
	"time"

	"github.com/weirmq/weir/cloud/share/state"
	"github.com/weirmq/weir/storage/weir"
)

// Acknowledge takes a member's verdicts on records of a partition that it has acquired:
// all of them, or none. It calls done once, with nil when they are durable. It does not
// wait, but for room in the log. Renewed leases are not durable.
//
// Errors: ErrInvalid, ErrInvalidState if one of the records is not acquired by the
// member (any more), ErrUnknown, ErrClosed, and those of the log. Verdicts on records
// that retention has removed are ignored.
func (m *Manager) Acknowledge(at Place, member string, all []Acknowledgement, done func(error)) {
	if m.elsewhere(at) {
		done(ErrClosed)
		return
	}
	start, _, err := m.log.Bounds(at.Topic, at.Partition)
	if err != nil {
		done(err)
		return
	}
	m.mu.Lock()
	p, update, dead, err := m.judge(at, member, all, start)
	m.mu.Unlock()
	if err != nil || len(update.Changes) == 0 {
		done(err)
		return
	}
	m.settle(p, update, dead, done)
}

// judge checks verdicts, renews leases, and marks those that end. It returns the entry that
// ends them, and which of their records are dead letters.
func (m *Manager) judge(at Place, member string, all []Acknowledgement, start int64) (*partition, state.Updated, []deadRow, error) {
	if m.closed {
		return nil, state.Updated{}, nil, ErrClosed
	}
	p := m.groups[at.Group][topicPart{at.Topic, at.Partition}]
	if p == nil || p.id == 0 || m.state.ByID(p.id) == nil {
		return nil, state.Updated{}, nil, ErrInvalidState
	}
	var dead []deadRow
	u := state.Updated{ID: p.id, Lent: -1, Start: start}
	settings := m.o.Settings(at.Group).withDefaults()
	after := int64(0)
	for _, a := range all {
		if err := a.check(after); err != nil {
			return nil, u, nil, err
		}
		after = a.Last + 1
		if !p.acquiredBy(member, max(a.First, start), a.Last) {
			return nil, u, nil, fmt.Errorf("%w: records %d to %d", ErrInvalidState, a.First, a.Last)
		}
	}
	for _, a := range all {
		a.rows(start, func(first, last int64, v Verdict) {
			if v == Renew {
				until := time.Now().Add(settings.Lock)
				p.change(first, last, func(l lease) (lease, bool) { l.until = until; return l, true })
				return
			}
			p.rows(first, last, func(l lease) {
				r := l.outcome(v, settings.Deliveries)
				u.Changes = append(u.Changes, r)
				if d, ok := l.deadRow(v, r, &settings); ok {
					dead = append(dead, d)
				}
			})
			p.change(first, last, func(l lease) (lease, bool) { l.ending, l.verdict = true, v; return l, true })
		})
	}
	return p, u, dead, nil
}

// check returns an error if the acknowledgement does not make sense, or begins before
// after.
func (a *Acknowledgement) check(after int64) error {
	switch n := len(a.Verdicts); {
	case a.First < after || a.Last < a.First:
		return fmt.Errorf("%w: records %d to %d", ErrInvalid, a.First, a.Last)
	case n == 0 || n > 1 && int64(n) != a.Last-a.First+1:
		return fmt.Errorf("%w: %d verdicts on records %d to %d", ErrInvalid, n, a.First, a.Last)
	}
	for _, v := range a.Verdicts {
		if v < Gap || v > Renew {
			return fmt.Errorf("%w: verdict %d", ErrInvalid, v)
		}
	}
	return nil
}

// rows calls do for each row of records with the same verdict, without those before
// start.
func (a *Acknowledgement) rows(start int64, do func(first, last int64, v Verdict)) {
	for first := max(a.First, start); first <= a.Last; {
		last, v := a.Last, a.Verdicts[0]
		if len(a.Verdicts) > 1 {
			v = a.Verdicts[first-a.First]
			for last = first; last < a.Last && a.Verdicts[last+1-a.First] == v; {
				last++
			}
		}
		do(first, last, v)
		first = last + 1
	}
}

// acquiredBy reports whether a member has acquired all records from first to last.
func (p *partition) acquiredBy(member string, first, last int64) bool {
	at := first
	p.rows(first, last, func(l lease) {
		if l.first == at && l.member == member && l.count > 0 && !l.ending {
			at = l.last + 1
		}
	})
	return at > last
}

// outcome returns what becomes of the records of a lease.
func (l *lease) outcome(v Verdict, deliveries int) state.Run {
	r := state.Run{First: l.first, Last: l.last, Done: v != Release || l.count >= deliveries}
	if !r.Done {
		r.Count = min(l.count, state.MaxCount)
	}
	return r
}

// settle makes an update durable, ends the leases of the records that it changes, and
// then calls done. dead are those of the records that are dead letters. The caller has
// marked the leases as ending, and holds no lock.
func (m *Manager) settle(p *partition, u state.Updated, dead []deadRow, done func(error)) {
	leave, ok := m.gate.Enter(weir.SliceOf(p.place.Topic, p.place.Partition))
	switch {
	case !ok:
		m.end(p, u.Changes, ErrClosed)
		done(ErrClosed)
	case len(dead) > 0:
		m.settleDead(p, u, dead, func(err error) {
			leave()
			done(err)
		})
	default:
		m.submit(u, func(err error) {
			leave()
			m.end(p, u.Changes, err)
			done(err)
		})
	}
}

// end ends the leases of records, whose entry is durable, and counts them; after an error
// they are acquired as before.
func (m *Manager) end(p *partition, changes []state.Run, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range changes {
		p.change(c.First, c.Last, func(l lease) (lease, bool) {
			if !l.ending {
				return l, true
			}
			if err == nil {
				p.count(&l, c.Done)
			}
			l.ending, l.verdict = false, Gap
			return l, err != nil && l.count > 0
		})
	}
	p.wake()
}
