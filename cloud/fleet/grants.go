package fleet

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/weirmq/weir/cloud/machine"
)

// GrantsLevel is the format level from which on a gateway can be limited to topics.
const GrantsLevel = 2

// Limits of grants.
const (
	maxPatterns = 100
	maxPattern  = 249 // bytes; a topic's name has no more
)

// everyTopic is the pattern that all names match.
const everyTopic = "*"

// grants are the topics that a gateway may write to: those that match a pattern of
// Allow (all topics if it has none), except those that match one of Deny. They do not
// apply to the cloud's own topics.
type grants struct {
	ID    string   `json:"id,omitempty"` // in a journal entry
	Allow []string `json:"allow,omitempty"`
	Deny  []string `json:"deny,omitempty"`
}

func matchesAny(patterns []string, topic string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, err := path.Match(p, topic)
		return err == nil && ok
	})
}

// allows reports whether a gateway may write to a topic.
func (g *Gateway) allows(topic string) bool {
	return (len(g.Allow) == 0 || matchesAny(g.Allow, topic)) && !matchesAny(g.Deny, topic)
}

// MayWrite reports whether a gateway may write to a topic that is not the cloud's own.
// It returns true for an unknown gateway: another node decides about it.
func (f *Fleet) MayWrite(gateway, topic string) bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	g := f.gateways[gateway]
	return g == nil || g.allows(topic)
}

// CheckPatterns returns ErrPattern if a gateway cannot have these patterns.
func CheckPatterns(patterns []string) error {
	if len(patterns) > maxPatterns {
		return fmt.Errorf("%w; at most %d are allowed, not %d", ErrPattern, maxPatterns, len(patterns))
	}
	for _, p := range patterns {
		illegal := strings.ContainsFunc(p, func(c rune) bool {
			return !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.ContainsRune("._-*", c))
		})
		if p == "" || len(p) > maxPattern || illegal {
			return fmt.Errorf("%w; %q is not one", ErrPattern, p)
		}
	}
	return nil
}

// Allow limits a gateway to the topics that match a pattern; the pattern * removes the
// limit. Durable on return. Errors: ErrUnknownGateway, ErrPattern, machine.ErrLevel.
func (f *Fleet) Allow(ctx context.Context, id string, patterns []string) error {
	return f.bind(ctx, id, patterns, func(g *grants) {
		if g.Allow = patterns; slices.Contains(patterns, everyTopic) {
			g.Allow, g.Deny = nil, nil
		}
	})
}

// Deny bars a gateway from the topics that match a pattern, and from no others. It
// overrides Allow. Durable on return. Errors as for Allow.
func (f *Fleet) Deny(ctx context.Context, id string, patterns []string) error {
	return f.bind(ctx, id, patterns, func(g *grants) { g.Deny = patterns })
}

func (f *Fleet) bind(ctx context.Context, id string, patterns []string, change func(*grants)) error {
	if len(patterns) == 0 {
		return fmt.Errorf("%w; at least one is needed", ErrPattern)
	}
	if err := CheckPatterns(patterns); err != nil {
		return err
	}
	if f.log.Level() < GrantsLevel {
		return machine.ErrLevel
	}
	defer f.joining.Take(ctx)()
	now, err := f.Gateway(id)
	if err != nil {
		return err
	}
	next := grants{ID: id, Allow: now.Allow, Deny: now.Deny}
	change(&next)
	return machine.Propose(ctx, f.log, kindGrants, "grants", next)
}
