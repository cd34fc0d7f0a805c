package weir

import "strconv"

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

// Valid reports whether there is such a lane.
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
