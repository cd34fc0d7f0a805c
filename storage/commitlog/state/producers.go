package state

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

// Producer is the history of one producer id in one partition. The zero value
// has none.
type Producer struct {
	Known bool
	Epoch int16
	n     int8                  // batches remembered of this epoch; 0: only a marker is known, the next batch begins at 0
	last  [remembered]sequences // the first n are in use, newest last
	time  int64                 // highest timestamp of the last batch or marker, ms; -1: not known
	Open  bool                  // it has a transaction, of this epoch, that has not ended
	First int64                 // offset of its first record; 0 if none is open
}

// sequences is one batch of a producer. After sequence 2^31-1 comes 0.
type sequences struct {
	first, last int32
	base        int64 // offset of the first record
}

// Judge decides about a batch that is offered: nil if it follows, duplicate
// with its original base offset if it is one of the last five.
//
// The first batch of a producer without history may have any sequence (KIP-360):
// what came before it was refused, or went to a topic that was deleted and created
// again. With fromZero it must begin at 0, because it may be a batch that is here
// already, or that has overtaken the one before it.
func (p *Producer) Judge(b record.Batch, fromZero bool) (base int64, duplicate bool, err error) {
	epoch, first, last := b.ProducerEpoch(), b.BaseSequence(), b.LastSequence()
	switch {
	case !p.Known && first != 0 && fromZero:
		return -1, false, fmt.Errorf("%w: id %d, first sequence %d", ErrUnknownProducer, b.ProducerID(), first)
	case !p.Known:
		return -1, false, nil
	case epoch < p.Epoch:
		return -1, false, fmt.Errorf("%w: id %d has epoch %d, batch %d", ErrProducerFenced, b.ProducerID(), p.Epoch, epoch)
	case p.Open && epoch > p.Epoch:
		// Fencing a transactional producer must end its transaction first.
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
	if p.Open && !b.Transactional() {
		return -1, false, fmt.Errorf("%w: id %d writes outside of it", ErrTransactionOpen, b.ProducerID())
	}
	newest := p.last[p.n-1].last
	if first == nextSequence(newest) {
		return -1, false, nil
	}
	// Whether a batch before the last five is stored is not known, as in Kafka: a
	// producer need not have begun at 0.
	return -1, false, fmt.Errorf("%w: id %d is at sequence %d, batch has %d to %d", ErrOutOfOrderSequence, b.ProducerID(), newest, first, last)
}

// begins reports whether no batch of an epoch was appended yet. epoch is not below the
// producer's.
func (p *Producer) begins(epoch int16) bool { return epoch > p.Epoch || p.n == 0 }

// follows reports whether a batch in the log may stand where it does. Any batch may
// follow for a producer without history: it may have been forgotten.
func (p *Producer) follows(b record.Batch) bool {
	switch epoch := b.ProducerEpoch(); {
	case !p.Known:
		return true
	case epoch < p.Epoch, p.Open && (epoch > p.Epoch || !b.Transactional()):
		return false
	case p.begins(epoch):
		return b.BaseSequence() == 0
	default:
		return b.BaseSequence() == nextSequence(p.last[p.n-1].last)
	}
}

// Take notes a batch that was appended at base.
func (p *Producer) Take(b record.Batch, base int64) {
	if b.ProducerEpoch() != p.Epoch {
		*p = Producer{}
	}
	p.Known, p.Epoch, p.time = true, b.ProducerEpoch(), b.MaxTimestamp()
	if b.Transactional() && !p.Open {
		p.Open, p.First = true, base
	}
	if p.n == remembered {
		copy(p.last[:], p.last[1:])
		p.n--
	}
	p.last[p.n] = sequences{b.BaseSequence(), b.LastSequence(), base}
	p.n++
}

// End notes a marker. One with a higher epoch fences the batches' epoch.
func (p *Producer) End(epoch int16, time int64) {
	if !p.Known || epoch != p.Epoch {
		*p = Producer{Known: true, Epoch: epoch}
	}
	p.time, p.Open, p.First = time, false, 0
}

func nextSequence(last int32) int32 {
	if last == math.MaxInt32 {
		return 0
	}
	return last + 1
}

// producers remembers the most recent producers of a partition, in two generations:
// when the young one is full, the old one is forgotten. What is remembered depends on
// the log alone, so every replay agrees. A producer that comes back after it was
// forgotten gets ErrUnknownProducer and takes a new epoch. Kafka forgets by a clock
// instead, and accepts what such a producer sends. Producers with an open transaction
// are in neither generation, and are not forgotten before it ends.
type producers struct {
	Young, Old map[int64]*Producer
	Open       map[int64]*Producer
}

// Forgot reports whether the partition may have forgotten a producer. The old
// generation is dropped only when the young one is full, and from then on there are
// always that many producers. With fewer, none was ever forgotten.
func (ps *producers) Forgot() bool {
	return len(ps.Young)+len(ps.Old)+len(ps.Open) >= producerLimit
}

// Get returns nil if the producer is not remembered.
func (ps *producers) Get(id int64) *Producer {
	for _, some := range []map[int64]*Producer{ps.Young, ps.Open, ps.Old} {
		if p := some[id]; p != nil {
			return p
		}
	}
	return nil
}

// change lets fn change the history of a producer, and moves it to the map where it
// then belongs.
func (ps *producers) change(id int64, fn func(*Producer)) {
	p := ps.Get(id)
	if p == nil {
		p = new(Producer)
	}
	fn(p)
	if p.Open {
		if ps.Open == nil {
			ps.Open = make(map[int64]*Producer)
		}
		ps.Open[id] = p
		delete(ps.Young, id)
		delete(ps.Old, id)
		return
	}
	delete(ps.Open, id)
	if ps.Young[id] != nil {
		return
	}
	if len(ps.Young) >= producerLimit {
		ps.Old, ps.Young = ps.Young, nil
	}
	if ps.Young == nil {
		ps.Young = make(map[int64]*Producer)
	}
	ps.Young[id] = p
	delete(ps.Old, id)
}

// ProducerState is what a partition remembers of a producer.
type ProducerState struct {
	ID               int64
	Epoch            int16
	LastSequence     int32 // -1: none in this epoch
	LastTimestamp    int64 // of its last batch or marker, in ms since 1970; -1: not known
	TransactionStart int64 // first offset of its open transaction; -1: none
}

// Describe returns the state of a producer for DescribeProducers.
func (p *Producer) Describe(id int64) ProducerState {
	x := ProducerState{ID: id, Epoch: p.Epoch, LastSequence: -1, LastTimestamp: p.time, TransactionStart: -1}
	if p.n > 0 {
		x.LastSequence = p.last[p.n-1].last
	}
	if p.Open {
		x.TransactionStart = p.First
	}
	return x
}
