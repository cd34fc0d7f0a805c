package state

import (
	"errors"
	"math"
	"testing"

	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/record/recordtest"
)

const maxSeq = math.MaxInt32

// of builds a producer's batch of n records.
func of(epoch int16, sequence int32, n int) record.Batch {
	return recordtest.Produced(7, epoch, sequence, make([]string, n)...)
}

func TestProducerRules(t *testing.T) {
	type offer struct {
		epoch    int16
		sequence int32
		n        int
		base     int64 // of a duplicate; -2: accepted
		err      error
	}
	const ok = -2
	six := []offer{{0, 0, 2, ok, nil}, {0, 2, 2, ok, nil}, {0, 4, 2, ok, nil}, {0, 6, 2, ok, nil}, {0, 8, 2, ok, nil}, {0, 10, 2, ok, nil}}
	for name, offers := range map[string][]offer{
		"unknown":            {{0, 1, 1, ok, nil}, {0, 0, 1, -1, ErrOutOfOrderSequence}, {0, 1, 1, 0, nil}, {0, 2, 1, ok, nil}},
		"goes on":            {{0, 0, 3, ok, nil}, {0, 3, 1, ok, nil}},
		"gap":                {{0, 0, 3, ok, nil}, {0, 4, 1, -1, ErrOutOfOrderSequence}},
		"duplicates":         append(six, offer{0, 10, 2, 10, nil}, offer{0, 2, 2, 2, nil}),
		"older than five":    append(six, offer{0, 0, 2, -1, ErrOutOfOrderSequence}),
		"straddle":           append(six, offer{0, 1, 2, -1, ErrOutOfOrderSequence}),
		"other length":       append(six, offer{0, 10, 1, -1, ErrOutOfOrderSequence}),
		"fenced":             {{3, 0, 1, ok, nil}, {2, 1, 1, -1, ErrProducerFenced}, {2, 0, 1, -1, ErrProducerFenced}},
		"new epoch":          {{0, 0, 5, ok, nil}, {1, 0, 2, ok, nil}, {1, 0, 2, 5, nil}, {0, 0, 5, -1, ErrProducerFenced}},
		"new epoch, not 0":   {{0, 0, 5, ok, nil}, {1, 5, 1, -1, ErrOutOfOrderSequence}},
		"epoch may be above": {{5, 0, 1, ok, nil}, {5, 1, 1, ok, nil}},
	} {
		p, end := Producer{}, int64(0)
		for i, o := range offers {
			b := of(o.epoch, o.sequence, o.n)
			base, duplicate, err := p.Judge(b, false)
			if !errors.Is(err, o.err) || duplicate != (o.base >= 0) || duplicate && base != o.base {
				t.Errorf("%s, offer %d: %d, %v, %v, want %+v", name, i, base, duplicate, err, o)
			}
			if o.base == ok {
				if !p.follows(b) {
					t.Errorf("%s, offer %d does not follow", name, i)
				}
				p.Take(b, end)
				end += int64(o.n)
			} else if p.n > 0 && p.follows(b) {
				t.Errorf("%s, offer %d follows in the log", name, i)
			}
		}
	}
}

// After 2^31-1 comes 0, also in the middle of a batch, and no new batch is taken for an
// old one.
func TestProducerWraps(t *testing.T) {
	var p Producer
	first := of(0, 0, 1)
	p.Take(first, 0)
	p.last[0].last = maxSeq - 2 // as if there had been so many
	across := of(0, maxSeq-1, 4)
	if across.LastSequence() != 1 {
		t.Fatal(across.LastSequence())
	}
	if _, duplicate, err := p.Judge(across, false); duplicate || err != nil {
		t.Fatal(duplicate, err)
	}
	p.Take(across, 10)
	if base, duplicate, err := p.Judge(across, false); base != 10 || !duplicate || err != nil {
		t.Error(base, duplicate, err)
	}
	if _, _, err := p.Judge(of(0, 3, 1), false); !errors.Is(err, ErrOutOfOrderSequence) {
		t.Error(err)
	}
	p.Take(of(0, 2, 1), 14)
	if p.last[2].first != 2 || !p.follows(of(0, 3, 1)) {
		t.Error(p.last)
	}
	// Behind the wrap in number, ahead of it in time.
	if _, _, err := p.Judge(of(0, 100, 1), false); !errors.Is(err, ErrOutOfOrderSequence) {
		t.Error(err)
	}
}

// A batch may also end right before the wrap.
func TestProducerWrapsBetweenBatches(t *testing.T) {
	var p Producer
	p.Take(of(0, maxSeq-1, 2), 0)
	if _, duplicate, err := p.Judge(of(0, 0, 1), false); duplicate || err != nil || !p.follows(of(0, 0, 1)) {
		t.Error(duplicate, err)
	}
	if _, _, err := p.Judge(of(0, 1, 1), false); !errors.Is(err, ErrOutOfOrderSequence) {
		t.Error(err)
	}
}

// Which producers are remembered depends on the log alone, and is bounded.
func TestProducersAreBounded(t *testing.T) {
	var ps producers
	for id := range int64(5 * producerLimit) {
		ps.change(id, func(p *Producer) { p.Take(of(0, 0, 1), id) })
		ps.change(1, func(p *Producer) { p.Take(of(1, 0, 1), id) })
	}
	if n := len(ps.Young) + len(ps.Old); n > 2*producerLimit+1 {
		t.Errorf("%d producers are remembered", n)
	}
	if ps.Get(1) == nil || ps.Get(5*producerLimit-1) == nil || ps.Get(4*producerLimit+2) == nil {
		t.Error("a recent producer is forgotten")
	}
	if ps.Get(0) != nil {
		t.Error("an old producer is remembered")
	}
}

