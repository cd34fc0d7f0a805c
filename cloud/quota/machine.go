package quota

import (
	"encoding/json"
	"fmt"
)

// kindLimits is the journal entry (see commitlog's FORMAT.md for the ranges) with the
// new limits of an entity. Bodies are JSON: they are few and small.
const kindLimits uint16 = 150

// Kinds implements state.Machine.
func (q *Quotas) Kinds() []uint16 { return []uint16{kindLimits} }

// Apply implements state.Machine.
func (q *Quotas) Apply(kind uint16, body []byte) error {
	if kind != kindLimits {
		return fmt.Errorf("quota entry of kind %d", kind)
	}
	var e Entry
	if err := json.Unmarshal(body, &e); err != nil {
		return fmt.Errorf("decode a quota entry: %w", err)
	}
	if err := e.check(); err != nil {
		return fmt.Errorf("decode a quota entry: %w", err)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	was := q.limits[e.Entity]
	if q.limits[e.Entity] = e.Limits; e.Limits == (Limits{}) {
		delete(q.limits, e.Entity)
	}
	q.timed.Add(e.timed() - was.timed())
	q.changes.Add(1)
	return nil
}
