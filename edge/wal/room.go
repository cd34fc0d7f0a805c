package wal

import (
	"fmt"
	"math"
)

// laneShare is the part of the quota that a lane leaves to each one that is
// more urgent.
const laneShare = 16

// Room is how many bytes of records (see Size) one Append to the lane would
// take at this moment. Whoever accepts records from devices asks before it
// accepts: what fits is then stored unless others fill the disk or the quota in
// the meantime. For appends to several lanes, all of their records together
// must fit into the Room of each of these lanes.
func (l *Log) Room(ln Lane) int64 {
	if ln >= Lanes {
		return 0
	}
	room, err := l.room(ln)
	if err != nil {
		return 0
	}
	room = min(room-FrameOverhead, maxBody)
	if room <= Size(&Record{}) {
		return 0
	}
	return room
}

// Full says that nothing can be appended to the lane.
func (l *Log) Full(ln Lane) bool { return l.Room(ln) == 0 }

// limit is how many bytes of segments there may be for the lane to append.
func (l *Log) limit(ln Lane) int64 {
	return l.opts.Quota - l.opts.Quota/laneShare*int64(ln)
}

func (l *Log) room(ln Lane) (int64, error) {
	free := int64(math.MaxInt64)
	if l.opts.Reserve >= 0 {
		var err error
		if free, err = l.disk.free(l.opts.Dir); err != nil {
			return 0, fmt.Errorf("ask for free space: %w", err)
		}
		free -= l.opts.Reserve
	}
	return min(free, l.limit(ln)-l.used.Load()), nil
}

// reserve sets bytes aside for an append, or returns ErrFull.
func (l *Log) reserve(ln Lane, n int64) error {
	room, err := l.room(ln)
	if err != nil {
		return err
	}
	if n > room || l.used.Add(n) > l.limit(ln) {
		if n <= room {
			l.used.Add(-n)
		}
		return fmt.Errorf("append %d bytes to lane %v: %w", n, ln, ErrFull)
	}
	return nil
}
