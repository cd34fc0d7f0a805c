package commitlog

import (
	"fmt"
	"math"

	"github.com/weirmq/weir/storage/record"
)

// remembered is how many batches of a producer can be told from a duplicate
// with their offset: as many as a client may have in flight (KIP-98).
const remembered = 5

// producerLimit bounds the producers that a partition remembers: at least this
// many, the most recent ones, and at most twice as many.
const producerLimit = 4096

// producer is the history of one producer id in one partition. The zero value
// has none.
type producer struct {
	known bool
	epoch int16
	n     int8                  // batches known of this epoch; 0: only a marker, the next batch begins at 0
	last  [remembered]sequences // the first n are in use, newest last
	time  int64                 // highest timestamp of the last batch or marker, ms; -1: not known
	open  bool                  // it has a transaction, of this epoch, that has not ended
	first int64                 // offset of its first record; 0 if none is open
}

// sequences is one batch of a producer. After sequence 2^31-1 comes 0.
type sequences struct {
	first, last int32
	base        int64 // offset of the first record
}

// judge decides about a batch that is offered: nil if it follows, duplicate
// with its original base offset if it is one of the last five.
//
// The first batch of a producer without history may have any sequence (KIP-360):
// what came before it was refused, or went to a topic that was deleted and created
// again. With fromZero it must begin at 0, because it may be a batch that is here
// already, or that has overtaken the one before it.
func (p *producer) judge(b record.Batch, fromZero bool) (base int64, duplicate bool, err error) {
	epoch, first, last := b.ProducerEpoch(), b.BaseSequence(), b.LastSequence()
	switch {
	case !p.known && first != 0 && fromZero:
		return -1, false, fmt.Errorf("%w: id %d, first sequence %d", ErrUnknownProducer, b.ProducerID(), first)
	case !p.known:
		return -1, false, nil
	case epoch < p.epoch:
		return -1, false, fmt.Errorf("%w: id %d has epoch %d, batch %d", ErrProducerFenced, b.ProducerID(), p.epoch, epoch)
	case p.open && epoch > p.epoch:
		// Who fences a transactional producer ends its transaction.
		return -1, false, fmt.Errorf("%w: id %d begins epoch %d", ErrTransactionOpen, b.ProducerID(), epoch)
	case p.begins(epoch) && first != 0:
		return -1, false, fmt.Errorf("%w: id %d begins epoch %d with sequence %d", ErrOutOfOrderSequence, b.ProducerID(), epoch, first)
	case p.begins(epoch):
		return -1, false, nil
	}
	for _, s := range p.last[:p.n] {
		if s.first == first && s.last == last {
			return s.base, true, nil
		}
	}
	if p.open && !b.Transactional() {
		return -1, false, fmt.Errorf("%w: id %d writes outside of it", ErrTransactionOpen, b.ProducerID())
	}
	newest := p.last[p.n-1].last
	if first == nextSequence(newest) {
		return -1, false, nil
	}
	// What is farther behind than the last five may be stored or not, as in Kafka: a
	// producer need not have begun at 0.
	return -1, false, fmt.Errorf("%w: id %d is at sequence %d, batch has %d to %d", ErrOutOfOrderSequence, b.ProducerID(), newest, first, last)
}

// begins says whether the first batch of an epoch, which is not below the
// producer's, is still to come.
func (p *producer) begins(epoch int16) bool { return epoch > p.epoch || p.n == 0 }

// follows reports whether a batch in the log may stand where it does. A
// producer without history may have been forgotten: anything follows.
func (p *producer) follows(b record.Batch) bool {
	switch epoch := b.ProducerEpoch(); {
	case !p.known:
		return true
	case epoch < p.epoch, p.open && (epoch > p.epoch || !b.Transactional()):
		return false
	case p.begins(epoch):
		return b.BaseSequence() == 0
	default:
		return b.BaseSequence() == nextSequence(p.last[p.n-1].last)
	}
}

// take notes a batch that was appended at base.
func (p *producer) take(b record.Batch, base int64) {
	if b.ProducerEpoch() != p.epoch {
		*p = producer{}
	}
	p.known, p.epoch, p.time = true, b.ProducerEpoch(), b.MaxTimestamp()
	if b.Transactional() && !p.open {
		p.open, p.first = true, base
	}
	if p.n == remembered {
		copy(p.last[:], p.last[1:])
		p.n--
	}
	p.last[p.n] = sequences{b.BaseSequence(), b.LastSequence(), base}
	p.n++
}

// end notes a marker. One with a higher epoch fences the batches' epoch.
func (p *producer) end(epoch int16, time int64) {
	if !p.known || epoch != p.epoch {
		*p = producer{known: true, epoch: epoch}
	}
	p.time, p.open, p.first = time, false, 0
}

func nextSequence(last int32) int32 {
	if last == math.MaxInt32 {
		return 0
	}
	return last + 1
}

// producers remembers the most recent producers of a partition, in two
// generations: when the young one is full the old one is forgotten. What is
// remembered depends on the log alone, so every replay agrees. A producer that
// comes back after it was forgotten gets ErrUnknownProducer and takes a new
// epoch; Kafka forgets by a clock instead, and takes what such a producer sends.
// Those with an open transaction are in
// neither generation, and are not forgotten before it ends.
type producers struct {
	young, old map[int64]*producer
	open       map[int64]*producer
}

// forgot reports whether the partition may have forgotten a producer. The old
// generation goes only when the young one is full, and from then on there are
// always that many: with fewer, nobody was ever forgotten.
func (ps *producers) forgot() bool {
	return len(ps.young)+len(ps.old)+len(ps.open) >= producerLimit
}

func (ps *producers) get(id int64) *producer {
	for _, some := range []map[int64]*producer{ps.young, ps.open, ps.old} {
		if p := some[id]; p != nil {
			return p
		}
	}
	return nil
}

// change lets fn change the history of a producer, and keeps it where it belongs
// from then on.
func (ps *producers) change(id int64, fn func(*producer)) {
	p := ps.get(id)
	if p == nil {
		p = new(producer)
	}
	fn(p)
	if p.open {
		if ps.open == nil {
			ps.open = make(map[int64]*producer)
		}
		ps.open[id] = p
		delete(ps.young, id)
		delete(ps.old, id)
		return
	}
	delete(ps.open, id)
	if ps.young[id] != nil {
		return
	}
	if len(ps.young) >= producerLimit {
		ps.old, ps.young = ps.young, nil
	}
	if ps.young == nil {
		ps.young = make(map[int64]*producer)
	}
	ps.young[id] = p
	delete(ps.old, id)
}

// ProducerState is what a partition remembers of a producer.
type ProducerState struct {
	ID               int64
	Epoch            int16
	LastSequence     int32 // -1: none in this epoch
	LastTimestamp    int64 // of its last batch or marker, in ms since 1970; -1: not known
	TransactionStart int64 // first offset of its open transaction; -1: none
}

func (p *producer) describe(id int64) ProducerState {
	x := ProducerState{ID: id, Epoch: p.epoch, LastSequence: -1, LastTimestamp: p.time, TransactionStart: -1}
	if p.n > 0 {
		x.LastSequence = p.last[p.n-1].last
	}
	if p.open {
		x.TransactionStart = p.first
	}
	return x
}
