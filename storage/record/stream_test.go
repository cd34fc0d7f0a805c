package record

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// walked is what a walk comes upon.
func walked(b Batch, limit int, bodies bool, how func(walking) error) (entries []string, err error) {
	err = how(walking{maxInflated: limit, bodies: bodies, fn: func(e entry) error {
		if bodies && !checkBody(e.body) {
			return errBody
		}
		if !bodies && !e.checked {
			return errors.New("a body is neither there nor checked")
		}
		at := fmt.Sprint(e.offsetDelta, e.timestampDelta)
		if bodies {
			at += string(e.body)
		}
		entries = append(entries, at)
		return nil
	}})
	return entries, err
}

// sameBothWays checks that a batch is the same as a whole and as a stream.
func sameBothWays(t *testing.T, b Batch, limit int) {
	t.Helper()
	if b.VerifyHeader() != nil || b.Codec() == None {
		return
	}
	whole, err := walked(b, limit, true, func(w walking) error { return b.inflatedAtOnce(w, w.maxInflated) })
	stream, streamErr := walked(b, limit, true, b.inflatedAsStream)
	if (err == nil) != (streamErr == nil) || err == nil && !slices.Equal(whole, stream) {
		t.Fatalf("%v: as a whole %d records and %v, as a stream %d and %v", b.Codec(), len(whole), err, len(stream), streamErr)
	}
	checked, checkErr := walked(b, limit, false, b.inflatedAsStream)
	if (err == nil) != (checkErr == nil) || err == nil && len(checked) != len(whole) {
		t.Fatalf("%v: as a whole %d records and %v, checked as a stream %d and %v", b.Codec(), len(whole), err, len(checked), checkErr)
	}
	for _, e := range []error{streamErr, checkErr} {
		if e != nil && !errors.Is(e, ErrCorrupt) && !errors.Is(e, ErrTooLarge) {
			t.Fatalf("%v: unnamed error: %v", b.Codec(), e)
		}
	}
}

func built(t testing.TB, c Codec, records ...Record) Batch {
	t.Helper()
	m := NewBuilder(c)
	for i := range records {
		if err := m.Append(&records[i]); err != nil {
			t.Fatal(err)
		}
	}
	b, err := m.Build()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// some are records of many sizes, up to several blocks of every codec.
func some(n int) (all []Record) {
	random := rand.New(rand.NewPCG(3, 8))
	for i := range n {
		r := Record{Timestamp: int64(random.IntN(1000)), Key: fmt.Append(nil, i), Value: bytes.Repeat([]byte{byte(i)}, random.IntN(1<<(i%18)))}
		for range random.IntN(4) {
			r.Headers = append(r.Headers, Header{Key: strings.Repeat("h", random.IntN(9)), Value: []byte("v")}, Header{Key: "null"})
		}
		if i%7 == 0 {
			r.Key = nil
		}
		all = append(all, r)
	}
	return all
}

func TestStreamIsTheSame(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 9))
	for _, c := range compressed {
		for _, n := range []int{1, 2, 40, 150} {
			b := built(t, c, some(n)...)
			sameBothWays(t, b, 64<<20)
			for range 10 { // the limit may be passed at any place
				sameBothWays(t, b, random.IntN(len(b)*20))
			}
		}
		b := built(t, c, some(60)...)
		for range 100 { // cut, and with bits that flipped
			bad := slices.Clone(b)
			at := HeaderSize + random.IntN(len(b)-HeaderSize)
			bad[at] ^= 1 << random.IntN(8)
			sameBothWays(t, bad, 8<<20)
			sameBothWays(t, b[:at], 8<<20)
		}
	}
}

func FuzzStream(f *testing.F) {
	for _, c := range compressed {
		f.Add([]byte(built(f, c, some(12)...)))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		if len(p) > HeaderSize {
			sameBothWays(t, p, 256<<10)
		}
	})
}

