package share

import (
	"context"
	"errors"
	"time"

	"github.com/weirmq/weir/cloud/share/state"
	"github.com/weirmq/weir/cloud/stopwatch"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/record"
)

// tries is how many reads one Acquire makes if they find no records: what they find may
// be markers, or records of aborted transactions.
const tries = 8

// Acquire gives a member records that are available, the oldest first. It is durable
// that they may have been delivered, not that they were. It does not wait for records:
// see Acquired.More.
//
// Errors: machine.ErrLevel, ErrTooMany, ErrClosed, and those of commitlog.Log.Fetch.
func (m *Manager) Acquire(ctx context.Context, r Request) (Acquired, error) {
	p, err := m.open(ctx, r.Place)
	if err != nil {
		return Acquired{}, err
	}
	waited := stopwatch.Waiting(ctx)
	select {
	case p.turn <- struct{}{}:
		waited()
		defer func() { <-p.turn }()
	case <-ctx.Done():
		waited()
		return Acquired{}, ctx.Err()
	}
	grown := m.log.Watch(r.Topic, r.Partition)
	for range tries {
		a, more, err := m.acquire(ctx, p, r)
		if err != nil || len(a.Records) > 0 {
			return a, err
		}
		if !more {
			break
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.current(p) {
		return Acquired{}, ErrClosed
	}
	return Acquired{More: []<-chan struct{}{grown, p.watch()}}, nil
}

// acquire makes one read. more: it found no records, but there may be some behind.
func (m *Manager) acquire(ctx context.Context, p *partition, r Request) (a Acquired, more bool, err error) {
	start, end, err := m.log.Bounds(r.Topic, r.Partition)
	if err != nil {
		return a, false, err
	}
	m.mu.Lock()
	durable := m.state.ByID(p.id)
	if !m.current(p) || durable == nil {
		m.mu.Unlock()
		return a, false, ErrClosed
	}
	settings := m.o.Settings(r.Group).withDefaults()
	from, _, _ := p.next(durable, start)
	room := settings.Locks - p.held()
	m.mu.Unlock()
	if room <= 0 || from >= end {
		return a, false, nil
	}
	read := m.log.Fetch
	if settings.Committed {
		read = m.log.FetchCommitted
	}
	found, err := read(ctx, r.Topic, r.Partition, from, max(r.Bytes, 1))
	if errors.Is(err, commitlog.ErrOffsetOutOfRange) && found.Start > from {
		return a, true, nil // retention has moved the start
	}
	if err != nil || len(found.Batches) == 0 {
		return a, false, err
	}
	if r.Records > 0 {
		room = min(room, r.Records)
	}
	t := take{p: p, from: from, room: room, member: r.Member, until: time.Now().Add(settings.Lock), start: start}
	m.mu.Lock()
	if durable = m.state.ByID(p.id); !m.current(p) || durable == nil {
		m.mu.Unlock()
		found.Lease.Release()
		return a, false, ErrClosed
	}
	t.all(durable, found)
	update, wait := t.update(durable)
	m.arm(p, t.until)
	m.mu.Unlock()

	if err := m.lend(ctx, p, update, wait); err != nil {
		found.Lease.Release()
		return Acquired{}, false, err
	}
	if len(t.a.Records) == 0 {
		found.Lease.Release()
		return Acquired{}, t.next < end, nil
	}
	t.a.Lease = found.Lease
	return t.a, false, nil
}

// lend makes an update durable, if it is not empty. It waits for it if wait is set.
func (m *Manager) lend(ctx context.Context, p *partition, u state.Updated, wait bool) error {
	if u.ID == 0 {
		return nil
	}
	landed := make(chan error, 1)
	defer stopwatch.Waiting(ctx)()
	m.settle(p, u, nil, func(err error) { landed <- err })
	if !wait {
		return nil
	}
	select {
	case err := <-landed:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// take acquires records that a read has found. Manager.mu is held.
type take struct {
	p      *partition
	from   int64 // of the read
	room   int   // records that may still be acquired
	member string
	until  time.Time
	start  int64 // of the partition

	a     Acquired
	none  []state.Run // offsets without a record to deliver
	next  int64       // the first offset that was not looked at
	taken int64       // the last that was acquired, or has no record
}

// all goes through the batches. Offsets between them have no records any more, and
// those of markers and aborted transactions none to deliver.
func (t *take) all(durable *state.Partition, found commitlog.Fetched) {
	t.next, t.taken = t.from, -1
	for _, data := range found.Batches {
		b := record.Batch(data)
		if base := b.BaseOffset(); base > t.next {
			t.skip(durable, base-1)
		}
		switch last := b.NextOffset() - 1; {
		case !found.Committed(b):
			t.skip(durable, last)
		default:
			if t.acquire(durable, last) {
				t.a.Batches = append(t.a.Batches, data)
			}
			if t.room == 0 { // there may be more in this batch
				return
			}
		}
	}
}

// acquire acquires what is available up to last, and reports whether there was any.
func (t *take) acquire(durable *state.Partition, last int64) (any bool) {
	for t.room > 0 && t.next <= last {
		first, end, count := t.p.next(durable, t.next)
		if t.next = first; first > last {
			break
		}
		end = min(end, last, first+int64(t.room)-1)
		t.p.add(lease{first: first, last: end, count: count + 1, member: t.member, until: t.until})
		if n := len(t.a.Records); n > 0 && t.a.Records[n-1].Last == first-1 && t.a.Records[n-1].Count == count+1 {
			t.a.Records[n-1].Last = end
		} else {
			t.a.Records = append(t.a.Records, Delivery{first, end, count + 1})
		}
		t.room -= int(end - first + 1)
		t.next, t.taken, any = end+1, end, true
	}
	return any
}

// skip marks what is available up to last as done.
func (t *take) skip(durable *state.Partition, last int64) {
	for t.next <= last {
		first, end, _ := t.p.next(durable, t.next)
		if t.next = first; first > last {
			break
		}
		end = min(end, last)
		t.p.add(lease{first: first, last: end, ending: true})
		t.none = append(t.none, state.Run{First: first, Last: end, Done: true})
		t.next, t.taken = end+1, end
	}
}

// update returns what must become durable; wait: before the records are delivered.
func (t *take) update(durable *state.Partition) (u state.Updated, wait bool) {
	if len(t.none) == 0 && t.taken <= durable.Lent-ahead/2 {
		return u, false
	}
	u = state.Updated{ID: t.p.id, Lent: max(durable.Lent, t.taken), Changes: t.none}
	if t.taken > durable.Lent-ahead/2 && len(t.a.Records) > 0 {
		u.Lent = t.taken + ahead
	}
	if t.start > durable.Start {
		u.Start = t.start
	}
	return u, t.taken > durable.Lent && len(t.a.Records) > 0
}
