package group

import (
	"fmt"
	"maps"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/weirmq/weir/cloud/machine"
	"github.com/weirmq/weir/storage/weir"
)

// viewAge is how old a view of the topics may be. Making one copies the catalogue, so
// heartbeats share it.
const viewAge = time.Second

// topic is what an assignment needs to know of a topic.
type topic struct {
	id         [16]byte
	partitions int32
}

// view is the state of the catalogue at one time.
type view struct {
	version uint64           // grows with every change
	topics  map[string]topic // by name; not changed
	names   []string         // in order; not changed
	matches map[string][]string
}

// topics reads the catalogue. It has a mutex of its own, so that the coordinator's is
// not held meanwhile.
type topics struct {
	mu     sync.Mutex  // guards everything below
	source machine.Log // nil until Start
	inner  func() bool // reports whether there is an offsets topic; takes the coordinator's mutex
	now    *view
	looked time.Time
}

func (t *topics) start(source machine.Log, inner func() bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.source, t.inner = source, inner
}

// look returns a view of the topics. Without fresh, it may be up to viewAge old.
func (t *topics) look(fresh bool) *view {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.now != nil && !fresh && time.Since(t.looked) < viewAge {
		return t.now
	}
	seen := make(map[string]topic)
	if t.source != nil {
		for _, of := range t.source.Topics() {
			if !weir.Hidden(of.Name) {
				seen[of.Name] = topic{of.ID, of.Partitions}
			}
		}
		if _, taken := seen[OffsetsTopic]; !taken && t.inner() {
			seen[OffsetsTopic] = topic{OffsetsTopicID(), OffsetsPartitions}
		}
	}
	t.looked = time.Now()
	switch {
	case t.now == nil:
		t.now = newView(1, seen)
	case !maps.Equal(t.now.topics, seen):
		t.now = newView(t.now.version+1, seen)
	}
	return t.now
}

func newView(version uint64, seen map[string]topic) *view {
	return &view{version: version, topics: seen, names: slices.Sorted(maps.Keys(seen)), matches: make(map[string][]string)}
}

// The limits of a pattern. It is matched against all names whenever the catalogue
// changes, with the coordinator's mutex held.
const (
	maxPattern      = 4096 // bytes
	maxInstructions = 2000 // of the program that it compiles to
	maxMatches      = 1000 // patterns whose matches a view remembers
)

// compile returns the regular expression of a pattern, which must match whole names.
func compile(pattern string) (*regexp.Regexp, error) {
	if len(pattern) > maxPattern {
		return nil, fmt.Errorf("%w: longer than %d bytes", ErrInvalidPattern, maxPattern)
	}
	whole := `\A(?:` + pattern + `)\z`
	if _, err := syntax.Parse(pattern, syntax.Perl); err != nil { // by itself first: the pattern must not close our parenthesis
		return nil, fmt.Errorf("%w: %w", ErrInvalidPattern, err)
	}
	parsed, err := syntax.Parse(whole, syntax.Perl)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidPattern, err)
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidPattern, err)
	}
	if len(program.Inst) > maxInstructions {
		return nil, fmt.Errorf("%w: too large", ErrInvalidPattern)
	}
	return regexp.Compile(whole)
}

// match returns the names that a pattern matches, in order. It matches the offsets
// topic only if the pattern contains its name, so that a pattern for all topics
// leaves it out. The caller holds Coordinator.mu.
func (v *view) match(pattern string, re *regexp.Regexp) []string {
	names, ok := v.matches[pattern]
	if ok {
		return names
	}
	for _, name := range v.names {
		if name == OffsetsTopic && !strings.Contains(pattern, name) {
			continue
		}
		if re.MatchString(name) {
			names = append(names, name)
		}
	}
	if len(v.matches) >= maxMatches {
		clear(v.matches)
	}
	v.matches[pattern] = names
	return names
}
