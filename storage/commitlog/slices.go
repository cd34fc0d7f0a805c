package commitlog

import "github.com/weirmq/weir/storage/weir"

// Away returns the slices that have moved out of this log and have not come back.
func (l *Log) Away() (set weir.SliceSet) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.state.Moves != nil {
		set = l.state.Moves.Away
	}
	return set
}

// SliceEpoch is LeaderEpoch for whatever has no partition, such as a gateway.
func (l *Log) SliceEpoch(s weir.Slice) int32 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.state.Moves == nil {
		return l.epoch
	}
	return l.epoch + l.state.Moves.Biases[s]
}
