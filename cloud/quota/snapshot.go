package quota

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/weirmq/weir/cloud/machine"
)

// snapshotVersion is that of the JSON below.
const snapshotVersion = 1

// snapshot is a checkpoint: the limits, by user and client.
type snapshot struct {
	Version int     `json:"version"`
	Limits  []Entry `json:"limits"`
}

// Snapshot implements state.Machine.
func (q *Quotas) Snapshot() []byte {
	return machine.Encode(snapshot{snapshotVersion, q.Entries()})
}

// Restore implements state.Machine. An error changes nothing.
func (q *Quotas) Restore(body []byte) error {
	next := New(Options{})
	if len(body) > 0 {
		if err := next.decode(body); err != nil {
			return fmt.Errorf("restore quotas: %w", err)
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.limits = next.limits
	q.timed.Store(next.timed.Load())
	return nil
}

// decode fills Quotas that are not shared yet.
func (q *Quotas) decode(body []byte) error {
	var s snapshot
	if err := json.Unmarshal(body, &s); err != nil || s.Version != snapshotVersion {
		return fmt.Errorf("snapshot of version %d: %w", s.Version, errors.Join(err, machine.ErrShape))
	}
	for _, e := range s.Limits {
		if err := e.check(); err != nil {
			return errors.Join(err, machine.ErrShape)
		}
		q.limits[e.Entity] = e.Limits
		q.timed.Add(e.timed())
	}
	return machine.Canonical(q.Snapshot(), body)
}
