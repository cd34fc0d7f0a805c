package txn

import (
	"cmp"
	"context"
	"maps"
	"math"
	"slices"

	"github.com/weirmq/weir/cloud/group"
	"github.com/weirmq/weir/cloud/stopwatch"
	"github.com/weirmq/weir/storage/commitlog/state"
)

// transaction is the state of one transactional id. Coordinator.mu guards all of it.
type transaction struct {
	id string
	durable

	busy     bool                 // a change that must be alone is under way
	inFlight int                  // calls and entries that add to the transaction and whose outcome is not known yet
	idle     chan struct{}        // closed when inFlight is zero; not nil while a caller waits for that
	adding   map[state.Place]bool // implicitly added and not yet applied; true: the entry is in line
	reserved int                  // bytes of the end that calls and entries in flight will take
	complete chan struct{}        // closed when the decided transaction is complete; nil if this node is not completing one
}

// durable is the part of a transactional id that comes from entries of the log. Only
// Apply changes it.
type durable struct {
	producer Producer
	last     Producer // the producer before it asked for its last epoch; identifies a repeated request
	timeout  int64    // ms
	state    State    // "": the id does not exist yet
	started  int64    // ms since 1970, of the latest transaction; -1: none
	updated  int64    // ms since 1970

	places map[state.Place]struct{}
	groups map[string]offsets // groups that were added, with the offsets that wait for a commit
	size   int                // bytes that the end will take

	number uint64  // of the latest transaction that spans shards; 0: there was none
	spans  bool    // the ongoing transaction spans shards: number is its number
	ending *ending // set from the decision to the completion, then places and groups are those of other shards
}

// ending is the decision about a transaction that spans shards.
type ending struct {
	producer Producer // of the transaction; the epoch is that of the markers
	commit   bool
	init     bool // a new producer has begun, which aborts it
}

func (e *ending) how() Ending {
	if e.commit {
		return Committed
	}
	return Aborted
}

// addAll adds parts without offsets.
func (d *durable) addAll(places []state.Place, groups []string) {
	for _, p := range places {
		d.addPlace(p)
	}
	for _, name := range groups {
		d.addGroup(name)
	}
}

type offsets map[group.Partition]group.Offset

// changing reports whether nothing can be added now: another change is under way, or
// the end of a transaction has yet to reach other shards.
func (t *transaction) changing() bool { return t.busy || t.ending != nil }

// known reports whether an entry of the id was applied.
func (d *durable) known() bool { return d.state != "" }

// begin makes sure that there is an ongoing transaction.
func (d *durable) begin(at int64) {
	d.updated = at
	if d.state != Ongoing {
		d.clear()
		d.state, d.started = Ongoing, at
	}
}

func (d *durable) clear() {
	d.places, d.groups, d.size, d.spans = nil, nil, 0, false
}

func (d *durable) addPlace(p state.Place) {
	if _, ok := d.places[p]; !ok {
		if d.places == nil {
			d.places = make(map[state.Place]struct{})
		}
		d.places[p] = struct{}{}
		d.size += placeSize
	}
}

func (d *durable) addGroup(name string) offsets {
	of, ok := d.groups[name]
	if !ok {
		if d.groups == nil {
			d.groups = make(map[string]offsets)
		}
		of = make(offsets)
		d.groups[name] = of
		d.size += groupSize(name)
	}
	return of
}

func (d *durable) addOffset(of offsets, o group.Offset) {
	if old, ok := of[o.Partition]; ok {
		d.size -= offsetSize(old)
	}
	of[o.Partition] = o
	d.size += offsetSize(o)
}

// The most bytes that parts of a transaction add to the slot of its end.
const placeSize = 256 // a run with its marker

func groupSize(name string) int        { return 64 + len(name) }
func offsetSize(o group.Offset) int    { return 48 + len(o.Metadata) }
func sortedGroups(d *durable) []string { return slices.Sorted(maps.Keys(d.groups)) }
func sortedOffsets(of offsets) []group.Offset {
	all := slices.Collect(maps.Values(of))
	slices.SortFunc(all, func(a, b group.Offset) int {
		return cmp.Or(slices.Compare(a.Topic[:], b.Topic[:]), cmp.Compare(a.Index, b.Index))
	})
	return all
}

func sortedPlaces(d *durable) []state.Place {
	return slices.SortedFunc(maps.Keys(d.places), func(a, b state.Place) int {
		return cmp.Or(slices.Compare(a.Topic[:], b.Topic[:]), cmp.Compare(a.Partition, b.Partition))
	})
}

// exhausted reports whether clients can get no higher epoch: the highest one is
// reserved for fencing.
func (p Producer) exhausted() bool { return p.Epoch >= math.MaxInt16-1 }

// fence returns the epoch of markers that fence p.
func (p Producer) fence() int16 {
	if p.Epoch == math.MaxInt16 {
		return p.Epoch
	}
	return p.Epoch + 1
}

// reserve counts a call or entry as in flight, and reserves its bytes of the end.
func (t *transaction) reserve(size int) {
	t.inFlight++
	t.reserved += size
}

// done undoes reserve.
func (t *transaction) done(size int) {
	t.inFlight--
	t.reserved -= size
	if t.inFlight == 0 && t.idle != nil {
		close(t.idle)
		t.idle = nil
	}
}

// fits reports whether the end has room for that many more bytes.
func (c *Coordinator) fits(t *transaction, more int) bool {
	size := t.reserved + more
	if t.state == Ongoing {
		size += t.size
	}
	return size <= c.opts.MaxBytes
}

// drain waits until nothing of the transaction is in flight, and returns the durable part.
// The caller has made the transaction busy, so nothing changes it until release.
func (c *Coordinator) drain(ctx context.Context, t *transaction) durable {
	defer stopwatch.Waiting(ctx)()
	c.mu.Lock()
	for t.inFlight > 0 {
		if t.idle == nil {
			t.idle = make(chan struct{})
		}
		idle := t.idle
		c.mu.Unlock()
		<-idle
		c.mu.Lock()
	}
	defer c.mu.Unlock()
	return t.durable
}

// release ends the change that made the transaction busy.
func (c *Coordinator) release(t *transaction) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t.busy = false
	if !t.known() && c.ids[t.id] == t { // made for an entry that was never written
		delete(c.ids, t.id)
	}
}

// now returns the time for an entry.
func (c *Coordinator) now() int64 { return c.opts.Now().UnixMilli() }
