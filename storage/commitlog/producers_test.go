package commitlog

import (
	"errors"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record"
)

const maxSeq = math.MaxInt32

// of builds a producer's batch of n records.
func of(epoch int16, sequence int32, n int) record.Batch {
	return produced(7, epoch, sequence, make([]string, n)...)
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
		p, end := producer{}, int64(0)
		for i, o := range offers {
			b := of(o.epoch, o.sequence, o.n)
			base, duplicate, err := p.judge(b, false)
			if !errors.Is(err, o.err) || duplicate != (o.base >= 0) || duplicate && base != o.base {
				t.Errorf("%s, offer %d: %d, %v, %v, want %+v", name, i, base, duplicate, err, o)
			}
			if o.base == ok {
				if !p.follows(b) {
					t.Errorf("%s, offer %d does not follow", name, i)
				}
				p.take(b, end)
				end += int64(o.n)
			} else if p.n > 0 && p.follows(b) {
				t.Errorf("%s, offer %d follows in the log", name, i)
			}
		}
	}
}

// After 2^31-1 comes 0, also in the middle of a batch, and nobody takes the
// future for the past.
func TestProducerWraps(t *testing.T) {
	var p producer
	first := of(0, 0, 1)
	p.take(first, 0)
	p.last[0].last = maxSeq - 2 // as if there had been so many
	across := of(0, maxSeq-1, 4)
	if across.LastSequence() != 1 {
		t.Fatal(across.LastSequence())
	}
	if _, duplicate, err := p.judge(across, false); duplicate || err != nil {
		t.Fatal(duplicate, err)
	}
	p.take(across, 10)
	if base, duplicate, err := p.judge(across, false); base != 10 || !duplicate || err != nil {
		t.Error(base, duplicate, err)
	}
	if _, _, err := p.judge(of(0, 3, 1), false); !errors.Is(err, ErrOutOfOrderSequence) {
		t.Error(err)
	}
	p.take(of(0, 2, 1), 14)
	if p.last[2].first != 2 || !p.follows(of(0, 3, 1)) {
		t.Error(p.last)
	}
	// Behind the wrap in number, ahead of it in time.
	if _, _, err := p.judge(of(0, 100, 1), false); !errors.Is(err, ErrOutOfOrderSequence) {
		t.Error(err)
	}
}

// A batch may also end right before the wrap.
func TestProducerWrapsBetweenBatches(t *testing.T) {
	var p producer
	p.take(of(0, maxSeq-1, 2), 0)
	if _, duplicate, err := p.judge(of(0, 0, 1), false); duplicate || err != nil || !p.follows(of(0, 0, 1)) {
		t.Error(duplicate, err)
	}
	if _, _, err := p.judge(of(0, 1, 1), false); !errors.Is(err, ErrOutOfOrderSequence) {
		t.Error(err)
	}
}

// Which producers are remembered depends on the log alone, and is bounded.
func TestProducersAreBounded(t *testing.T) {
	var ps producers
	for id := range int64(5 * producerLimit) {
		ps.change(id, func(p *producer) { p.take(of(0, 0, 1), id) })
		ps.change(1, func(p *producer) { p.take(of(1, 0, 1), id) })
	}
	if n := len(ps.young) + len(ps.old); n > 2*producerLimit+1 {
		t.Errorf("%d producers are remembered", n)
	}
	if ps.get(1) == nil || ps.get(5*producerLimit-1) == nil || ps.get(4*producerLimit+2) == nil {
		t.Error("a recent producer is forgotten")
	}
	if ps.get(0) != nil {
		t.Error("an old producer is remembered")
	}
}

// The first batch of a producer may have any sequence only where nobody was ever
// forgotten: elsewhere it may be a batch that is stored already.
func TestUnknownProducer(t *testing.T) {
	var ps producers
	for id := range int64(3 * producerLimit) {
		if may, had := ps.forgot(), ps.get(0) == nil && id > 0; had && !may {
			t.Fatalf("producer 0 is forgotten before %d, and it is not noticed", id)
		}
		ps.change(id, func(p *producer) {
			p.take(of(0, 0, 1), id)
			p.open = id%10 == 5 // these are in neither generation
		})
		if id%1000 == 999 {
			ps.change(id-4, func(p *producer) { p.end(0, 5) })
		}
	}
	if ps.get(0) != nil || !ps.forgot() {
		t.Error("nobody was forgotten")
	}
	if _, _, err := (&producer{}).judge(of(0, 1, 1), true); !errors.Is(err, ErrUnknownProducer) {
		t.Error(err)
	}
	if _, duplicate, err := (&producer{}).judge(of(0, 0, 1), true); duplicate || err != nil {
		t.Error(duplicate, err)
	}
}

