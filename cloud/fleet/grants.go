package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
)

// GrantsLevel is the format level from which on a gateway can be bound to topics.
const GrantsLevel = 2

// Bounds of what a gateway is bound to.
const (
	maxPatterns = 100
	maxPattern  = 249 // bytes; a topic's name has no more
)

// everyTopic is the pattern that all names match.
const everyTopic = "*"

// grants are the topics that a gateway may write to, among those that are not the
// cloud's own: the ones that a pattern of Allow matches (all, if it has none), less
// those that one of Deny matches.
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

// MayWrite reports whether a gateway may write to a topic that is not the cloud's
// own. A gateway that is not known here is not bound: whoever knows it judges.
func (f *Fleet) MayWrite(gateway, topic string) bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	g := f.gateways[gateway]
	return g == nil || g.allows(topic)
}

// CheckPatterns tells whether a gateway can be bound to these: ErrPattern.
func CheckPatterns(patterns []string) error {
	if len(patterns) > maxPatterns {
		return fmt.Errorf("%w; there may be %d of them, not %d", ErrPattern, maxPatterns, len(patterns))
	}
	for _, p := range patterns {
		illegal := strings.ContainsFunc(p, func(c rune) bool {
			return !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.ContainsRune("._-*", c))
		})
		if p == "" || len(p) > maxPattern || illegal {
			return fmt.Errorf("%w; %q is none", ErrPattern, p)
		}
	}
	return nil
}

// Allow lets a gateway write to the topics that match a pattern, and to no others;
// the pattern * lifts every bound. Durable on return. Errors: ErrUnknownGateway,
// ErrPattern, ErrLevel.
func (f *Fleet) Allow(ctx context.Context, id string, patterns []string) error {
	return f.bind(ctx, id, patterns, func(g *grants) {
		if g.Allow = patterns; slices.Contains(patterns, everyTopic) {
			g.Allow, g.Deny = nil, nil
		}
	})
}

// Deny keeps a gateway from the topics that match a pattern, whatever it is allowed,
// and from no others. Durable on return. Errors as of Allow.
func (f *Fleet) Deny(ctx context.Context, id string, patterns []string) error {
	return f.bind(ctx, id, patterns, func(g *grants) { g.Deny = patterns })
}

func (f *Fleet) bind(ctx context.Context, id string, patterns []string, change func(*grants)) error {
	if len(patterns) == 0 {
		return fmt.Errorf("%w; one is needed", ErrPattern)
	}
	if err := CheckPatterns(patterns); err != nil {
		return err
	}
	if f.log.Level() < GrantsLevel {
		return ErrLevel
	}
	defer f.joining.Take(ctx)()
	now, err := f.Gateway(id)
	if err != nil {
		return err
	}
	next := grants{ID: id, Allow: now.Allow, Deny: now.Deny}
	change(&next)
	body, err := json.Marshal(next)
	if err != nil {
		return err
	}
	return f.log.Propose(ctx, kindGrants, body)
}
