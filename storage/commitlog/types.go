package commitlog

import (
	"log/slog"
	"time"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/commitlog/upkeep"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/weir"
)

// Append is a batch on its way into a partition.
type Append struct {
	Topic      weir.TopicID
	Partition  int32
	Batch      record.Batch  // belongs to the log until done is called
	Source     *state.Source // set for a gateway's batch, else nil
	AppendTime bool          // the records get the time of the append (KIP-32)
	Verified   bool          // Batch has passed Verify; if it has not, what is stored is damaged
}

// Fetched is what a read of a partition found.
type Fetched struct {
	// Batches are stored batches in order; the first one holds the offset
	// that was asked for. They are shared with the cache: not to be changed.
	Batches [][]byte
	Lease   *Lease // of their memory

	Start, End int64 // of the partition: first offset, and the one after the last durable record
	Stable     int64 // last stable offset: every transaction before it is decided

	// Aborted, by First, only from FetchCommitted: the aborted transactions that
	// overlap what Batches cover. A consumer leaves out the transactional
	// batches of a producer from First on up to its marker.
	Aborted []state.Aborted
}

// Needed says which records of a partition are needed.
type Needed = upkeep.Needed

// Options of a Log. Only Bucket is required.
type Options struct {
	Bucket   storage.Bucket
	Shard    uint32
	Shards   int             // of a new cluster, and those that an existing one must have, shard 0 included; 0: one, and any number
	Node     string          // this node's name, put into the claim
	Info     []byte          // opaque, put into the claim: how other nodes reach this one
	Epoch    uint64          // epoch to claim, if not 0: Open returns ErrFenced if it is claimed already
	Machines []state.Machine // told apart by their kinds
	Mirrored []state.Machine // those of Machines that a Mirror has, too; for shard 0
	Beside   []string        // keys of objects beside the log that are created once; the log records their checksums
	Linger   time.Duration   // how long a slot waits for more requests, unless the log was idle for twice as long; 0 on a fast bucket

	TailBytes  int64 // memory for recently read and written batches; 32 MiB
	BlockBytes int64 // memory for blocks and indexes read from segments; 32 MiB
	SlotBytes  int   // largest slot; 4 MiB, or the size of a single larger request, up to almost 16 MiB
	Upkeep     upkeep.Options

	// Defaults are settings that hold for topics which have none of their own, by name;
	// not for those of Weir, whose names begin with "weir.". The result may differ from
	// call to call. The log does not change it.
	Defaults func() map[string]string

	// Needed, if not nil, returns which records of a partition are still needed; nil: all
	// of them. A record that is not needed must never be again, and the log must have
	// applied why. The upkeep asks from time to time, and drops some of the others:
	// their offsets become holes.
	Needed func(key state.Place) *Needed

	Depth  int // slots in flight at once; 4
	Window int // slots read at once in recovery; 16

	Log *slog.Logger     // slog.Default
	Now func() time.Time // time.Now: timestamps of topics and of log-append-time, never safety

	Mutations Mutations // of tests
}
