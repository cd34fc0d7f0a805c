package settings

import (
	"encoding/json"
	"fmt"

	"github.com/weirmq/weir/cloud/machine"
)

// A node that stands by has a copy of the owner's settings. Unlike a snapshot, it may
// come from a node of another version.

// copied is a copy. Members that this program does not know are left out of account.
type copied struct {
	All []Entry `json:"settings"`
}

// Changes counts the entries that were applied. What Copy says afterwards has all
// that were counted, and perhaps more.
func (s *Settings) Changes() uint64 { return s.changes.Load() }

// Copy encodes the settings for a node that stands by.
func (s *Settings) Copy() []byte {
	s.mu.RLock()
	defer s.mu.RUnlock()
	c := copied{All: []Entry{}}
	for r, settings := range s.all {
		c.All = append(c.All, Entry{r, settings})
	}
	return machine.Encode(c)
}

// Copied returns what another node's Copy has encoded. It can be asked, not changed.
// Settings of what this program does not know are left out.
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
