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

// maxAnswer bounds what a node may say of itself, in bytes.
const maxAnswer = 4 << 10

// errAnswer: a node answered what cannot be read.
var errAnswer = errors.New("answer cannot be read")

// Answer is what a node says of itself when it is asked whether it is there.
type Answer struct {
	Node string `json:"node"` // its name
	Boot string `json:"boot"` // drawn when the process started
	Role string `json:"role"` // owner, recovering or standby

	// Of an owner: its epoch, and the first slot of its log that it has not
	// acknowledged. 0 else.
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
	_ = json.NewEncoder(w).Encode(s.o.Self()) // whoever asked is gone, if this fails
}

// Ping asks the node of that name, at host:port, whether it is there. An error
// tells nothing about the node, but for one that Refused reports.
func (c *Client) Ping(ctx context.Context, node, address string) (Answer, error) {
	body, err := c.get(ctx, node, address, pingPath, maxAnswer)
	if err != nil {
		return Answer{}, err
	}
	return decodeAnswer(body)
}
