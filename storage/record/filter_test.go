package record_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/weirmq/weir/storage/record"
)

// copied is what a batch holds, for comparison.
func copied(t testing.TB, b record.Batch) []record.Record {
	t.Helper()
	if err := b.Verify(); err != nil {
		t.Fatal(err)
	}
	var all []record.Record
	err := b.Each(1<<24, func(r *record.Record) error {
		c := record.Record{Offset: r.Offset, Timestamp: r.Timestamp, Key: bytes.Clone(r.Key), Value: bytes.Clone(r.Value)}
		for _, h := range r.Headers {
			c.Headers = append(c.Headers, record.Header{Key: h.Key, Value: bytes.Clone(h.Value)})
		}
		all = append(all, c)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// mixed is a batch of an idempotent producer, with times in no order.
func mixed(t testing.TB, codec record.Codec) record.Batch {
	t.Helper()
	b := record.NewBuilder(codec)
	b.SetProducer(7, 3, 100)
	for i := range 40 {
		r := record.Record{Timestamp: 1_000_000 + int64(i*37%40), Key: fmt.Append(nil, "k", i), Value: bytes.Repeat([]byte{'v'}, 50)}
		if i%5 == 0 {
			r.Value = nil
		}
		if i%7 == 0 {
			r.Key = nil
		}
		if i%3 == 0 {
			r.Headers = []record.Header{{Key: "h", Value: nil}, {Key: "i", Value: []byte("j")}}
		}
		if err := b.Append(&r); err != nil {
			t.Fatal(err)
		}
	}
	out, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	out.SetBaseOffset(5000)
	out.SetLeaderEpoch(9)
	return out
}

// sameHeader compares what Filter must not touch.
func sameHeader(t testing.TB, a, b record.Batch) {
	t.Helper()
	of := func(x record.Batch) []any {
		return []any{x.BaseOffset(), x.LastOffsetDelta(), x.NextOffset(), x.LeaderEpoch(), x.Codec(), x.LogAppendTime(),
			x.ProducerID(), x.ProducerEpoch(), x.BaseSequence(), x.LastSequence()}
	}
	if !reflect.DeepEqual(of(a), of(b)) {
		t.Fatalf("header %v became %v", of(a), of(b))
	}
}

// Whatever is removed, step by step, the rest stays what and where it was.
func TestFilter(t *testing.T) {
	for codec := record.None; codec <= record.Zstd; codec++ {
		for _, appendTime := range []bool{false, true} {
			t.Run(fmt.Sprint(codec, appendTime), func(t *testing.T) { filterAway(t, codec, appendTime) })
		}
	}
}

func filterAway(t *testing.T, codec record.Codec, appendTime bool) {
	rng := rand.New(rand.NewPCG(uint64(codec), 1))
	original := mixed(t, codec)
	if appendTime {
		original.SetLogAppendTime(2_000_000)
	}
	b, left, horizon := original, copied(t, original), int64(0)
	for len(left) > 0 {
		gone, moves := map[int64]bool{}, rng.IntN(3) == 0
		var want []record.Record
		for _, r := range left {
			if rng.IntN(6) == 0 {
				gone[r.Offset] = true
			} else {
				want = append(want, r)
			}
		}
		before := bytes.Clone(b)
		keep := func(r *record.Record) bool { return !gone[r.Offset] }
		filtered, err := record.Filter(b, keep, 1<<20)
		if moves {
			horizon = 1_000_000 + rng.Int64N(1<<40)
			filtered, err = record.FilterUntil(b, keep, horizon, 1<<20)
		}
		if err != nil || !bytes.Equal(before, b) {
			t.Fatal("the batch was changed, or", err)
		}
		left = want
		if len(want) == 0 {
			if filtered != nil {
				t.Fatal("a batch without records")
			}
			return
		}
		sameHeader(t, original, filtered)
		if got := copied(t, filtered); !reflect.DeepEqual(got, want) {
			t.Fatalf("%v, want %v", got, want)
		}
		latest := int64(math.MinInt64)
		for _, r := range want {
			latest = max(latest, r.Timestamp)
		}
		if h, ok := filtered.DeleteHorizon(); filtered.MaxTimestamp() != latest || ok != (horizon != 0) || h != horizon {
			t.Fatalf("latest %d, want %d; horizon %d %v, want %d", filtered.MaxTimestamp(), latest, h, ok, horizon)
		}
		if len(gone) == 0 && !moves && &filtered[0] != &b[0] {
			t.Fatal("a batch that keeps all was copied")
		}
		b = filtered
	}
}

func TestFilterRefuses(t *testing.T) {
	all := func(*record.Record) bool { return true }
	b := mixed(t, record.Zstd)
	if _, err := record.Filter(b, all, 100); !errors.Is(err, record.ErrTooLarge) {
		t.Error(err)
	}
	if _, err := record.FilterUntil(b, all, math.MinInt64, 1<<20); !errors.Is(err, record.ErrTooLarge) {
		t.Error(err)
	}
	if _, err := record.Filter(b[:50], all, 1<<20); !errors.Is(err, record.ErrShort) {
		t.Error(err)
	}
	damaged := mixed(t, record.None)
	damaged[record.HeaderSize] ^= 1
	if _, err := record.Filter(damaged, all, 1<<20); !errors.Is(err, record.ErrCorrupt) {
		t.Error(err)
	}
}

// What Filter makes of any bytes that it accepts is whole, and holds just what
// was kept.
func FuzzFilter(f *testing.F) {
	for codec := record.None; codec <= record.Zstd; codec++ {
		f.Add([]byte(mixed(f, codec)), uint64(0x5555), int64(0))
		f.Add([]byte(mixed(f, codec)), uint64(0xfffe), int64(1<<41))
	}
	f.Fuzz(func(t *testing.T, raw []byte, mask uint64, horizon int64) {
		b := record.Batch(raw)
		keep := func(r *record.Record) bool { return mask>>(uint64(r.Offset)%64)&1 == 1 }
		var want []int64
		if b.Each(1<<20, func(r *record.Record) error {
			if keep(r) {
				want = append(want, r.Offset)
			}
			return nil
		}) != nil {
			return
		}
		out, err := record.Filter(b, keep, 1<<20)
		if horizon != 0 {
			out, err = record.FilterUntil(b, keep, horizon, 1<<20)
		}
		if err != nil || len(want) == 0 || int(b.Count()) == len(want) && horizon == 0 {
			return
		}
		sameHeader(t, b, out)
		var got []int64
		for _, r := range copied(t, out) {
			got = append(got, r.Offset)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%v, want %v", got, want)
		}
	})
}