// A new owner takes a producer in the middle of its sequence only when nothing that
// it sent to the owner before can come any more. Those that are known go on at once.
func TestUnknownProducerAfterTakeover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := mem.New()
		l := open(t, b)
		topic := createTopic(t, l, "t", 1)
		put := func(batch record.Batch, base int64, want error) {
			t.Helper()
			if r := <-send(l, Append{Topic: topic.ID, Batch: batch}); r.base != base || !errors.Is(r.err, want) {
				t.Errorf("%+v, want %d %v", r, base, want)
			}
		}
		put(produced(7, 0, 5, "a"), 0, nil) // the first owner of the bucket
		put(produced(7, 0, 4, "b"), -1, ErrOutOfOrderSequence)
		put(transactional(8, 0, 3, "a"), 1, nil)

		l = open(t, b)
		put(produced(7, 0, 6, "b"), 2, nil)
		put(produced(7, 0, 5, "a"), 0, nil) // a duplicate
		put(transactional(8, 0, 4, "b"), 3, nil)
		put(produced(9, 0, 1, "a"), -1, ErrUnknownProducer)
		time.Sleep(overtaking)
		put(produced(9, 0, 1, "a"), 4, nil)
		put(produced(9, 0, 0, "b"), -1, ErrOutOfOrderSequence)
		sound(t, b)
	})
}

// A duplicate of what flies gets the same offset, and not before it is durable.
func TestProducerInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := mem.New()
		g := newGate(b)
		l := open(t, g, func(o *Options) { o.Depth = 10 })
		topic := createTopic(t, l, "t", 1)
		appended(t, l, Append{Topic: topic.ID, Batch: batch("x")})
		release := g.hold()
		full := strings.Repeat("x", leaveBytes)
		put := func(epoch int16, sequence int32, n int) <-chan result {
			values := make([]string, n)
			values[0] = full // leaves while others fly
			a := send(l, Append{Topic: topic.ID, Batch: produced(7, epoch, sequence, values...)})
			synctest.Wait()
			return a
		}
		answers := []<-chan result{put(0, 0, 2), put(0, 2, 1), put(0, 0, 2), put(0, 4, 1), put(1, 0, 1), put(0, 3, 1)}
		for i, a := range answers {
			if !pending(a) {
				t.Errorf("answer %d is early", i)
			}
		}
		release()
		want := []result{{1, nil}, {3, nil}, {1, nil}, {-1, ErrOutOfOrderSequence}, {4, nil}, {-1, ErrProducerFenced}}
		for i, a := range answers {
			if r := <-a; r.base != want[i].base || !errors.Is(r.err, want[i].err) {
				t.Errorf("answer %d is %+v, want %+v", i, r, want[i])
			}
		}
		// The history is in the log: the next owner knows it.
		l = open(t, b)
		if base := appended(t, l, Append{Topic: topic.ID, Batch: of(1, 0, 1)}); base != 4 {
			t.Errorf("duplicate at the new owner got offset %d", base)
		}
		if r := <-send(l, Append{Topic: topic.ID, Batch: of(0, 3, 1)}); !errors.Is(r.err, ErrProducerFenced) {
			t.Error(r.err)
		}
		if base := appended(t, l, Append{Topic: topic.ID, Batch: of(1, 1, 1)}); base != 5 {
			t.Error(base)
		}
		sound(t, b)
	})
}

func TestNewProducerID(t *testing.T) {
	b := mem.New()
	seen := map[int64]bool{}
	for range 3 { // each owner takes up where the last one may have been
		l := open(t, b)
		for range idBlockSize + 10 {
			id, err := l.NewProducerID(t.Context())
			if err != nil || id <= 0 || seen[id] {
				t.Fatal(id, err, seen[id])
			}
			seen[id] = true
		}
	}
	sound(t, b)
}