// The first batch of a producer may have any sequence only where no producer was ever
// forgotten: elsewhere it may be stored already.
func TestUnknownProducer(t *testing.T) {
	var ps producers
	for id := range int64(3 * producerLimit) {
		if may, had := ps.Forgot(), ps.Get(0) == nil && id > 0; had && !may {
			t.Fatalf("producer 0 is forgotten before %d, and it is not noticed", id)
		}
		ps.change(id, func(p *Producer) {
			p.Take(of(0, 0, 1), id)
			p.Open = id%10 == 5 // these are in neither generation
		})
		if id%1000 == 999 {
			ps.change(id-4, func(p *Producer) { p.End(0, 5) })
		}
	}
	if ps.Get(0) != nil || !ps.Forgot() {
		t.Error("nobody was forgotten")
	}
	if _, _, err := (&Producer{}).Judge(of(0, 1, 1), true); !errors.Is(err, ErrUnknownProducer) {
		t.Error(err)
	}
	if _, duplicate, err := (&Producer{}).Judge(of(0, 0, 1), true); duplicate || err != nil {
		t.Error(duplicate, err)
	}
}

// However many others write, a producer with an open transaction is not forgotten.
func TestOpenTransactionIsRemembered(t *testing.T) {
	s := Empty()
	must(s.Apply(journal.Position{Epoch: 1, Slot: 1}, created()))
	p, end, slot := s.Partition(Place{testTopic.ID, 0}), int64(0), uint64(2)
	put := func(b record.Batch) {
		must(s.Apply(journal.Position{Epoch: 1, Slot: slot}, runOf(end, b)))
		end, slot = end+1, slot+1
	}
	put(recordtest.Transactional(1_000_000, 5, 0, "a"))
	for id := range int64(3 * producerLimit) {
		put(recordtest.Produced(id, 0, 0, "b"))
	}
	put(recordtest.Transactional(1_000_000, 5, 1, "c"))
	if x := p.Producers.Get(1_000_000); x == nil || !x.Open || x.n != 2 || p.Stable(p.End) != 0 {
		t.Errorf("%+v", x)
	}
	decoded(t, s)
	put(record.NewMarker(1_000_000, 5, record.Marker{}, 0))
	if x := p.Producers.Young[1_000_000]; x == nil || x.Open || len(p.Producers.Open) > 0 || p.Stable(p.End) != end {
		t.Errorf("%+v", x)
	}
	if len(p.Producers.Young) > producerLimit || len(p.Producers.Old) > producerLimit {
		t.Error(len(p.Producers.Young), len(p.Producers.Old))
	}
}

func TestTransactionRules(t *testing.T) {
	const ok = int64(-2)
	marker := func(epoch int16) record.Batch { return record.NewMarker(7, epoch, record.Marker{}, 5) }
	type step struct {
		b    record.Batch
		base int64 // of a duplicate; ok: it is taken
		err  error
	}
	for name, steps := range map[string][]step{
		"goes on":                {{recordtest.Transactional(7, 0, 0, "a"), ok, nil}, {marker(0), ok, nil}, {recordtest.Transactional(7, 0, 1, "b"), ok, nil}},
		"duplicate":              {{recordtest.Transactional(7, 0, 0, "a"), ok, nil}, {marker(0), ok, nil}, {recordtest.Transactional(7, 0, 0, "a"), 0, nil}},
		"bumped":                 {{recordtest.Transactional(7, 0, 0, "a"), ok, nil}, {marker(1), ok, nil}, {recordtest.Transactional(7, 0, 1, "b"), -1, ErrProducerFenced}, {recordtest.Transactional(7, 1, 1, "b"), -1, ErrOutOfOrderSequence}, {recordtest.Transactional(7, 1, 0, "b"), ok, nil}},
		"marker first":           {{marker(3), ok, nil}, {recordtest.Transactional(7, 2, 0, "a"), -1, ErrProducerFenced}, {recordtest.Transactional(7, 3, 1, "a"), -1, ErrOutOfOrderSequence}, {recordtest.Transactional(7, 3, 0, "a"), ok, nil}},
		"higher epoch inside":    {{recordtest.Transactional(7, 0, 0, "a"), ok, nil}, {recordtest.Transactional(7, 1, 0, "b"), -1, ErrTransactionOpen}},
		"writes outside":         {{recordtest.Transactional(7, 0, 0, "a"), ok, nil}, {recordtest.Produced(7, 0, 1, "b"), -1, ErrTransactionOpen}, {recordtest.Transactional(7, 0, 1, "b"), ok, nil}},
		"none before":            {{recordtest.Produced(7, 0, 0, "a"), ok, nil}, {recordtest.Transactional(7, 0, 1, "b"), ok, nil}, {marker(0), ok, nil}, {recordtest.Produced(7, 0, 2, "c"), ok, nil}},
		"wraps in a transaction": {{recordtest.Transactional(7, 0, 0, "a"), ok, nil}, {recordtest.Transactional(7, 0, 2, "b"), -1, ErrOutOfOrderSequence}},
	} {
		p, end := Producer{}, int64(0)
		for i, s := range steps {
			if s.b.Control() {
				p.End(s.b.ProducerEpoch(), 5)
				end++
				continue
			}
			base, duplicate, err := p.Judge(s.b, false)
			if !errors.Is(err, s.err) || duplicate != (s.base >= 0) || duplicate && base != s.base {
				t.Errorf("%s, step %d: %d %v %v", name, i, base, duplicate, err)
			}
			if taken := s.base == ok; taken != p.follows(s.b) {
				t.Errorf("%s, step %d follows in the log: %v", name, i, !taken)
			} else if taken {
				p.Take(s.b, end)
				end++
			}
		}
	}
}
