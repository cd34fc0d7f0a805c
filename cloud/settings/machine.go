package settings

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
)

// kindSettings is the journal entry (see commitlog's FORMAT.md for the ranges) with the
// new settings of a resource. Bodies are JSON. It is of format level 2.
const kindSettings uint16 = 160

// Kinds implements state.Machine.
func (s *Settings) Kinds() []uint16 { return []uint16{kindSettings} }

// Apply implements state.Machine.
func (s *Settings) Apply(kind uint16, body []byte) error {
	var e Entry
	if err := json.Unmarshal(body, &e); err != nil || kind != kindSettings {
		return fmt.Errorf("decode an entry of settings of kind %d: %w", kind, errors.Join(err, ErrInvalid))
	}
	if err := e.check(); err != nil {
		return fmt.Errorf("decode an entry of settings: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.put(e)
	s.merge()
	s.changes.Add(1)
	return nil
}

func (s *Settings) put(e Entry) {
	if old, ok := s.all[e.Resource]; ok {
		s.bytes -= Entry{e.Resource, old}.size()
		delete(s.all, e.Resource)
	}
	if len(e.Settings) > 0 {
		s.all[e.Resource] = e.Settings
		s.bytes += e.size()
	}
}

// merge computes the effective settings of each node.
func (s *Settings) merge() {
	common := s.all[Resource{Kind: Node}]
	s.nodes = map[string]map[string]string{"": common}
	for r, own := range s.all {
		if r.Kind == Node && r.Name != "" {
			both := maps.Clone(own)
			for name, value := range common {
				if _, ok := own[name]; !ok {
					both[name] = value
				}
			}
			s.nodes[r.Name] = both
		}
	}
}
