package check

import (
	"fmt"

	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/segment"
)

// expected are the batches that must be in the partitions, according to the state's
// transactions, where the replay has not read them: each abort marker, and the first
// batch of each open transaction.
type expected map[state.Place]map[expectedBatch]bool

// expectedBatch is a transactional batch of a producer, by its offset.
type expectedBatch struct {
	offset, producer int64
}

// expect returns the expected batches.
func (a *auditor) expect() expected {
	all := make(expected)
	for _, t := range a.state.Topics {
		for _, p := range t.Parts {
			if len(p.Aborted)+len(p.Producers.Open) == 0 {
				continue
			}
			read := p.End // from here on the replay has read the batches
			for i := len(p.Index) - 1; i >= 0 && !p.Index[i].Position().Before(a.began); i-- {
				read = p.Index[i].Base
			}
			all[p.Key] = make(map[expectedBatch]bool)
			for _, x := range p.Aborted {
				if x.Last < read {
					all[p.Key][expectedBatch{x.Last, x.Producer}] = true
				}
			}
			for id, x := range p.Producers.Open {
				if x.First < read {
					all[p.Key][expectedBatch{x.First, id}] = true
				}
			}
		}
	}
	return all
}

// compareBatches compares batches at rest with what the state says of epochs and
// transactions.
func (a *auditor) compareBatches(key state.Place, batches []record.Batch) {
	p := a.state.Partition(key)
	for _, b := range batches {
		base := b.BaseOffset()
		if base < p.Start {
			continue
		}
		if !p.Epochs.Hold(b.LeaderEpoch(), base) {
			a.problem(fmt.Errorf("%w: %v: batch at offset %d has leader epoch %d, the log says %v", state.ErrCorrupt, key, base, b.LeaderEpoch(), p.Epochs))
		}
		mine := expectedBatch{base, b.ProducerID()}
		awaited := a.expected[key][mine] && b.Transactional()
		if b.Control() {
			m, err := b.Marker()
			if err == nil && m.Commit == awaited {
				err = fmt.Errorf("the log says aborted: %v", awaited)
			}
			if err != nil {
				a.problem(fmt.Errorf("%w: %v: control batch at offset %d: %w", state.ErrCorrupt, key, base, err))
				continue
			}
		}
		if awaited {
			delete(a.expected[key], mine)
		}
	}
}

// compareSegment does the same for a piece of a segment that is sound.
func (a *auditor) compareSegment(key state.Place, ref segment.Piece, object []byte) {
	blocks, err := ref.Blocks(object[ref.At+ref.Size-ref.Index:][:ref.Index])
	for i := 0; i < len(blocks) && err == nil; i++ {
		var batches []record.Batch
		if batches, err = blocks[i].Batches(object[blocks[i].At:][:blocks[i].Size]); err == nil {
			a.compareBatches(key, batches)
		}
	}
	if err != nil {
		a.problem(state.Translate(err))
	}
}

// missing reports the expected batches that were not found.
func (a *auditor) missing() {
	for key, batches := range a.expected {
		a.where = key.String()
		for c := range batches {
			a.problem(fmt.Errorf("%w: a transaction of producer %d has a batch at offset %d, where there is none", state.ErrCorrupt, c.producer, c.offset))
		}
	}
}
