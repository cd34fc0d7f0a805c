package fleet

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/weirmq/weir/cloud/machine"
)

// Kinds of journal entries (see commitlog's FORMAT.md for the ranges). Bodies
// are JSON: they are few and small.
const (
	kindToken    uint16 = 110 + iota // a join token was made
	kindJoined                       // a gateway joined, or got a new certificate
	kindReset                        // a gateway's key was forgotten: the next join may bring another
	kindRevoked                      // a gateway was revoked
	kindGrants                       // a gateway's grants changed; format level 2
	kindContacts                     // the last contacts of gateways; format level 2
	kindNode                         // a node was revoked or reset; format level 2
)

// Kinds implements state.Machine.
func (f *Fleet) Kinds() []uint16 {
	return []uint16{kindToken, kindJoined, kindReset, kindRevoked, kindGrants, kindContacts, kindNode}
}

// Apply implements state.Machine.
func (f *Fleet) Apply(kind uint16, body []byte) error {
	err := f.apply(kind, body)
	if err == nil && (kind == kindReset || kind == kindRevoked) && f.o.Changed != nil {
		f.o.Changed(string(body))
	}
	if err == nil && kind == kindNode && f.o.NodesChanged != nil {
		f.o.NodesChanged()
	}
	return err
}

func (f *Fleet) apply(kind uint16, body []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch kind {
	case kindToken:
		var t token
		if err := json.Unmarshal(body, &t); err != nil || len(t.Hash) != sha256.Size {
			return fmt.Errorf("decode a token entry: %w", errors.Join(err, machine.ErrShape))
		}
		f.forget(t.Made)
		f.tokens[[sha256.Size]byte(t.Hash)] = &t
	case kindJoined:
		return f.applyJoined(body)
	case kindReset, kindRevoked:
		if g := f.gateways[string(body)]; g != nil && kind == kindReset {
			g.Key, g.Revoked = nil, false
		} else if g != nil {
			g.Revoked = true
		}
	case kindGrants:
		return f.applyGrants(body)
	case kindContacts:
		return f.applyContacts(body)
	case kindNode:
		return f.applyNode(body)
	default:
		return fmt.Errorf("fleet entry of kind %d", kind)
	}
	return nil
}

// tokenMemory is how long after its expiry a token is still answered with "expired".
const tokenMemory = 7 * 24 * time.Hour

// forget drops tokens that had expired long before a new one was made: each start of an
// owner makes one. Called with mu held.
func (f *Fleet) forget(made time.Time) {
	for hash, t := range f.tokens {
		if t.Expires.Add(tokenMemory).Before(made) {
			delete(f.tokens, hash)
		}
	}
}

// joined is the body of kindJoined.
type joined struct {
	Gateway
	Token []byte `json:"token,omitempty"` // hash of the token that was used, nil on renewal
}

func (f *Fleet) applyJoined(body []byte) error {
	var j joined
	if err := json.Unmarshal(body, &j); err != nil || j.ID == "" {
		return fmt.Errorf("decode a gateway entry: %w", errors.Join(err, machine.ErrShape))
	}
	j.Allow, j.Deny, j.Seen = nil, nil, nil
	if old := f.gateways[j.ID]; old != nil {
		j.Joined, j.Allow, j.Deny, j.Seen = old.Joined, old.Allow, old.Deny, old.Seen
	}
	if len(j.Token) == sha256.Size {
		if t := f.tokens[[sha256.Size]byte(j.Token)]; t != nil {
			t.Uses--
			if len(t.Topics) > 0 {
				j.Allow = t.Topics
			}
		}
	}
	f.gateways[j.ID] = &j.Gateway
	return nil
}

// applyGrants is called with mu held.
func (f *Fleet) applyGrants(body []byte) error {
	var entry grants
	if err := json.Unmarshal(body, &entry); err != nil || entry.ID == "" {
		return fmt.Errorf("decode an entry of a gateway's topics: %w", errors.Join(err, machine.ErrShape))
	}
	if g := f.gateways[entry.ID]; g != nil {
		g.Allow, g.Deny = entry.Allow, entry.Deny
	}
	return nil
}

// applyContacts is called with mu held.
func (f *Fleet) applyContacts(body []byte) error {
	var entry contacts
	if err := json.Unmarshal(body, &entry); err != nil {
		return fmt.Errorf("decode an entry of contacts: %w", errors.Join(err, machine.ErrShape))
	}
	for _, c := range entry.Gateways {
		g := f.gateways[c.ID]
		if g == nil {
			continue
		}
		next := Seen{c.Contact, entry.Saved}
		if c.Same && g.Seen != nil {
			next.Contact = g.Seen.Contact
			next.At = c.At
		}
		g.Seen = &next // a new value: copies of the gateway have the old one
	}
	return nil
}
