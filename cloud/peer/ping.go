package peer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

const pingPath = "/peer/v1/ping"

// maxAnswer bounds an Answer, in bytes.
const maxAnswer = 4 << 10

// errAnswer means that a node's answer cannot be decoded.
var errAnswer = errors.New("answer cannot be read")

// Answer is a node's answer to a ping.
type Answer struct {
	Node string `json:"node"` // its name
	Boot string `json:"boot"` // drawn when the process started
	Role string `json:"role"` // owner, recovering or standby

	// Set by the owner of the only shard of a cluster: its epoch, and the first slot of
	// its log that it has not acknowledged.
	Epoch uint64 `json:"epoch,omitempty"`
	Slot  uint64 `json:"slot,omitempty"`
}

// decodeAnswer reads the body of an answer.
func decodeAnswer(p []byte) (Answer, error) {
	var a Answer
	if err := json.NewDecoder(bytes.NewReader(p)).Decode(&a); err != nil {
		return Answer{}, fmt.Errorf("%w: %w", errAnswer, err)
	}
	if a.Node == "" || a.Role == "" {
		return Answer{}, fmt.Errorf("%w: it names no node, or no role", errAnswer)
	}
	return a, nil
}

func (s *Server) ping(w http.ResponseWriter, r *http.Request) {
	s.o.Heard(asker(r))
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(s.o.Self()) // fails only if the caller has gone
}

// Ping asks a node, by its name and host:port, whether it is there. An error says
// nothing about the node, unless Refused reports true for it.
func (c *Client) Ping(ctx context.Context, node, address string) (Answer, error) {
	body, err := c.get(ctx, node, address, pingPath, maxAnswer)
	if err != nil {
		return Answer{}, err
	}
	return decodeAnswer(body)
}
