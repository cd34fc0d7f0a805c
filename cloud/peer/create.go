package peer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/weirmq/weir/storage/commitlog/state"
)

const createPath = "/peer/v1/create"

// createQuestion is the body of a request to create a topic for a node itself, for example
// for one of its gateways.
type createQuestion struct {
	Name       string            `json:"name"`
	Partitions int32             `json:"partitions"` // -1: the owner's default
	Configs    map[string]string `json:"configs,omitempty"`
}

// createAnswer is the topic, which may have existed before, or why there is none.
type createAnswer struct {
	Topic   copyTopic `json:"topic,omitzero"`
	Error   string    `json:"error,omitempty"`
	Invalid bool      `json:"invalid,omitempty"` // no topic can have the name
}

// create answers a request to create a topic.
func (s *Server) create(w http.ResponseWriter, r *http.Request) {
	var q createQuestion
	if s.o.Create == nil {
		http.NotFound(w, r)
	} else if question(w, r, &q) {
		var a createAnswer
		if t, err := s.o.Create(r.Context(), q.Name, q.Partitions, q.Configs); err != nil {
			a.Error, a.Invalid = err.Error(), errors.Is(err, state.ErrInvalidTopic)
		} else {
			a.Topic = copiedTopic(t)
		}
		_ = json.NewEncoder(w).Encode(a) // fails only if the caller has gone
	}
}

// Create asks a node, by its name and host:port, to create a topic unless it exists; -1
// partitions means its default. Errors: ErrUnknownVerb, state.ErrInvalidTopic; after any
// other the outcome is not known.
func (c *Client) Create(ctx context.Context, node, address, name string, partitions int32, configs map[string]string) (state.Topic, error) {
	var a createAnswer
	if err := c.postJSON(ctx, node, address, createPath, createQuestion{name, partitions, configs}, &a); err != nil {
		return state.Topic{}, err
	}
	if a.Invalid {
		return state.Topic{}, fmt.Errorf("%w: node %q: %s", state.ErrInvalidTopic, node, a.Error)
	}
	if a.Error != "" {
		return state.Topic{}, fmt.Errorf("node %q: %s", node, a.Error)
	}
	return a.Topic.topic()
}
