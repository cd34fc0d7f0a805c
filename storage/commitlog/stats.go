package commitlog

import (
	"time"

	"github.com/weirmq/weir/storage/segment/reader"
)

// Stats are figures about the log at rest.
type Stats struct {
	Segments   int           // objects that something refers to, slots that serve as segments among them
	Garbage    int           // objects that nothing refers to and that are not deleted yet
	Waiting    int64         // bytes in slots that are not rewritten behind a checkpoint yet; see Upkeep.Debt
	Throttled  time.Duration // total time that writers were held back because too much was waiting
	Checkpoint time.Time     // when the upkeep last completed a pass; before the first one, when it began
	Damaged    int           // pieces in segments and runs in slots that were found damaged or missing when they were read
	Reads      reader.Stats  // of segments
}

// Stats may be called at any time.
func (l *Log) Stats() Stats {
	s := Stats{
		Checkpoint: l.upkeep.LastPass(),
		Throttled:  l.pacer.Throttled(),
		Damaged:    l.damaged(),
		Reads:      l.blocks.Stats(),
	}
	s.Waiting, _ = l.upkeep.Waiting()
	l.mu.RLock()
	defer l.mu.RUnlock()
	s.Segments, s.Garbage = len(l.state.Segments)+l.state.Slots.Len(), len(l.state.Garbage)
	return s
}
