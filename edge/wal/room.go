package wal

import (
	"fmt"
	"math"

	"github.com/weirmq/weir/storage/weir"
)

// laneShare is the part of the quota that a lane leaves to each more urgent lane.
const laneShare = 16

// Room returns how many bytes of records (see Size) one Append to the lane would take
// now. Call it before accepting records from devices: what fits is then stored, unless
// others fill the disk or the quota in the meantime. For appends to several lanes, the
// records of all of them together must fit into the Room of each of these lanes.
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

// Full reports whether nothing can be appended to the lane.
func (l *Log) Full(ln weir.Lane) bool { return l.Room(ln) == 0 }

// Space is what decides whether a lane takes records.
type Space struct {
	Used  int64 // bytes of segments
	Limit int64 // the lane takes records while Used is below this
	Quota int64 // bytes of segments for all lanes

	Disk    int64 // free bytes on the disk above the reserve; the largest number if there is no reserve
	Reserve int64
}

// Space returns what decides whether the lane takes records now. A disk that does not
// report its free space counts as full.
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

// limit returns how many bytes of segments there may be for the lane to append.
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
