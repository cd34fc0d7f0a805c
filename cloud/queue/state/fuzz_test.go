package state

import (
	"bytes"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/weirmq/weir/cloud/queue/routing"
	"github.com/weirmq/weir/storage/weir"
)

// sample has something of everything: two vhosts, and queues with marks, counts and
// priorities.
func sample(t testing.TB) *State {
	prioritized, unique := plain(), plain()
	unique.Deduplicate = true
	prioritized.MaxPriority, prioritized.DeadLetter = 3, &DeadLetter{"x", "k", true}
	s, v := newState(t, plain(), prioritized, unique)
	apply(t, s, KindPublish, (&Published{Vhost: topic(), Base: 1<<32 - 100, Groups: []Group{
		{Count: 5000, Queues: []QueueID{1, 2}, Lent: []QueueID{2}, Bytes: 9},
		{Count: 1, Queues: []QueueID{2}, Bytes: 1},
		{Count: 1},
	}, Special: []Special{{Index: 7, Priority: 2, Expires: true}, {Index: 5001, NotBefore: 1_700_000_000_123}}}).Append(nil))
	for i := range int64(2) {
		apply(t, s, KindSettle, (&Settled{Vhost: topic(), Queues: []QueueSettled{
			{ID: 1, Gone: []Range{{v.end - 2*i - 1000, v.end - 2*i - 900}, {v.end - 20, v.end - 20}}, Counted: []Range{{0, v.end - 2000 - i}}, Lent: v.end - 500*i - 100},
		}}).Append(nil))
		apply(t, s, KindEpoch, EncodeEpoch())
	}
	apply(t, s, KindPosition, EncodePositions(topic(), "r", []Position{{Partition{weir.TopicID{9}, 3}, 77}}))
	apply(t, s, KindDeclare, EncodeDeclare("v", []Declaration{
		{Exchange: &routing.Exchange{Name: "x", Type: routing.Headers, AutoDelete: true}},
		{Bind: &routing.Binding{Source: "x", Destination: "b", Match: routing.Match{Mode: routing.Any, Headers: []routing.Header{{Name: "h", Value: routing.IntValue(3)}}}}},
	}))
	apply(t, s, KindDeclare, EncodeDeclare("v", []Declaration{{Exchange: &routing.Exchange{Name: "seen", Type: routing.Deduplication, CacheSize: 9}}}))
	for n := range 3 {
		apply(t, s, KindPublish, (&Published{Vhost: topic(), Base: v.end, Groups: []Group{{Count: 1, Queues: []QueueID{1, 3}, Bytes: 9}},
			Filters: []Filter{{Hash: numbered(n / 2), Now: 5, Passages: []Passage{{Exchange: "seen", Until: int64(n % 2 * 10), Queues: []QueueID{1}}}}}}).Append(nil))
	}
	apply(t, s, KindDeclare, EncodeDeclare("other", []Declaration{{CreateVhost: &VhostCreated{weir.TopicID{5}}}}))
	return s
}

// FuzzApply: what Apply takes makes a state that has a snapshot.
func FuzzApply(f *testing.F) {
	m := &model{r: rand.New(rand.NewPCG(1, 2)), vhosts: make(map[string]*modelVhost), border: 100}
	for range 300 {
		kind, body := m.entry()
		f.Add(kind, body)
	}
	f.Add(KindSettle, (&Settled{Vhost: topic(), Queues: []QueueSettled{{ID: 1, Gone: []Range{{5, 9}}, Counted: []Range{{1, maxOffset}}}}, Undelayed: []int64{1<<32 + 4901}}).Append(nil))
	body := sample(f).Snapshot()
	f.Fuzz(func(t *testing.T, kind uint16, entry []byte) {
		s := New()
		if err := s.Restore(body); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Apply(kind, entry); err == nil {
			same(t, s)
		}
	})
}

// FuzzRestore: what Restore takes is what Snapshot writes, and the State works.
func FuzzRestore(f *testing.F) {
	f.Add(sample(f).Snapshot())
	s, _ := newState(f, plain())
	f.Add(s.Snapshot())
	f.Fuzz(func(t *testing.T, body []byte) {
		s := New()
		if err := s.Restore(body); err != nil {
			return
		}
		if !bytes.Equal(s.Snapshot(), body) {
			t.Fatal("other bytes were restored")
		}
		for _, v := range s.Vhosts() {
			x := Settled{Vhost: v.Topic}
			for _, q := range v.Queues() {
				x.Queues = append(x.Queues, QueueSettled{ID: q.ID, Counted: []Range{{0, maxOffset}}, Lent: -1})
			}
			apply(t, s, KindSettle, x.Append(nil))
			for i := range x.Queues {
				x.Queues[i].Gone = []Range{{0, maxOffset}}
			}
			apply(t, s, KindSettle, x.Append(nil))
			for _, q := range v.Queues() {
				if id, ok := q.First(); ok || q.Len() != 0 {
					t.Fatalf("%d waits after all is gone: %d", id, q.Len())
				}
			}
		}
		same(t, s)
	})
}

// FuzzBitmap: what is taken for a bitmap is one.
func FuzzBitmap(f *testing.F) {
	add := func(ranges ...uint64) {
		m := roaring.New()
		for i := 0; i < len(ranges); i += 2 {
			m.AddRange(ranges[i], ranges[i+1])
		}
		m.RunOptimize()
		b, err := m.ToBytes()
		if err != nil {
			f.Fatal(err)
		}
		if !isBitmap(b) {
			f.Fatalf("%v is no bitmap", ranges)
		}
		f.Add(b)
	}
	add(0, 1)
	add(5, 6, 8, 9, 70_000, 70_001)
	add(0, 100_000)
	add(0, 10, 1<<17, 1<<18, 1<<20, 1<<20+5, 1<<32-1, 1<<32)
	dense := make([]uint64, 0, 20_000)
	for i := range uint64(10_000) {
		dense = append(dense, 2*i, 2*i+1)
	}
	add(dense...)
	f.Fuzz(func(t *testing.T, b []byte) {
		if !isBitmap(b) {
			return
		}
		m := roaring.New()
		if n, err := m.ReadFrom(bytes.NewReader(b)); err != nil || n != int64(len(b)) {
			t.Fatalf("%d of %d bytes were read: %v", n, len(b), err)
		}
		if err := m.Validate(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestRestoreDamaged: a snapshot with a byte changed, or cut off, is refused or another
// state's, and needs no more memory than a few times itself.
func TestRestoreDamaged(t *testing.T) {
	body := sample(t).Snapshot()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	taken := 0
	for i := range body {
		if New().Restore(body[:i]) == nil && i > 0 {
			t.Errorf("the first %d bytes were restored", i)
		}
		for _, bit := range []byte{1, 0x80, 0xff} {
			damaged := bytes.Clone(body)
			damaged[i] ^= bit
			s := New()
			if s.Restore(damaged) != nil {
				if len(s.Vhosts()) > 0 {
					t.Fatal("what was not restored has vhosts")
				}
				continue
			}
			if taken++; !bytes.Equal(s.Snapshot(), damaged) {
				t.Errorf("byte %d changed by %#x: restored, and then other bytes", i, bit)
			}
		}
	}
	runtime.ReadMemStats(&after)
	if each := (after.TotalAlloc - before.TotalAlloc) / uint64(4*len(body)); each > 100*uint64(len(body)) {
		t.Errorf("%d bytes of memory for one of %d bytes", each, len(body))
	}
	if taken == 0 {
		t.Error("nothing was restored: the offsets of a reader, for one, may be any")
	}
}
