package peer

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/weirmq/weir/storage/weir"
)

const slicesPath = "/peer/v1/slices"

// SlicesCall is what a node asks another one about a move of slices between shards.
type SlicesCall string

// The calls.
const (
	SlicesReady   SlicesCall = "ready"   // whether the cluster can have more shards as far as that node is concerned
	SlicesMove    SlicesCall = "move"    // move them: for the owner of the shard that has them. The answer comes at the end
	SlicesVoid    SlicesCall = "void"    // whether they have moved; if not, they never will by this move: for the same
	SlicesConfirm SlicesCall = "confirm" // they have moved: for the owner of the shard that gets them
	SlicesMap     SlicesCall = "map"     // they have moved: for the owner of the catalogue
)

// slicesQuestion is a call on the wire.
type slicesQuestion struct {
	Call   SlicesCall `json:"call"`
	ID     string     `json:"id,omitempty"` // of the move, in hex
	From   uint32     `json:"from,omitempty"`
	To     uint32     `json:"to,omitempty"`
	Slices string     `json:"slices,omitempty"` // a bit each, in hex
}

type slicesAnswer struct {
	Moved bool   `json:"moved,omitempty"` // of SlicesVoid
	Error string `json:"error,omitempty"`
}

// errMove: a question does not describe a move.
var errMove = errors.New("move of slices cannot be read")

func encodeMove(call SlicesCall, m weir.Move) slicesQuestion {
	set := make([]byte, 0, weir.Slices/8)
	for _, word := range m.Slices {
		set = binary.BigEndian.AppendUint64(set, word)
	}
	return slicesQuestion{call, m.ID.String(), m.From, m.To, hex.EncodeToString(set)}
}

func (q slicesQuestion) move() (m weir.Move, err error) {
	id, bad := hex.DecodeString(q.ID)
	set, worse := hex.DecodeString(q.Slices)
	if bad != nil || worse != nil || len(id) != len(m.ID) || len(set) != weir.Slices/8 || q.From >= weir.MaxShards || q.To >= weir.MaxShards {
		return m, errMove
	}
	m = weir.Move{ID: weir.MoveID(id), From: q.From, To: q.To}
	for i := range m.Slices {
		m.Slices[i] = binary.BigEndian.Uint64(set[8*i:])
	}
	return m, nil
}

// slices answers a question about a move.
func (s *Server) slices(w http.ResponseWriter, r *http.Request) {
	var q slicesQuestion
	if s.o.Slices == nil {
		http.NotFound(w, r)
		return
	}
	if !question(w, r, &q) {
		return
	}
	m, err := q.move()
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var a slicesAnswer
	if a.Moved, err = s.o.Slices(r.Context(), q.Call, m); err != nil {
		a.Error = err.Error()
	}
	_ = json.NewEncoder(w).Encode(a) // fails only if the caller has gone
}

// Slices asks a node, by its name and host:port, about a move of slices. What nil means
// lasts: see SlicesCall. Errors: ErrUnknownVerb; after any other the outcome is not known,
// and all calls but SlicesMove can be repeated.
func (c *Client) Slices(ctx context.Context, node, address string, call SlicesCall, m weir.Move) (moved bool, err error) {
	question, err := json.Marshal(encodeMove(call, m))
	if err != nil {
		return false, err
	}
	body, err := c.post(ctx, slicesPath, node, address, slicesPath, question, maxBody)
	if err != nil {
		return false, err
	}
	var a slicesAnswer
	if err := json.Unmarshal(body, &a); err != nil {
		return false, fmt.Errorf("%w: %w", errAnswer, err)
	}
	if a.Error != "" {
		return false, fmt.Errorf("node %q: %s", node, a.Error)
	}
	return a.Moved, nil
}
