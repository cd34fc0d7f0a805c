package settings

import (
	"encoding/json"
	"fmt"

	"github.com/weirmq/weir/cloud/machine"
)

// A standby has a copy of the owner's settings. Unlike a snapshot, the copy may come
// from a node of another version.

// copied is a copy. Members that this program does not know are ignored.
type copied struct {
	All []Entry `json:"settings"`
}

// Changes counts the entries that were applied. A later Copy contains at least those
// that were counted.
func (s *Settings) Changes() uint64 { return s.changes.Load() }

// Copy encodes the settings for a standby.
func (s *Settings) Copy() []byte {
	s.mu.RLock()
	defer s.mu.RUnlock()
	c := copied{All: []Entry{}}
	for r, settings := range s.all {
		c.All = append(c.All, Entry{r, settings})
	}
	return machine.Encode(c)
}

// Copied returns Settings with the content of another node's Copy. They can be queried,
// not changed. Settings of unknown kinds are left out.
func Copied(body []byte) (*Settings, error) {
	var c copied
	if err := json.Unmarshal(body, &c); err != nil {
		return nil, fmt.Errorf("decode a copy of settings: %w", err)
	}
	if len(c.All) > MaxResources {
		return nil, fmt.Errorf("decode a copy of settings: %w: of %d nodes and groups", ErrTooMany, len(c.All))
	}
	s := New()
	for _, e := range c.All {
		if e.check() == nil {
			s.put(e)
		}
	}
	s.merge()
	return s, nil
}
