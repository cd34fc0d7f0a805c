package commitlog

import (
	"fmt"

	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/segment"
)

// due is what must lie in the partitions, where the replay has not read it, for what
// the state says of transactions: each marker of an abort, and the first batch of
// each transaction that is open.
type due map[placeKey]map[claim]bool

// claim is that a producer has a transactional batch at an offset.
type claim struct {
	offset, producer int64
}

// owed finds that out.
func (a *auditor) owed() due {
	owed := make(due)
	for _, t := range a.state.topics {
		for _, p := range t.partitions {
			if len(p.aborted)+len(p.producers.open) == 0 {
				continue
			}
			read := p.end // from here on the replay has
			for i := len(p.index) - 1; i >= 0 && !p.index[i].position().Before(a.began); i-- {
				read = p.index[i].base
			}
			owed[p.key] = make(map[claim]bool)
			for _, x := range p.aborted {
				if x.Last < read {
					owed[p.key][claim{x.Last, x.Producer}] = true
				}
			}
			for id, x := range p.producers.open {
				if x.first < read {
					owed[p.key][claim{x.first, id}] = true
				}
			}
		}
	}
	return owed
}

// ledger compares batches at rest with what the state says of epochs and
// transactions.
func (a *auditor) ledger(key placeKey, batches []record.Batch) {
	p := a.state.partition(key)
	for _, b := range batches {
		base := b.BaseOffset()
		if base < p.start {
			continue
		}
		if !p.epochs.hold(b.LeaderEpoch(), base) {
			a.problem(fmt.Errorf("%w: %v: batch at offset %d has leader epoch %d, the log says %v", ErrCorrupt, key, base, b.LeaderEpoch(), p.epochs))
		}
		mine := claim{base, b.ProducerID()}
		awaited := a.due[key][mine] && b.Transactional()
		if b.Control() {
			m, err := b.Marker()
			if err == nil && m.Commit == awaited {
				err = fmt.Errorf("the log says aborted: %v", awaited)
			}
			if err != nil {
				a.problem(fmt.Errorf("%w: %v: control batch at offset %d: %w", ErrCorrupt, key, base, err))
				continue
			}
		}
		if awaited {
			delete(a.due[key], mine)
		}
	}
}

// ledgerOf does that with a piece of a segment that is sound.
func (a *auditor) ledgerOf(key placeKey, ref segment.Piece, object []byte) {
	blocks, err := ref.Blocks(object[ref.At+ref.Size-ref.Index:][:ref.Index])
	for i := 0; i < len(blocks) && err == nil; i++ {
		err = handOut(blocks[i], object[blocks[i].At:][:blocks[i].Size], func(b record.Batch) error {
			a.ledger(key, []record.Batch{b})
			return nil
		})
	}
	if err != nil {
		a.problem(corrupted(err))
	}
}

// unpaid reports what is missing.
func (a *auditor) unpaid() {
	for key, claims := range a.due {
		a.where = key.String()
		for c := range claims {
			a.problem(fmt.Errorf("%w: a transaction of producer %d says that it has a batch at offset %d, there is none", ErrCorrupt, c.producer, c.offset))
		}
	}
}
