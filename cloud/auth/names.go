package auth

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Names of the types, for people and for the journal.

func (t ResourceType) String() string { return nameOf(t, resourceTypes) }
func (t PatternType) String() string  { return nameOf(t, patternTypes) }
func (p Permission) String() string   { return nameOf(p, permissions) }
func (o Operation) String() string    { return nameOf(o, operations) }
func (m Mechanism) String() string    { return nameOf(m, mechanisms) }

// MarshalText gives the name.
func (t ResourceType) MarshalText() ([]byte, error) { return marshal(t, resourceTypes) }

// MarshalText gives the name.
func (t PatternType) MarshalText() ([]byte, error) { return marshal(t, patternTypes) }

// MarshalText gives the name.
func (p Permission) MarshalText() ([]byte, error) { return marshal(p, permissions) }

// MarshalText gives the name.
func (o Operation) MarshalText() ([]byte, error) { return marshal(o, operations) }

// MarshalText gives the name.
func (m Mechanism) MarshalText() ([]byte, error) { return marshal(m, mechanisms) }

// UnmarshalText accepts a name, in Kafka's spellings too. ErrInvalid lists the valid
// names.
func (t *ResourceType) UnmarshalText(p []byte) error {
	return unmarshal(t, p, "resource type", resourceTypes)
}

// UnmarshalText accepts a name, in Kafka's spellings too. ErrInvalid lists the valid
// names.
func (t *PatternType) UnmarshalText(p []byte) error {
	return unmarshal(t, p, "pattern type", patternTypes)
}

// UnmarshalText accepts a name, in Kafka's spellings too. ErrInvalid lists the valid
// names.
func (p *Permission) UnmarshalText(b []byte) error { return unmarshal(p, b, "permission", permissions) }

// UnmarshalText accepts a name, in Kafka's spellings too. ErrInvalid lists the valid
// names.
func (o *Operation) UnmarshalText(b []byte) error { return unmarshal(o, b, "operation", operations) }

// UnmarshalText accepts a name, in any case. ErrInvalid lists the valid names.
func (m *Mechanism) UnmarshalText(b []byte) error { return unmarshal(m, b, "mechanism", mechanisms) }

func nameOf[T ~int8](v T, names map[T]string) string {
	if name, ok := names[v]; ok {
		return name
	}
	return fmt.Sprint(int8(v))
}

func marshal[T ~int8](v T, names map[T]string) ([]byte, error) {
	if err := known(v, names); err != nil {
		return nil, err
	}
	return []byte(names[v]), nil
}

// unmarshal finds a name, whatever its case, with its words joined by dashes,
// underscores or nothing.
func unmarshal[T ~int8](v *T, p []byte, what string, names map[T]string) error {
	bare := func(s string) string { return strings.ToLower(strings.NewReplacer("-", "", "_", "").Replace(s)) }
	for value, name := range names {
		if bare(name) == bare(string(p)) {
			*v = value
			return nil
		}
	}
	return fmt.Errorf("%w: %s %q: there are %s", ErrInvalid, what, p, strings.Join(slices.Sorted(maps.Values(names)), ", "))
}
