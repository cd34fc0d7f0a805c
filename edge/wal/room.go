package wal

import (
	"fmt"
	"math"

	"github.com/weirmq/weir/storage/weir"
)

// laneShare is the part of the quota that a lane leaves to each one that is
// more urgent.
const laneShare = 16

// Room is how many bytes of records (see Size) one Append to the lane would
// take at this moment. Whoever accepts records from devices asks before it
// accepts: what fits is then stored unless others fill the disk or the quota in
// the meantime. For appends to several lanes, all of their records together
// must fit into the Room of each of these lanes.
func (l *Log) Room(ln weir.Lane) int64 {
	if ln >= weir.Lanes {
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
func (l *Log) Full(ln weir.Lane) bool { return l.Room(ln) == 0 }

// Space is what decides whether a lane takes records.
type Space struct {
	Used  int64 // bytes of segments
	Limit int64 // bytes of segments up to which the lane takes records
	Quota int64 // bytes of segments that all lanes may take

	Disk    int64 // bytes that the disk has left, without the reserve; the largest number when there is none
	Reserve int64
}

// Space returns what decides whether the lane takes records at this moment. A
// disk that does not say what it has left has nothing.
func (l *Log) Space(ln weir.Lane) Space {
	s := Space{Used: l.used.Load(), Limit: l.limit(ln), Quota: l.opts.Quota, Disk: math.MaxInt64, Reserve: max(0, l.opts.Reserve)}
	if l.opts.Reserve >= 0 {
		free, err := l.disk.free(l.opts.Dir)
		if err != nil {
			free = 0
		}
		s.Disk = free - s.Reserve
	}
	return s
}

// limit is how many bytes of segments there may be for the lane to append.
func (l *Log) limit(ln weir.Lane) int64 {
	return l.opts.Quota - l.opts.Quota/laneShare*int64(ln)
}

func (l *Log) room(ln weir.Lane) (int64, error) {
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
func (l *Log) reserve(ln weir.Lane, n int64) error {
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
