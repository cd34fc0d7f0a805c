// Package machine is what the state machines on a shard's log have in common.
package machine

import (
	"context"

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
