package wal

import (
	"time"

	"github.com/weirmq/weir/storage/weir"
)

// Stats is what the buffer holds at one moment.
type Stats struct {
	Bytes, Quota int64 // of the segments of all buffers
	Free         int64 // free bytes on the disk, including the reserve; -1: not known

	Buffers    int    // on the disk, including the current one
	Unreadable int    // on the disk, but not readable at this start
	Records    uint64 // not acknowledged yet, including gaps
	Lanes      [weir.Lanes]LaneStats

	// OldestTime is the timestamp of the oldest record that is not acknowledged; zero if
	// there is none.
	OldestTime time.Time

	DeadBytes   int64 // -1: not known
	DeadRecords uint64
	DeadDropped uint64 // since Open, because of newer ones
}

// LaneStats is what one lane holds in all buffers.
type LaneStats struct {
	Records    uint64    // not acknowledged yet, including gaps
	OldestTime time.Time // zero if there is none
}

// oldest caches a reader's oldest record, so that repeated calls of Stats are cheap.
type oldest struct {
	lane  *lane
	acked uint64
	at    time.Time
}

// Stats returns what the buffer holds. It may read a frame of each lane, and the first
// call reads the dead letters.
func (l *Log) Stats() Stats {
	s := Stats{Bytes: l.used.Load(), Quota: l.opts.Quota}
	var err error
	if s.Free, err = l.disk.free(l.opts.Dir); err != nil {
		s.Free = -1
	}
	l.mu.RLock()
	buffers := l.buffers
	s.Buffers, s.Unreadable = len(buffers), len(l.unread)
	l.mu.RUnlock()
	for ln := range weir.Lane(weir.Lanes) {
		lane := &s.Lanes[ln]
		for _, b := range buffers {
			acked, last, _ := b.lanes[ln].bounds()
			if lane.Records == 0 && acked < last {
				lane.OldestTime = l.readers[ln].oldestIn(&b.lanes[ln])
			}
			lane.Records += last - acked
		}
		s.Records += lane.Records
		if at := lane.OldestTime; !at.IsZero() && (s.OldestTime.IsZero() || at.Before(s.OldestTime)) {
			s.OldestTime = at
		}
	}
	l.dead.stats(&s)
	return s
}

// oldestIn returns the timestamp of the first record of a lane that is not acknowledged
// and can be read; zero if there is none.
func (r *reader) oldestIn(la *lane) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	acked, last, _ := la.bounds()
	if r.oldest.lane == la && r.oldest.acked == acked {
		return r.oldest.at
	}
	if acked == last {
		return time.Time{}
	}
	var other reader // so that the sender's reader keeps its position
	defer other.window.close()
	f, err := other.find(la, acked+1, last)
	if err != nil || f.count == 0 {
		return time.Time{}
	}
	items, err := decodeRecords(f.body, f.header, max(f.first, acked+1))
	if err != nil {
		return time.Time{}
	}
	r.oldest = oldest{lane: la, acked: acked, at: time.UnixMilli(items[0].Record.Timestamp)}
	return r.oldest.at
}

func (d *dead) stats(s *Stats) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.load(); err != nil {
		s.DeadBytes = -1
		return
	}
	s.DeadBytes, s.DeadDropped = d.bytes(), d.dropped
	for _, f := range d.segments {
		s.DeadRecords += f.count
	}
}
