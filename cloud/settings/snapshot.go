package settings

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/weirmq/weir/cloud/machine"
)

// snapshotVersion is that of the JSON below.
const snapshotVersion = 1

// snapshot is a checkpoint: the settings, by kind and name. If there are no settings
// there is no snapshot, so that programs that know no settings can read the log.
type snapshot struct {
	Version int     `json:"version"`
	All     []Entry `json:"settings"`
}

// Snapshot implements state.Machine.
func (s *Settings) Snapshot() []byte {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if len(s.all) == 0 {
		return nil
	}
	out := snapshot{Version: snapshotVersion}
	for r, settings := range s.all {
		out.All = append(out.All, Entry{r, settings})
	}
	slices.SortFunc(out.All, func(a, b Entry) int { return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name)) })
	return machine.Encode(out)
}

// Restore implements state.Machine. An error changes nothing.
func (s *Settings) Restore(body []byte) error {
	next := New()
	if len(body) > 0 {
		if err := next.decode(body); err != nil {
			return fmt.Errorf("restore settings: %w", err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all, s.bytes = next.all, next.bytes
	s.merge()
	return nil
}

// decode fills Settings that are not shared yet.
func (s *Settings) decode(body []byte) error {
	var in snapshot
	if err := json.Unmarshal(body, &in); err != nil || in.Version != snapshotVersion {
		return fmt.Errorf("snapshot of version %d: %w", in.Version, errors.Join(err, machine.ErrShape))
	}
	for _, e := range in.All {
		if err := e.check(); err != nil {
			return errors.Join(err, machine.ErrShape)
		}
		s.put(e)
	}
	return machine.Canonical(s.Snapshot(), body)
}
