package commitlog

import (
	"bytes"
	"sync"

	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/journal"
)

// maxFeed bounds the bytes of entries that are kept for mirrors. A Mirror that is further
// behind gets a snapshot.
const maxFeed = 1 << 20

// CatalogueUpdate is what a Mirror lacks of the catalogue: topics, and the state of the
// machines in Options.Mirrored. All of it is durable.
type CatalogueUpdate struct {
	At       journal.Position // the Mirror then has everything up to and including this slot
	Snapshot []byte           // everything; nil: only Slots has changed
	Slots    []CatalogueSlot  // oldest first
}

// CatalogueSlot is the entries of one slot that change the catalogue.
type CatalogueSlot struct {
	At      journal.Position
	Entries []journal.Entry
}

// feed keeps the last changes of the catalogue for mirrors.
type feed struct {
	mirrored state.Machines

	// applying is held while a slot is applied, and while a snapshot is made: so that is
	// what the log was between two slots.
	applying sync.Mutex

	mu      sync.Mutex
	at      journal.Position // guarded by mu; the last slot that was applied
	after   journal.Position // guarded by mu; slots has all changes behind this one
	slots   []CatalogueSlot  // guarded by mu
	bytes   int              // guarded by mu; of the entries in slots
	changed chan struct{}    // guarded by mu; closed at the next change
}

func newFeed(mirrored []state.Machine) (*feed, error) {
	machines, err := state.NewMachines(mirrored)
	return &feed{mirrored: machines, changed: make(chan struct{})}, err
}

// follows reports whether entries of a kind change the catalogue.
func (f *feed) follows(kind uint16) bool {
	return state.Lists(kind) || state.IsLayout(kind) || f.mirrored[kind] != nil
}

// applied notes a slot that was applied.
func (f *feed) applied(pos journal.Position, entries []journal.Entry) {
	slot := CatalogueSlot{At: pos}
	size := 0
	for _, e := range entries {
		if f.follows(e.Kind) {
			size += len(e.Body)
			slot.Entries = append(slot.Entries, journal.Entry{Kind: e.Kind, Body: bytes.Clone(e.Body)})
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at = pos
	if len(slot.Entries) == 0 {
		return
	}
	f.slots, f.bytes = append(f.slots, slot), f.bytes+size
	for f.bytes > maxFeed {
		f.after = f.slots[0].At
		for _, e := range f.slots[0].Entries {
			f.bytes -= len(e.Body)
		}
		f.slots = f.slots[1:]
	}
	close(f.changed)
	f.changed = make(chan struct{})
}

// restored notes that the log begins with a checkpoint at pos.
func (f *feed) restored(pos journal.Position) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at = before(pos)
	f.after, f.slots, f.bytes = f.at, nil, 0
}

// before returns a position behind all slots before pos and before the slot at pos.
func before(pos journal.Position) journal.Position {
	return journal.Position{Epoch: pos.Epoch, Slot: pos.Slot - 1}
}

// Between calls look while no slot is applied: what it reads from the log is what that is
// at the position, which is of the last slot that was applied. look must not wait for the
// log.
func (l *Log) Between(look func(at journal.Position)) {
	f := l.feed
	f.applying.Lock()
	defer f.applying.Unlock()
	f.mu.Lock()
	at := f.at
	f.mu.Unlock()
	look(at)
}

// CatalogueSnapshot returns the whole catalogue, for a new Mirror.
func (l *Log) CatalogueSnapshot() (u CatalogueUpdate) {
	l.Between(func(at journal.Position) {
		u = CatalogueUpdate{At: at, Snapshot: l.feed.mirrored.Checkpoint(func(p []byte) []byte {
			l.mu.RLock()
			defer l.mu.RUnlock()
			return l.state.AppendCatalogue(p)
		})}
	})
	return u
}

// CatalogueAfter returns what a Mirror lacks that has everything up to a position: nothing
// if there is no change since, and a snapshot if the log does not have them all any more,
// or if its end lies before that position. changed is closed when there is more.
func (l *Log) CatalogueAfter(after journal.Position) (u CatalogueUpdate, changed <-chan struct{}) {
	f := l.feed
	f.mu.Lock()
	changed = f.changed
	if behind := after.Before(f.after) || f.at.Before(after); behind {
		f.mu.Unlock()
		return l.CatalogueSnapshot(), changed
	}
	defer f.mu.Unlock()
	u.At = f.at
	for i := len(f.slots) - 1; i >= 0 && after.Before(f.slots[i].At); i-- {
		u.Slots = f.slots[i:len(f.slots):len(f.slots)]
	}
	return u, changed
}
