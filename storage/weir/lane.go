package weir

import (
	"fmt"
	"strconv"
)

// Lane is a priority class on a gateway. Lower is more urgent. Each lane of a
// buffer is a stream with a sequence of its own.
type Lane uint8

// The lanes, most urgent first.
const (
	Alarm Lane = iota
	Live
	Bulk

	// Lanes is the number of lanes.
	Lanes = 3
)

// Valid reports whether l is one of the lanes.
func (l Lane) Valid() bool { return l < Lanes }

// String returns the lane's name.
func (l Lane) String() string {
	switch l {
	case Alarm:
		return "alarm"
	case Live:
		return "live"
	case Bulk:
		return "bulk"
	}
	return "lane-" + strconv.Itoa(int(l))
}

// ParseLane returns the lane with that name.
func ParseLane(name string) (Lane, error) {
	for l := range Lane(Lanes) {
		if l.String() == name {
			return l, nil
		}
	}
	return 0, fmt.Errorf("lane %q is none of %v, %v, %v", name, Alarm, Live, Bulk)
}
