package sender

import (
	"time"

	"github.com/weirmq/weir/storage/weir"
)

// partKey is a partition of one life of a topic.
type partKey struct {
	topic     weir.TopicID
	partition int32
}

// entryState is how far an entry has got.
type entryState uint8

const (
	parked  entryState = iota // its topic is not resolved yet
	queued                    // in a partition's queue, sent or not
	refused                   // refused for good, not in the dead letters yet
	dead                      // missing: to be reported when everything before it is settled
	settled                   // durable in the cloud, or reported there
)

// entry is one item of the lane. It lives from when it is read until it and everything
// before it are settled.
type entry struct {
	first, last uint64 // equal for a record
	item        Item   // gone once it is not needed any more
	size        int    // bytes that it counts for
	state       entryState
	of          *part  // of a dead letter: the partition that is held because of it
	cause       string // why it is missing
	exact       bool
}

// sentFrame is one frame that was sent and is not acked.
type sentFrame struct {
	first, last uint64
	n           int // entries
}

// part is what the delivery knows of one partition.
//
//	queue: [ sent, not acked ........ | not sent ............ ]
//	         0                          next
type part struct {
	key   partKey
	gaps  bool // of topic weir.gaps
	queue []*entry
	next  int

	mark  uint64 // the highest sequence known to be durable
	prev  uint64 // the last sequence sent, or the mark at the start
	high  uint64 // the highest sequence sent in any round
	round uint32 // counts rewinds

	unacked   []sentFrame
	waiting   int           // bytes not sent
	limit     int           // entries per frame while looking for a bad one; 0: no limit
	held      int           // dead letters that are not reported yet: nothing behind them may be sent
	pause     time.Duration // after the last refusal for now
	notBefore time.Time     // when the pause is over
	holes     int           // refusals without progress
}

const (
	maxUnacked = 8         // frames in flight, unless there is enough for a full one
	fullFrame  = 256 << 10 // bytes that are worth a frame of their own
	minPause   = 100 * time.Millisecond
	maxPause   = 5 * time.Second
	freeHoles  = 3 // rewinds in a row without a pause
)

// ready reports whether a frame may be sent now. A partition with enough frames in
// flight waits until one is acked or there is enough for a large one. So on an idle
// link a reading is sent at once, and on a busy one batches grow by themselves.
func (p *part) ready(now time.Time) bool {
	return p.next < len(p.queue) && p.held == 0 && !now.Before(p.notBefore) &&
		(len(p.unacked) < maxUnacked || p.waiting >= fullFrame)
}

// backOff pauses the partition, longer each time.
func (p *part) backOff(now time.Time) {
	p.pause = min(max(2*p.pause, minPause), maxPause)
	p.notBefore = now.Add(p.pause)
}

// progress resets what refusals without progress had changed.
func (p *part) progress() {
	p.pause, p.holes, p.notBefore = 0, 0, time.Time{}
	if p.limit *= 2; p.limit >= maxRecords {
		p.limit = 0
	}
}
