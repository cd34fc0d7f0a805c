package commitlog

import (
	"context"
	"errors"
	"fmt"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/weir"
)

// ErrBehind: what a Mirror gets does not follow what it has, or a topic is opened as of a
// position of the catalogue that is too old.
var ErrBehind = errors.New("catalogue is from before what is known")

// Mirror is the catalogue on a node that does not own shard 0. It has what the owner had
// at a position: topics, and the state of Machines, to which the same entries are applied
// as at the owner. It is not safe for concurrent use; the Machines are.
type Mirror struct {
	topics   state.Listing
	layout   *state.Layout // nil: as at creation
	machines state.Machines
	at       journal.Position
	changes  int // of topics
}

// NewMirror makes a Mirror from a snapshot. The machines must be those of the owner's
// Options.Mirrored. Their state is replaced; after an error they may hold a part of the
// snapshot.
//
// Errors: ErrCorrupt; ErrFormat for a snapshot of a later version; and the machines'.
func NewMirror(u CatalogueUpdate, machines ...state.Machine) (*Mirror, error) {
	m, err := emptyMirror(machines)
	if err != nil {
		return nil, err
	}
	topics, layout, sections, err := state.DecodeCatalogue(u.Snapshot)
	if err == nil {
		err = m.machines.Check(sections)
	}
	if err == nil {
		err = m.machines.Restore(sections)
	}
	if err != nil {
		return nil, fmt.Errorf("restore a snapshot of the catalogue at %v: %w", u.At, err)
	}
	m.topics, m.layout, m.at = topics, layout, u.At
	return m, nil
}

// ReadMirror makes a Mirror from the log in the bucket. It claims nothing, and has
// everything that was durable when it was called. It reads all of the log that lies behind
// the newest checkpoint: it is for a node that finds no owner.
//
// Errors: ErrCorrupt, ErrFormat, the machines', and the bucket's.
func ReadMirror(ctx context.Context, b storage.Bucket, machines ...state.Machine) (*Mirror, error) {
	m, err := emptyMirror(machines)
	if err != nil {
		return nil, err
	}
	if _, err := journal.Replay(ctx, journal.Options{Bucket: b}, replayed{m}); err != nil {
		return nil, fmt.Errorf("read the catalogue from the bucket: %w", translate(err))
	}
	return m, nil
}

func emptyMirror(machines []state.Machine) (*Mirror, error) {
	all, err := state.NewMachines(machines)
	if err != nil {
		return nil, err
	}
	return &Mirror{topics: make(state.Listing), machines: all}, nil
}

// Apply applies what has changed. What the Mirror has already is passed over. After an
// error the Mirror and its machines must not be used.
//
// Errors: ErrBehind for a snapshot, or an older position than the Mirror's; ErrCorrupt,
// ErrFormat, and the machines'.
func (m *Mirror) Apply(u CatalogueUpdate) error {
	if u.Snapshot != nil || u.At.Before(m.at) {
		return fmt.Errorf("%w: at %v comes one at %v", ErrBehind, m.at, u.At)
	}
	for _, slot := range u.Slots {
		if !m.at.Before(slot.At) {
			continue
		}
		if err := m.apply(slot.At, slot.Entries); err != nil {
			return fmt.Errorf("apply slot %v to the mirror: %w", slot.At, err)
		}
	}
	m.at = u.At
	return nil
}

// apply applies the entries of a slot that change the catalogue, and passes over others.
func (m *Mirror) apply(pos journal.Position, entries []journal.Entry) error {
	for _, e := range entries {
		var err error
		if machine := m.machines[e.Kind]; machine != nil {
			err = machine.Apply(e.Kind, e.Body)
		} else if state.IsLayout(e.Kind) {
			m.layout, err = m.layout.With(e)
			m.changes++
		} else if state.Lists(e.Kind) {
			err = m.topics.Apply(pos, e)
			m.changes++
		}
		if err != nil {
			return err
		}
	}
	m.at = pos
	return nil
}

// Position returns the position up to which the Mirror has everything.
func (m *Mirror) Position() journal.Position { return m.at }

// Topics returns the topics that are not being deleted, sorted by name.
func (m *Mirror) Topics() []state.Topic { return m.topics.Topics() }

// Deleting returns the topics that are being deleted.
func (m *Mirror) Deleting() (ids []weir.TopicID) {
	for id, t := range m.topics {
		if !t.Deleting.IsZero() {
			ids = append(ids, id)
		}
	}
	return ids
}

// Map returns which shard has which slice, and how many shards there are; 0 shards if that
// is as it was at creation, which the object `cluster` says.
func (m *Mirror) Map() (weir.Map, uint32) {
	if m.layout == nil {
		return weir.Map{}, 0
	}
	return m.layout.Map, m.layout.Shards
}

// Changes counts the changes of topics, and of the map of slices, since the Mirror was made.
func (m *Mirror) Changes() int { return m.changes }

// replayed is a Mirror as the journal fills it.
type replayed struct{ mirror *Mirror }

// Apply implements journal.State.
func (r replayed) Apply(pos journal.Position, entries []journal.Entry) error {
	return r.mirror.apply(pos, entries)
}

// Restore implements journal.State.
func (r replayed) Restore(pos journal.Position, body []byte) error {
	m := r.mirror
	s, sections, err := state.DecodeCheckpoint(body)
	if err != nil {
		return err
	}
	m.topics, m.layout, m.at = s.Listing(), s.Layout, before(pos)
	return m.machines.Restore(sections) // and of none but these
}
