// Package machine is what the state machines on a shard's log have in common.
package machine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/weir"
)

// Log is the log of a shard as its state machines use it. *commitlog.Log is one.
type Log interface {
	// Propose writes an entry. It returns when the entry is durable and the machine
	// has applied it.
	Propose(ctx context.Context, kind uint16, body []byte) error
	Level() int // format level: which entries may be written
	Topics() []state.Topic
	TopicByID(id weir.TopicID) (state.Topic, bool)
}

// ErrLevel means that older nodes of the cluster could not read an entry.
var ErrLevel = errors.New("the format level of the bucket is too low: run weirctl upgrade BUCKET once all nodes run this version")

// Propose writes v as JSON with log.Propose. what names it in an error.
func Propose(ctx context.Context, log Log, kind uint16, what string, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %s: %w", what, err)
	}
	return log.Propose(ctx, kind, body)
}
