package segment

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/weirmq/weir/storage/record"
)

// TestBuild reads back what a builder made of random parts: the same batches,
// in blocks that are as full as they can be.
func TestBuild(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 200 {
		blockSize := 100 << rng.IntN(8)
		var parts []part
		for i := range rng.IntN(6) {
			p := part{topic: byte(rng.IntN(3)), partition: int32(i), base: rng.Int64N(1 << 50)}
			p.next = p.base + rng.Int64N(3)
			for range rng.IntN(30) {
				b := readings(t, p.next, 1+rng.IntN(20))
				switch rng.IntN(8) {
				case 0:
					b = compacted(b, b.LastOffsetDelta()+int32(rng.IntN(5)), b.Count())
				case 1:
					b = compacted(b, b.LastOffsetDelta(), 0)
				}
				p.batches = append(p.batches, b)
				p.next = b.NextOffset() + rng.Int64N(2)*rng.Int64N(50)
			}
			p.next = max(p.next, p.base+1)
			parts = append(parts, p)
		}
		checkBuild(t, blockSize, parts)
	}
}

func checkBuild(t *testing.T, blockSize int, parts []part) {
	t.Helper()
	object, pieces := assemble(t, blockSize, parts...)
	opened, err := Open(object, 7, 5, 2)
	if err != nil || !slices.Equal(opened, pieces) || len(pieces) != len(parts) {
		t.Fatalf("%d parts, %d pieces, opened %d, %v", len(parts), len(pieces), len(opened), err)
	}
	for i, p := range pieces {
		want := parts[i]
		if p.Topic != [16]byte{want.topic} || p.Partition != want.partition || p.Base != want.base || p.Next != want.next {
			t.Errorf("piece %v of part %+v", p, want)
		}
		blocks, batches := read(t, object, p)
		same(t, batches, want.batches)
		records, time := 0, int64(NoTime)
		for _, b := range want.batches {
			if records += int(b.Count()); b.Count() > 0 {
				time = max(time, b.MaxTimestamp())
			}
		}
		if int(p.Records) != records || p.MaxTime != time {
			t.Errorf("%d records up to %d, want %d, %d", p.Records, p.MaxTime, records, time)
		}
		for j, b := range blocks {
			first := batches[0]
			count := 0
			for size := 0; size < int(b.Size); count++ {
				size += len(batches[count])
			}
			if b.Base != first.BaseOffset() || b.Next != batches[count-1].NextOffset() {
				t.Errorf("block %+v begins with a batch at %d", b, first.BaseOffset())
			}
			if count > 1 && int(b.Size) > blockSize {
				t.Errorf("%d batches in a block of %d bytes, at most %d wanted", count, b.Size, blockSize)
			}
			if j < len(blocks)-1 && int(b.Size)+len(batches[count]) <= blockSize {
				t.Errorf("block of %d bytes, and the next batch has %d", b.Size, len(batches[count]))
			}
			batches = batches[count:]
		}
	}
}

// TestBuildNothing: an object may have no pieces.
func TestBuildNothing(t *testing.T) { checkBuild(t, BlockSize, nil) }

// TestGrow: with room made there is nothing to copy.
func TestGrow(t *testing.T) {
	b := NewBuilder(0, 1, 1)
	b.Grow(1 << 20)
	before := &b.buf[0]
	b.Begin([16]byte{}, 0, 0)
	next := int64(0)
	for size := 0; size < 1<<20-4096; {
		batch := readings(t, next, 100)
		if err := b.Append(batch); err != nil {
			t.Fatal(err)
		}
		size, next = size+len(batch), batch.NextOffset()
	}
	b.End(next)
	object, _, err := b.Finish()
	if err != nil || &object[0] != before {
		t.Error("the object moved", err)
	}
}

func TestAppendRefuses(t *testing.T) {
	first := readings(t, 10, 5)
	damaged := slices.Clone(readings(t, 15, 5))
	damaged[70] ^= 1
	end := readings(t, 15, 2)
	end.SetBaseOffset(math.MaxInt64 - 1)
	for _, c := range []struct {
		name  string
		batch record.Batch
		want  error
	}{
		{"overlap", readings(t, 14, 1), ErrCorrupt},
		{"below the base", readings(t, 4, 1), ErrCorrupt},
		{"again", first, ErrCorrupt},
		{"negative", readings(t, -1, 1), ErrCorrupt},
		{"beyond all offsets", end, ErrCorrupt},
		{"damaged", damaged, ErrCorrupt},
		{"cut", first[:80], ErrCorrupt},
		{"two", slices.Concat(readings(t, 15, 1), readings(t, 16, 1)), ErrCorrupt},
		{"nil", nil, ErrCorrupt},
		{"next", readings(t, 15, 1), nil},
		{"behind a hole", readings(t, 99, 1), nil},
	} {
		b := NewBuilder(7, 5, 2)
		b.Begin([16]byte{1}, 0, 5)
		if err := b.Append(first); err != nil {
			t.Fatal(err)
		}
		if err := b.Append(c.batch); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		want := []record.Batch{first}
		if c.want == nil {
			want = append(want, c.batch)
		}
		b.End(100)
		object, pieces, err := b.Finish()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Open(object, 7, 5, 2); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		_, got := read(t, object, pieces[0])
		same(t, got, want)
	}
}

