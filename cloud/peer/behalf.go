package peer

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/weir"
)

const (
	topicPath    = "/peer/v1/topic"
	producerPath = "/peer/v1/producer"
)

// Behalf names the client for whom a standby asks the owner. The owner decides what
// that client may do.
type Behalf struct {
	Principal string `json:"principal"` // "User:name"
	Host      string `json:"host"`      // IP address
}

// topicQuestion is the body of a request to create a topic.
type topicQuestion struct {
	Behalf
	Name string `json:"name"`
}

// topicAnswer is the topic, which may have existed before, or Kafka's error code.
type topicAnswer struct {
	Topic copyTopic `json:"topic,omitzero"`
	Error int16     `json:"error,omitempty"`
}

// producerAnswer is a producer id, or Kafka's error code.
type producerAnswer struct {
	ID    int64 `json:"id"`
	Error int16 `json:"error,omitempty"`
}

// topic answers a request for a topic.
func (s *Server) topic(w http.ResponseWriter, r *http.Request) {
	var q topicQuestion
	if s.o.CreateTopic == nil {
		http.NotFound(w, r)
	} else if question(w, r, &q) {
		t, code := s.o.CreateTopic(r.Context(), q.Behalf, q.Name)
		a := topicAnswer{Error: code}
		if code == 0 {
			a.Topic = copiedTopic(t)
		}
		_ = json.NewEncoder(w).Encode(a) // fails only if the caller has gone
	}
}

// producer answers a request for a producer id.
func (s *Server) producer(w http.ResponseWriter, r *http.Request) {
	var q Behalf
	if s.o.NewProducerID == nil {
		http.NotFound(w, r)
	} else if question(w, r, &q) {
		id, code := s.o.NewProducerID(r.Context(), q)
		_ = json.NewEncoder(w).Encode(producerAnswer{id, code}) // fails only if the caller has gone
	}
}

// question reads the body of a request. It reports whether it could; if not, it has
// answered the request.
func question(w http.ResponseWriter, r *http.Request, to any) bool {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewDecoder(r.Body).Decode(to); err != nil {
		http.Error(w, "read the request: "+err.Error(), http.StatusBadRequest)
		return false
	}
	return true
}

// CreateTopic asks a node, by its name and host:port, to create a topic for a client
// of this node, with the defaults of that node, unless the topic exists. code is
// Kafka's, 0 for success. Errors: ErrUnknownVerb; after any other the outcome is not
// known.
func (c *Client) CreateTopic(ctx context.Context, node, address string, b Behalf, name string) (t state.Topic, code int16, err error) {
	var a topicAnswer
	if err := c.postJSON(ctx, node, address, topicPath, topicQuestion{b, name}, &a); err != nil {
		return t, 0, err
	}
	if a.Error != 0 {
		return t, a.Error, nil
	}
	t, err = a.Topic.topic()
	return t, 0, err
}

// NewProducerID asks a node, by its name and host:port, for a producer id for a
// client of this node. code is Kafka's, 0 for success. Errors: ErrUnknownVerb; any
// other means that no answer came.
func (c *Client) NewProducerID(ctx context.Context, node, address string, b Behalf) (id int64, code int16, err error) {
	var a producerAnswer
	err = c.postJSON(ctx, node, address, producerPath, b, &a)
	return a.ID, a.Error, err
}

// postJSON sends a question in JSON, and decodes the answer, over the link that requests
// for clients and gateways use.
func (c *Client) postJSON(ctx context.Context, node, address, path string, question, answer any) error {
	body, err := json.Marshal(question)
	if err != nil {
		return err
	}
	got, err := c.post(ctx, topicPath, node, address, path, body, maxBehalf)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(got, answer); err != nil {
		return fmt.Errorf("%w: %w", errAnswer, err)
	}
	return nil
}

// maxBehalf bounds the answer to a request of this file, in bytes: a topic in JSON
// with all settings that it may have.
const maxBehalf = 512 << 10

// topic decodes a topic.
func (t copyTopic) topic() (state.Topic, error) {
	id, err := hex.DecodeString(t.ID)
	if err != nil || len(id) != len(weir.TopicID{}) {
		return state.Topic{}, fmt.Errorf("%w: topic %q has the id %q", errAnswer, t.Name, t.ID)
	}
	if t.Name == "" || t.Partitions < 1 || t.Partitions > state.MaxPartitions {
		return state.Topic{}, fmt.Errorf("%w: topic %q has %d partitions", errAnswer, t.Name, t.Partitions)
	}
	return state.Topic{ID: weir.TopicID(id), Name: t.Name, Partitions: t.Partitions, Configs: t.Configs, Created: t.Created}, nil
}