// One record that is large is proved without being in memory.
func TestBombIsAStream(t *testing.T) {
	value := make([]byte, 24<<20)
	for _, c := range []Codec{Gzip, LZ4, Zstd} {
		b := built(t, c, Record{Value: value})
		if err := b.VerifyRecords(64 << 20); err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if err := b.VerifyRecords(64 << 20); err != nil {
			t.Errorf("%v: %v", c, err)
		}
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; used > 4<<20 {
			t.Errorf("%v: %d bytes allocated for a batch of %d", c, used, len(b))
		}
		if err := b.VerifyRecords(20 << 20); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%v: %v, want ErrTooLarge", c, err)
		}
	}
}

// However many come at once, one of them is inflated; and small batches do not wait
// for it.
func TestBombsTakeTurns(t *testing.T) {
	bomb := built(t, Zstd, Record{Value: make([]byte, 6<<20)})
	small := built(t, Zstd, some(20)...)
	var running, most atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			err := bomb.Each(64<<20, func(*Record) error {
				most.Store(max(most.Load(), running.Add(1)))
				defer running.Add(-1)
				time.Sleep(5 * time.Millisecond)
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	heavyHeld := func() bool { return len(heavyToken) == 1 }
	for !heavyHeld() {
		runtime.Gosched()
	}
	for range 100 {
		if err := small.VerifyRecords(1 << 20); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
	if most.Load() != 1 || heavyHeld() {
		t.Errorf("%d at once", most.Load())
	}
	if count, total := InflateWaits(); count == 0 || total == 0 {
		t.Errorf("%d waits of %v", count, total)
	}
}

// The size that gzip declares is not trusted.
func TestGzipThatLies(t *testing.T) {
	b := built(t, Gzip, Record{Value: make([]byte, 8<<20)})
	if err := b.VerifyRecords(64 << 20); err != nil {
		t.Fatal(err)
	}
	for _, says := range []byte{0, 1, 255} { // a wrong length is damage; but not before it was inflated as far as may be
		lie := slices.Clone(b)
		copy(lie[len(lie)-4:], []byte{says, says, says, says})
		if err := lie.VerifyRecords(64 << 20); !errors.Is(err, ErrCorrupt) {
			t.Errorf("it says %d: %v", says, err)
		}
		if err := lie.VerifyRecords(1 << 20); !errors.Is(err, ErrTooLarge) {
			t.Errorf("it says %d: %v, want ErrTooLarge", says, err)
		}
	}
	// Two members, of which the last is small.
	two := deflated(t, make([]byte, 8<<20), []byte("x"))
	if guess := gzipGuess(two); guess != 1 {
		t.Fatalf("guess is %d", guess)
	}
	p, err := newGzipPieces(two)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	n := 0
	for {
		some, err := p.next()
		if err != nil {
			break
		}
		n += len(some)
	}
	if n != 8<<20+1 {
		t.Errorf("%d bytes", n)
	}
}

// deflated is each of parts as a member of gzip.
func deflated(t *testing.T, parts ...[]byte) (all []byte) {
	for _, p := range parts {
		var err error
		if all, err = deflateGzip(all, p); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func TestXXH32InPieces(t *testing.T) {
	p := make([]byte, 1000)
	for i := range p {
		p[i] = byte(i * 7)
	}
	random := rand.New(rand.NewPCG(1, 2))
	for n := range p {
		var d xxh32Digest
		for rest := p[:n]; len(rest) > 0; {
			some := min(len(rest), random.IntN(40))
			d.write(rest[:some])
			rest = rest[some:]
		}
		if d.sum() != xxh32(p[:n]) {
			t.Fatalf("%d bytes: %x, want %x", n, d.sum(), xxh32(p[:n]))
		}
	}
}

func TestRecode(t *testing.T) {
	records := some(50)
	for _, from := range append(compressed, None) {
		for _, to := range append(compressed, None) {
			b := built(t, from, records...)
			out, err := Recode(b, to, 64<<20)
			if err != nil || out.Verify() != nil || out.Codec() != to || out.Count() != b.Count() {
				t.Fatalf("%v to %v: %v", from, to, err)
			}
		}
	}
	bomb := built(t, Zstd, Record{Value: make([]byte, 8<<20)})
	if _, err := Recode(bomb, None, 4<<20); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
	if _, err := Recode(bomb[:HeaderSize], None, 64<<20); err == nil {
		t.Error("a batch that is cut is recoded")
	}
}