// TestFull: neither bytes nor records run over, and what is there is finished.
func TestFull(t *testing.T) {
	batch := readings(t, 0, 1)
	b := NewBuilder(7, 5, 2)
	b.Begin([16]byte{}, 0, 0)
	b.piece.Records = math.MaxUint32
	if err := b.Append(batch); !errors.Is(err, ErrTooLarge) {
		t.Error("records:", err)
	}
	for limit := 300; limit < 1500; limit += 7 {
		b := NewBuilder(7, 5, 2)
		b.maxSize, b.blockSize = limit, 200
		pieces, next, err := 0, int64(0), error(nil)
		for b.Begin([16]byte{}, 0, next); err == nil; next++ {
			if next > 0 && next%5 == 0 {
				b.End(next)
				pieces++
				b.Begin([16]byte{}, 0, next)
			}
			err = b.Append(readings(t, next, 1))
		}
		if !errors.Is(err, ErrTooLarge) {
			t.Fatal(limit, err)
		}
		if next--; next%5 == 0 {
			b.Drop()
		} else {
			b.End(next)
			pieces++
		}
		object, _, err := b.Finish()
		if err != nil || len(object) > limit || len(object) < limit-200-2*pieceSize-2*maxEntry*int(next) {
			t.Fatalf("%d bytes, at most %d allowed, %d batches: %v", len(object), limit, next, err)
		}
		if opened, err := Open(object, 7, 5, 2); err != nil || len(opened) != pieces {
			t.Fatal(len(opened), pieces, err)
		}
	}
	b = NewBuilder(7, 5, 2)
	b.maxSize = 300
	for i := range int64(5) {
		b.Begin([16]byte{}, 0, i)
		b.End(i + 1)
	}
	if _, _, err := b.Finish(); !errors.Is(err, ErrTooLarge) {
		t.Error("empty pieces:", err)
	}
}

// TestDrop: a piece that was dropped leaves nothing behind.
func TestDrop(t *testing.T) {
	want, _ := assemble(t, sampleBlock, sample(t)...)
	b := NewBuilder(7, 5, 2)
	b.blockSize = sampleBlock
	b.Drop()
	for i, p := range sample(t) {
		b.Begin([16]byte{9}, 9, 0)
		for j := range i {
			if err := b.Append(readings(t, int64(100*j), 10)); err != nil {
				t.Fatal(err)
			}
		}
		b.Drop()
		b.Begin([16]byte{p.topic}, p.partition, p.base)
		for _, batch := range p.batches {
			if err := b.Append(batch); err != nil {
				t.Fatal(err)
			}
		}
		b.End(p.next)
	}
	b.Drop()
	if got, _, err := b.Finish(); err != nil || !slices.Equal(got, want) {
		t.Errorf("%d bytes, want %d, %v", len(got), len(want), err)
	}
}

// TestOutOfOrder: a call out of order is heard of at the latest from Finish.
func TestOutOfOrder(t *testing.T) {
	batch := readings(t, 5, 5)
	for name, calls := range map[string]func(b *Builder){
		"Begin twice":          func(b *Builder) { b.Begin([16]byte{}, 0, 0); b.Begin([16]byte{}, 1, 0); b.End(1) },
		"negative partition":   func(b *Builder) { b.Begin([16]byte{}, -1, 0); b.End(1) },
		"negative base":        func(b *Builder) { b.Begin([16]byte{}, 0, -1); b.End(1) },
		"End first":            func(b *Builder) { b.End(1) },
		"End twice":            func(b *Builder) { b.Begin([16]byte{}, 0, 0); b.End(1); b.End(2) },
		"no offsets":           func(b *Builder) { b.Begin([16]byte{}, 0, 3); b.End(3) },
		"End in a batch":       func(b *Builder) { b.Begin([16]byte{}, 0, 3); _ = b.Append(batch); b.End(9) },
		"no End":               func(b *Builder) { b.Begin([16]byte{}, 0, 0) },
		"after Finish":         func(b *Builder) { _, _, _ = b.Finish(); b.Begin([16]byte{}, 0, 0) },
		"again after an error": func(b *Builder) { b.End(1); b.Begin([16]byte{}, 0, 0); b.End(1) },
	} {
		b := NewBuilder(7, 5, 2)
		calls(b)
		if err := b.Append(batch); !errors.Is(err, ErrState) && name != "no End" {
			t.Errorf("%s: Append says %v", name, err)
		}
		if object, _, err := b.Finish(); !errors.Is(err, ErrState) || object != nil {
			t.Errorf("%s: Finish says %v", name, err)
		}
	}
	b := NewBuilder(7, 5, 2)
	if err := b.Append(batch); !errors.Is(err, ErrState) {
		t.Error(err)
	}
	if _, _, err := b.Finish(); err != nil {
		t.Error("an Append outside a piece harmed it:", err)
	}
}
