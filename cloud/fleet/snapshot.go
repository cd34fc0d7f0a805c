package fleet

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/weirmq/weir/cloud/machine"
)

// snapshotVersion is that of the JSON below.
const snapshotVersion = 1

// snapshot is a checkpoint of the fleet: tokens by their hashes, gateways by
// their ids, nodes by their names.
type snapshot struct {
	Version  int           `json:"version"`
	Tokens   []storedToken `json:"tokens"`
	Gateways []*Gateway    `json:"gateways"`
	Nodes    []*Node       `json:"nodes,omitempty"` // format level 2
}

// storedToken is a token that distinguishes no gateways from any gateway.
type storedToken struct {
	token
	Gateways []string `json:"gateways"`
}

// Snapshot implements state.Machine.
func (f *Fleet) Snapshot() []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	return encodeSnapshot(f.tokens, f.gateways, f.nodes)
}

// Restore implements state.Machine. An error changes nothing.
func (f *Fleet) Restore(body []byte) error {
	tokens, gateways, nodes, err := decodeSnapshot(body)
	if err != nil {
		return fmt.Errorf("restore the fleet: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tokens, f.gateways, f.nodes = tokens, gateways, nodes
	return nil
}

func encodeSnapshot(tokens map[[sha256.Size]byte]*token, gateways map[string]*Gateway, nodes map[string]*Node) []byte {
	s := snapshot{Version: snapshotVersion, Tokens: []storedToken{}, Gateways: []*Gateway{}}
	for _, t := range tokens {
		s.Tokens = append(s.Tokens, storedToken{*t, t.Gateways})
	}
	slices.SortFunc(s.Tokens, func(a, b storedToken) int { return bytes.Compare(a.Hash, b.Hash) })
	for _, g := range gateways {
		s.Gateways = append(s.Gateways, g)
	}
	slices.SortFunc(s.Gateways, func(a, b *Gateway) int { return bytes.Compare([]byte(a.ID), []byte(b.ID)) })
	for _, n := range nodes {
		s.Nodes = append(s.Nodes, n)
	}
	slices.SortFunc(s.Nodes, func(a, b *Node) int { return strings.Compare(a.Name, b.Name) })
	return machine.Encode(s)
}

func decodeSnapshot(body []byte) (map[[sha256.Size]byte]*token, map[string]*Gateway, map[string]*Node, error) {
	tokens, gateways, nodes := make(map[[sha256.Size]byte]*token), make(map[string]*Gateway), make(map[string]*Node)
	if len(body) == 0 {
		return tokens, gateways, nodes, nil
	}
	var s snapshot
	if err := json.Unmarshal(body, &s); err != nil || s.Version != snapshotVersion {
		return nil, nil, nil, fmt.Errorf("snapshot of version %d: %w", s.Version, errors.Join(err, machine.ErrShape))
	}
	for _, t := range s.Tokens {
		if len(t.Hash) != sha256.Size {
			return nil, nil, nil, fmt.Errorf("token: %w", machine.ErrShape)
		}
		t.token.Gateways = t.Gateways
		tokens[[sha256.Size]byte(t.Hash)] = &t.token
	}
	for _, g := range s.Gateways {
		if g == nil || g.ID == "" {
			return nil, nil, nil, fmt.Errorf("gateway: %w", machine.ErrShape)
		}
		gateways[g.ID] = g
	}
	for _, n := range s.Nodes {
		if n == nil || n.Name == "" {
			return nil, nil, nil, fmt.Errorf("node: %w", machine.ErrShape)
		}
		nodes[n.Name] = n
	}
	if err := machine.Canonical(encodeSnapshot(tokens, gateways, nodes), body); err != nil {
		return nil, nil, nil, err
	}
	return tokens, gateways, nodes, nil
}
