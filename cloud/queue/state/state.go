package state

import (
	"fmt"
	"maps"
	"slices"

	"github.com/weirmq/weir/cloud/queue/routing"
	"github.com/weirmq/weir/storage/coding"
	"github.com/weirmq/weir/storage/weir"
)

// The kinds of entries in the log that belong to this package.
const (
	KindDeclare  uint16 = 180
	KindPublish  uint16 = 181
	KindSettle   uint16 = 182
	KindEpoch    uint16 = 183
	KindPosition uint16 = 184

	bodyVersion = 1
	maxOffset   = 1<<62 - 1
	maxMillis   = 1<<43 - 1 // so that a time.Duration can have it
	maxPublish  = 1 << 24   // messages in one entry
)

// State is the vhosts of a shard.
type State struct {
	vhosts  map[string]*Vhost
	topics  map[weir.TopicID]*Vhost
	changes Changes
	applied uint64 // how many entries
	size    int    // of the last snapshot
	groups  []publishedGroup
	special []Special
	filters []Filter
	targets []uint64
}

// Changes is what an entry changed. Each is in it once.
type Changes struct {
	Filled           []*Queue // got messages
	Settled          []*Queue // lost messages, or counted a delivery
	Created, Deleted []*Queue
	Delayed          *Vhost // a message was delayed
	DeletedVhosts    []*Vhost

	// Of an entry KindDeclare: its vhost, and for each declaration nil if it was carried
	// out, else why not: ErrExists, ErrNoVhost, ErrNoQueue, ErrNotEmpty, or a
	// *routing.Error.
	Vhost   string
	Results []error
}

func (c *Changes) reset() {
	clear(c.Filled)
	clear(c.Settled)
	*c = Changes{Filled: c.Filled[:0], Settled: c.Settled[:0]}
}

// New returns the state before the first entry.
func New() *State {
	return &State{vhosts: make(map[string]*Vhost), topics: make(map[weir.TopicID]*Vhost)}
}

// Kinds returns the kinds of entries that Apply understands.
func (s *State) Kinds() []uint16 {
	return []uint16{KindDeclare, KindPublish, KindSettle, KindEpoch, KindPosition}
}

// Apply applies an entry and returns what it changed, which is valid until the next call.
// Which vhosts and queues an entry names need not be there: they were deleted while it was
// on its way, and that part of it changes nothing. After an error, which is an ErrCorrupt,
// the State is not to be used further.
func (s *State) Apply(kind uint16, body []byte) (*Changes, error) {
	s.changes.reset()
	s.applied++
	d := &decoder{coding.NewDecoder(body)}
	if v := d.Byte(); !d.Bad() && v != bodyVersion {
		return nil, fmt.Errorf("apply queue entry of kind %d: version %d is not known: %w", kind, v, ErrCorrupt)
	}
	var err error
	switch kind {
	case KindDeclare:
		err = s.applyDeclare(d)
	case KindPublish:
		err = s.applyPublish(d)
	case KindSettle:
		err = s.applySettle(d)
	case KindEpoch:
		err = s.applyEpoch(d)
	case KindPosition:
		err = s.applyPosition(d)
	default:
		err = fmt.Errorf("kind is not known: %w", ErrCorrupt)
	}
	if err != nil {
		return nil, fmt.Errorf("apply queue entry of kind %d: %w", kind, err)
	}
	return &s.changes, nil
}

// Vhost returns a vhost, or nil if there is none of that name.
func (s *State) Vhost(name string) *Vhost { return s.vhosts[name] }

// VhostOf returns the vhost whose messages are in a topic, or nil.
func (s *State) VhostOf(topic weir.TopicID) *Vhost { return s.topics[topic] }

// Vhosts returns all vhosts by name.
func (s *State) Vhosts() []*Vhost {
	all := make([]*Vhost, 0, len(s.vhosts))
	for _, name := range slices.Sorted(maps.Keys(s.vhosts)) {
		all = append(all, s.vhosts[name])
	}
	return all
}

// filled and settled note a queue in the changes, once.
func (s *State) filled(q *Queue) {
	if q.filled != s.applied {
		q.filled = s.applied
		s.changes.Filled = append(s.changes.Filled, q)
	}
}

func (s *State) settled(q *Queue) {
	if q.settled != s.applied {
		q.settled = s.applied
		s.changes.Settled = append(s.changes.Settled, q)
	}
}

// Vhost is a vhost: its exchanges, its queues, and the messages that are delayed in it.
type Vhost struct {
	Name  string
	Topic weir.TopicID   // has its messages
	Table *routing.Table // its exchanges, bindings, and the names of its queues

	queues  map[string]*Queue
	ids     map[QueueID]*Queue
	next    QueueID
	end     int64
	delayed delayed
	readers map[string]map[Partition]int64
	windows map[string]*window // of exchanges that look for duplicates and have seen messages
}

func newVhost(name string, topic weir.TopicID) *Vhost {
	return &Vhost{
		Name: name, Topic: topic, Table: routing.New(), next: 1,
		queues: make(map[string]*Queue), ids: make(map[QueueID]*Queue),
		readers: make(map[string]map[Partition]int64), windows: make(map[string]*window),
	}
}

// Queue returns a queue, or nil if there is none of that name.
func (v *Vhost) Queue(name string) *Queue { return v.queues[name] }

// Queues returns all queues by name.
func (v *Vhost) Queues() []*Queue {
	all := make([]*Queue, 0, len(v.queues))
	for _, name := range slices.Sorted(maps.Keys(v.queues)) {
		all = append(all, v.queues[name])
	}
	return all
}

// End returns the offset after the newest message that an entry published.
func (v *Vhost) End() int64 { return v.end }

// Floor returns the least offset that a queue needs or that is delayed, or End if there is
// none.
func (v *Vhost) Floor() int64 {
	floor := v.end
	for _, q := range v.ids {
		if id, ok := q.First(); ok {
			floor = min(floor, id)
		}
	}
	if id, ok := v.delayed.all.next(0); ok {
		floor = min(floor, id)
	}
	return floor
}
