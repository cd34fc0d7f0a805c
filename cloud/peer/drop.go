package peer

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/weir"
)

const dropPath = "/peer/v1/drop"

// dropQuestion is the body of a request to drop a topic from a shard.
type dropQuestion struct {
	Shard uint32 `json:"shard"`
	Topic string `json:"topic"` // id in hex
	Epoch uint64 `json:"epoch"` // position of the catalogue
	Slot  uint64 `json:"slot"`
}

// dropAnswer says why a topic was not dropped, "" if it was.
type dropAnswer struct {
	Error string `json:"error,omitempty"`
}

// drop answers a request to drop a topic.
func (s *Server) drop(w http.ResponseWriter, r *http.Request) {
	var q dropQuestion
	if s.o.Drop == nil {
		http.NotFound(w, r)
		return
	}
	if !question(w, r, &q) {
		return
	}
	id, err := hex.DecodeString(q.Topic)
	if err != nil || len(id) != len(weir.TopicID{}) {
		http.Error(w, "the request names no topic", http.StatusBadRequest)
		return
	}
	var a dropAnswer
	if err := s.o.Drop(r.Context(), q.Shard, weir.TopicID(id), journal.Position{Epoch: q.Epoch, Slot: q.Slot}); err != nil {
		a.Error = err.Error()
	}
	_ = json.NewEncoder(w).Encode(a) // fails only if the caller has gone
}

// Drop asks a node, by its name and host:port, to drop a topic from a shard that it owns,
// at a position of the catalogue. nil means that this is durable. Errors: ErrUnknownVerb;
// after any other the outcome is not known, and the call can be repeated.
func (c *Client) Drop(ctx context.Context, node, address string, shard uint32, topic weir.TopicID, at journal.Position) error {
	var a dropAnswer
	if err := c.postJSON(ctx, node, address, dropPath, dropQuestion{shard, hex.EncodeToString(topic[:]), at.Epoch, at.Slot}, &a); err != nil {
		return err
	}
	if a.Error != "" {
		return fmt.Errorf("node %q: %s", node, a.Error)
	}
	return nil
}
