package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/weir"
)

// State is what a node does with a shard.
type State string

// The states of a shard on a node that reports it. A shard that it has nothing to do
// with is not in its reports.
const (
	Recovering State = "recovering" // it claims the shard, or reads its log
	Owning     State = "owner"      // it serves it
	Doubting   State = "doubt"      // it owns it, but the bucket does not say so any more
	Preparing  State = "preparing"  // it reads the log along: the owner is about to hand it over
	Handing    State = "handing"    // it hands it over, and serves it no more
	Failing    State = "failing"    // it does not have it: it has tried, and could not lead it
)

// ShardReport is what a node says of a shard that it owns, or is about to own.
type ShardReport struct {
	Shard uint32 `json:"shard"`
	Epoch uint64 `json:"epoch,omitempty"` // 0: not known, or a version that does not say it
	State State  `json:"state"`

	// Slot is the first slot of the epoch that it has not acknowledged; 0 if it does not
	// say.
	Slot uint64 `json:"slot,omitempty"`
}

// Offer is a shard that its owner hands over: it has closed its log, and the node that
// is asked is to claim the next epoch at once.
type Offer struct {
	Shard uint32 `json:"shard"`
	Epoch uint64 `json:"epoch"` // that the owner gives up
}

// Report is what a node tells another one when it asks whether it is alive, and what
// the other one answers. FORMAT.md describes it.
type Report struct {
	Node     Node
	Shards   []ShardReport
	Epochs   []uint64 // for each shard, the newest epoch that it knows to be claimed
	Heard    []string // names of nodes that it has heard a short while ago
	Draining bool     // it hands all its shards over and takes none
	Offers   []Offer  // to the node that gets the report
}

// reported is a report on the wire.
type reported struct {
	Node     claimed       `json:"node"`
	Shards   []ShardReport `json:"shards,omitempty"`
	Epochs   []uint64      `json:"epochs,omitempty"`
	Heard    []string      `json:"heard,omitempty"`
	Draining bool          `json:"draining,omitempty"`
	Offers   []Offer       `json:"offers,omitempty"`
}

// MaxReport bounds an encoded report, in bytes.
const MaxReport = 256 << 10

// maxNamed bounds the names of a report.
const maxNamed = 1024

// errReport means that a report cannot be read.
var errReport = errors.New("report cannot be read")

// Encode returns the report as it is sent.
func (r Report) Encode() ([]byte, error) {
	return json.Marshal(reported{r.Node.claimed(), r.Shards, r.Epochs, r.Heard, r.Draining, r.Offers})
}

// ReadReport decodes a report.
func ReadReport(p []byte) (Report, error) {
	if len(p) > MaxReport {
		return Report{}, fmt.Errorf("%w: it has %d bytes, at most %d are read", errReport, len(p), MaxReport)
	}
	var c reported
	if err := json.Unmarshal(p, &c); err != nil {
		return Report{}, fmt.Errorf("%w: %w", errReport, err)
	}
	switch {
	case c.Node.Name == "":
		return Report{}, fmt.Errorf("%w: it names no node", errReport)
	case len(c.Shards) > weir.Slices+1 || len(c.Epochs) > weir.Slices+1 || len(c.Offers) > weir.Slices+1 || len(c.Heard) > maxNamed:
		return Report{}, fmt.Errorf("%w: it lists more than a cluster can have", errReport)
	}
	return Report{c.Node.node(), c.Shards, c.Epochs, c.Heard, c.Draining, c.Offers}, nil
}

// of returns what the report says of a shard, nil if it is not among those that the
// node has.
func (r *Report) of(shard uint32) *ShardReport {
	for i := range r.Shards {
		if r.Shards[i].Shard == shard {
			return &r.Shards[i]
		}
	}
	return nil
}

// next is the first slot that the owner has not acknowledged, zero if it did not say.
func (s *ShardReport) next() journal.Position {
	if s.Slot == 0 {
		return journal.Position{}
	}
	return journal.Position{Epoch: s.Epoch, Slot: s.Slot}
}

// Member is a node of the cluster, as another one knows it.
type Member struct {
	Node
	Shards   []ShardReport // that it owns, or is about to own
	Draining bool
	Heard    time.Time // when it was heard last
}
