package quota

import (
	"encoding/json"
	"fmt"

	"github.com/weirmq/weir/cloud/machine"
)

// A standby has a copy of the owner's limits. Unlike a snapshot, the copy may come from
// a node of another version.

// Changes counts the entries that were applied. A later Copy contains at least those
// that were counted.
func (q *Quotas) Changes() uint64 { return q.changes.Load() }

// Copy encodes the limits for a standby.
func (q *Quotas) Copy() []byte {
	return machine.Encode(struct {
		Limits []Entry `json:"limits"`
	}{q.Entries()})
}

// Follow replaces the limits by those of another node's Copy. What clients have used of
// them here still counts. Members that this program does not know are ignored. An error
// changes nothing.
func (q *Quotas) Follow(body []byte) error {
	var c struct {
		Limits []Entry `json:"limits"`
	}
	if err := json.Unmarshal(body, &c); err != nil {
		return fmt.Errorf("decode a copy of quotas: %w", err)
	}
	if len(c.Limits) > MaxEntries {
		return fmt.Errorf("decode a copy of quotas: %w: %d", ErrTooMany, len(c.Limits))
	}
	next := New(Options{})
	for _, e := range c.Limits {
		if err := e.check(); err != nil {
			return fmt.Errorf("decode a copy of quotas: %w", err)
		}
		next.limits[e.Entity] = e.Limits
		next.timed.Add(e.timed())
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.limits = next.limits
	q.timed.Store(next.timed.Load())
	return nil
}
