package share

import (
	"sync/atomic"
	"time"

	"github.com/weirmq/weir/cloud/share/state"
)

// arm makes sure that the leases of a share partition are looked at when one that ends
// at that time is over.
func (m *Manager) arm(p *partition, until time.Time) {
	if !m.current(p) || !p.due.IsZero() && !until.Before(p.due) {
		return
	}
	p.due = until
	if p.timer == nil {
		p.timer = time.AfterFunc(time.Until(until), func() { m.expire(p) })
		return
	}
	p.timer.Reset(time.Until(until))
}

// expire ends the leases whose time is over.
func (m *Manager) expire(p *partition) {
	now := time.Now()
	m.mu.Lock()
	p.due = time.Time{}
	update, dead, ok := m.ending(p, func(l *lease) bool { return !l.until.After(now) })
	next := time.Time{}
	for i := range p.leases {
		if l := &p.leases[i]; !l.ending && (next.IsZero() || l.until.Before(next)) {
			next = l.until
		}
	}
	if !next.IsZero() {
		m.arm(p, next)
	}
	if ok {
		m.pending.Add(1)
	}
	m.mu.Unlock()
	if ok {
		m.settle(p, update, dead, func(err error) { m.ended(p, err) })
	}
}

// ended is called when an entry that nobody waits for is durable, or is not.
func (m *Manager) ended(p *partition, err error) {
	defer m.pending.Done()
	if err == nil || gone(err) || m.ctx.Err() != nil {
		return
	}
	m.o.Log.Warn("records that a member of a share group did not acknowledge cannot be delivered again yet", "group", p.place.Group, "partition", p.place.Partition, "err", err)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.arm(p, time.Now().Add(time.Second)) // they are over still
}

// ending marks the leases that match as ending, and returns the entry that ends them, and
// which of their records are dead letters; false if there are none.
func (m *Manager) ending(p *partition, match func(*lease) bool) (state.Updated, []deadRow, bool) {
	u := state.Updated{ID: p.id, Lent: -1}
	if !m.current(p) {
		return u, nil, false
	}
	var dead []deadRow
	settings := m.o.Settings(p.place.Group).withDefaults()
	for i := range p.leases {
		if l := &p.leases[i]; !l.ending && match(l) {
			l.ending, l.verdict = true, Release
			r := l.outcome(Release, settings.Deliveries)
			u.Changes = append(u.Changes, r)
			if d, ok := l.deadRow(Release, r, &settings); ok {
				dead = append(dead, d)
			}
		}
	}
	return u, dead, len(u.Changes) > 0
}

// Leave ends the leases of a member that has gone. It calls done when that is durable,
// or cannot be. It does not wait, but for room in the log.
func (m *Manager) Leave(group, member string, done func(error)) {
	type ended struct {
		p    *partition
		u    state.Updated
		dead []deadRow
	}
	var all []ended
	m.mu.Lock()
	for _, p := range m.groups[group] {
		if u, dead, ok := m.ending(p, func(l *lease) bool { return l.member == member && l.count > 0 }); ok {
			all = append(all, ended{p, u, dead})
		}
	}
	m.pending.Add(len(all))
	m.mu.Unlock()
	if len(all) == 0 {
		done(nil)
		return
	}
	var left atomic.Int64
	var first atomic.Pointer[error]
	left.Store(int64(len(all)))
	for _, e := range all {
		m.settle(e.p, e.u, e.dead, func(err error) {
			m.ended(e.p, err)
			if err != nil {
				first.CompareAndSwap(nil, &err)
			}
			if left.Add(-1) > 0 {
				return
			}
			if failed := first.Load(); failed != nil {
				done(*failed)
				return
			}
			done(nil)
		})
	}
}
