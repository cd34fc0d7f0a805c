package sender

import (
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/weir"
)

// Buffers is the gateway's local log. Its methods may be called by several
// goroutines.
type Buffers interface {
	// List returns the buffers, oldest first.
	List() ([]weir.Buffer, error)
	// Read returns what lies at sequence from of a lane and some of what
	// follows, in order: the records that are durable here, and gaps where
	// records are missing. The caller keeps them. io.EOF: nothing durable there
	// yet, or in a buffer that is not current, ever.
	Read(id weir.BufferID, lane weir.Lane, from uint64) ([]Item, error)
	// Trim says that everything up to and including through is settled. It need
	// not be durable at once: after a crash the cloud's marks say it again.
	Trim(id weir.BufferID, lane weir.Lane, through uint64) error
	// Retire deletes a buffer that is not current and is trimmed to its end.
	Retire(id weir.BufferID) error
	// Notify receives when something has become durable, or a new buffer was
	// opened. Capacity 1.
	Notify() <-chan struct{}

	Notes
}

// Notes is what the sender has to remember across its own death.
type Notes interface {
	// Rows is the map table of a buffer, in the order in which it grew.
	Rows(id weir.BufferID) ([]weir.MapRow, error)
	// AddRow adds a row to the map table of its buffer: durable on return.
	AddRow(row weir.MapRow) error
	// AddDead moves records that can never be delivered to the dead letters:
	// durable on return, once per sequence however often it is called.
	AddDead(id weir.BufferID, lane weir.Lane, items []Item, reason string) error
}

// Item is what lies at a sequence of a lane: a record of a topic, or a gap.
type Item struct {
	Seq    uint64 // of a gap: its last
	Topic  string // fixed when the record was accepted, like its key
	Record record.Record
	Gap    *weir.Gap // nil: a record
}
