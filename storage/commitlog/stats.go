package commitlog

import (
	"time"

	"github.com/weirmq/weir/storage/segment/reader"
)

// Stats say how the log at rest is doing.
type Stats struct {
	Segments   int          // objects that something refers to
	Garbage    int          // objects that nothing refers to and that are not deleted yet
	Waiting    int64        // bytes written since the slots were last rewritten
	Checkpoint time.Time    // when upkeep got through last; at first when it began
	Reads      reader.Stats // of segments
}

// Stats may be called at any time.
func (l *Log) Stats() Stats {
	s := Stats{
		Waiting:    l.upkeep.bytes.Load(),
		Checkpoint: time.UnixMilli(l.upkeep.through.Load()),
		Reads:      l.blocks.Stats(),
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	s.Segments, s.Garbage = len(l.state.segments), len(l.state.garbage)
	return s
}
