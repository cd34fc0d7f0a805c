// Package settings keeps the settings of nodes and consumer groups that clients have
// changed. They are in the journal, so that every owner of the shard uses them. The
// broker decides which settings exist and which values they may have.
package settings

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/weirmq/weir/cloud/machine"
)

// Level is the format level from which on settings are in the log.
const Level = 2

// Limits of what is stored.
const (
	MaxResources = 10_000
	MaxBytes     = 4 << 20 // of all names and values together
	maxName      = 1_000   // bytes: of a group, a setting
	maxOne       = 64 << 10
)

// Kind is a kind of resource.
type Kind string

// The kinds of resources.
const (
	Node  Kind = "node"
	Group Kind = "group"
)

// Resource has settings: it is a group by its id, or a node by its number. The name ""
// stands for all nodes without settings of their own.
type Resource struct {
	Kind Kind   `json:"kind"`
	Name string `json:"name"`
}

// Entry is a resource with all its settings.
type Entry struct {
	Resource
	Settings map[string]string `json:"settings"`
}

func (e Entry) check() error {
	if e.Kind != Node && e.Kind != Group || e.Kind == Group && e.Name == "" {
		return fmt.Errorf("%w: nothing is called %s %q", ErrInvalid, e.Kind, e.Name)
	}
	for name, value := range e.Settings {
		if len(name) > maxName || !text(name) || !text(value) {
			return fmt.Errorf("%w: a name has more than %d bytes, or name or value is no text", ErrInvalid, maxName)
		}
	}
	if len(e.Name) > maxName || !text(e.Name) || e.size() > maxOne {
		return fmt.Errorf("%w: the settings of %s %.40q have more than %d bytes, or its name is no text of %d", ErrInvalid, e.Kind, e.Name, maxOne, maxName)
	}
	return nil
}

func text(s string) bool { return strings.ToValidUTF8(s, "") == s }

// size is what an entry counts for MaxBytes.
func (e Entry) size() int {
	size := len(e.Kind) + len(e.Name)
	for name, value := range e.Settings {
		size += len(name) + len(value)
	}
	return size
}

// Settings are those of one cluster. It is a state.Machine.
type Settings struct {
	changing machine.Turn  // held by Alter
	changes  atomic.Uint64 // see Changes

	mu    sync.RWMutex // guards everything below; the inner maps are not changed
	log   machine.Log  // nil until Start
	all   map[Resource]map[string]string
	bytes int
	nodes map[string]map[string]string // effective settings of each node with settings of its own; "" for all others
}

// New returns Settings without any.
func New() *Settings {
	return &Settings{all: make(map[Resource]map[string]string)}
}

// Start begins to serve.
func (s *Settings) Start(_ context.Context, log machine.WaitingLog) { s.Serve(log) }

// Close ends the service, for which nothing runs.
func (s *Settings) Close() error { return nil }

// Serve makes Settings accept changes, which it writes to log.
func (s *Settings) Serve(log machine.Log) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = log
}

// Of returns the resource's own settings. The caller must not change them.
func (s *Settings) Of(r Resource) map[string]string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.all[r]
}

// Node returns what was set for a node: its own settings, and for the rest those of all
// nodes. The caller must not change them.
func (s *Settings) Node(number string) map[string]string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if own, ok := s.nodes[number]; ok {
		return own
	}
	return s.nodes[""]
}

// Names lists the resources of a kind that have settings.
func (s *Settings) Names(kind Kind) []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var names []string
	for r := range s.all {
		if r.Kind == kind {
			names = append(names, r.Name)
		}
	}
	slices.Sort(names)
	return names
}

// Alter changes the settings of a resource; durable on return. change gets a copy of
// them, to change in place. Calls run one after the other, so that none undoes
// another's change. Errors: ErrInvalid, ErrTooMany, machine.ErrLevel, and those of change.
func (s *Settings) Alter(ctx context.Context, r Resource, change func(settings map[string]string) error) error {
	defer s.changing.Take(ctx)()
	s.mu.RLock()
	before, log, count, bytes := s.all[r], s.log, len(s.all), s.bytes
	s.mu.RUnlock()
	after := maps.Clone(before)
	if after == nil {
		after = make(map[string]string)
	}
	if err := change(after); err != nil {
		return err
	}
	e := Entry{r, after}
	if err := e.check(); err != nil {
		return err
	}
	switch {
	case maps.Equal(before, after):
		return nil
	case log.Level() < Level:
		return machine.ErrLevel
	case before == nil && count >= MaxResources:
		return fmt.Errorf("%w: %d nodes and groups have some", ErrTooMany, MaxResources)
	case bytes-(Entry{r, before}).size()+e.size() > MaxBytes:
		return fmt.Errorf("%w: they would have more than %d bytes", ErrTooMany, MaxBytes)
	}
	return machine.Propose(ctx, log, kindSettings, "settings", e)
}
