package wal

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/weirmq/weir/storage/weir"
)

var seed = flag.Uint64("wal.seed", 0, "seed of the random tests; 0 draws one")

func newRand(t testing.TB) (*rand.Rand, uint64) {
	s := *seed
	if s == 0 {
		s = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d (repeat with -wal.seed)", s)
	return rand.New(rand.NewPCG(s, 0)), s
}

// fastDir is a directory whose syncs cost nothing, where there is one: for
// tests that do not need a disk but a thousand logs.
func fastDir(t testing.TB) string {
	dir, err := os.MkdirTemp("/dev/shm", "wal")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// noSync is a disk whose syncs cost nothing. Page cache outlives what the
// tests do to a process.
func noSync() disk {
	return disk{do: func(s step, _ string, f func() error) error {
		switch s {
		case stepSync, stepDirSync, stepCellSync, stepListSync:
			return nil
		}
		return f()
	}}
}

// frameAt is where a frame lies.
type frameAt struct {
	header
	begin, end int64
}

// framesIn returns the frames of a segment.
func framesIn(t testing.TB, data []byte, s salt) []frameAt {
	t.Helper()
	var frames []frameAt
	for off := int64(0); off < int64(len(data)); {
		h, at, ok, err := findHeader(windowOn(data), s, off)
		if !ok || err != nil {
			t.Fatalf("a fresh segment has no frame at %d: %v", off, err)
		}
		frames = append(frames, frameAt{h, at, h.end(at)})
		off = h.end(at)
	}
	return frames
}

// harm damages p at random and says how.
func harm(rnd *rand.Rand, p []byte) ([]byte, string) {
	p = bytes.Clone(p)
	if len(p) == 0 {
		return p, "nothing to damage"
	}
	at := rnd.IntN(len(p))
	end := at + 1 + rnd.IntN(min(len(p)-at, 1+rnd.IntN(3000)))
	switch rnd.IntN(6) {
	case 0:
		return p[:at], fmt.Sprintf("truncate at %d", at)
	case 1:
		clear(p[at:])
		return p, fmt.Sprintf("zero from %d", at)
	case 2:
		clear(p[at:end])
		return p, fmt.Sprintf("zero %d to %d", at, end)
	case 3:
		p[at] ^= 1 << rnd.IntN(8)
		return p, fmt.Sprintf("flip at %d", at)
	case 4:
		for i := at; i < end; i++ {
			p[i] = byte(rnd.Uint32())
		}
		return p, fmt.Sprintf("noise %d to %d", at, end)
	default:
		return append(p, make([]byte, rnd.IntN(5000))...), "zeros behind the end"
	}
}

// touched reports whether damage reached a frame.
func touched(before, after []byte, f frameAt) bool {
	return int64(len(after)) < f.end || !bytes.Equal(before[f.begin:f.end], after[f.begin:f.end])
}

// world is what a damage test wrote: the records and where they lie.
type world struct {
	dir    string
	acked  map[stream][]Record
	intact map[stream]map[uint64]bool // records in frames that nothing touched
	unsure map[stream]bool            // lanes whose end may be a guess: their marks were damaged, or the other witness
	did    []string
}

// build writes a few buffers. Each process but the last has closed its buffer or was killed.
func build(t *testing.T, rnd *rand.Rand) *world {
	w := &world{dir: fastDir(t), acked: map[stream][]Record{},
		intact: map[stream]map[uint64]bool{}, unsure: map[stream]bool{}}
	n := 0
	for range 1 + rnd.IntN(3) {
		o := small(w.dir)
		o.disk = noSync()
		o.SegmentSize = 512 + rnd.IntN(4096)
		l := mustOpen(t, o)
		for range rnd.IntN(60) {
			ln := weir.Lane(rnd.IntN(weir.Lanes))
			batch := recs(n, 1+rnd.IntN(8))
			n += len(batch)
			id, _ := mustAppend(t, l, ln, batch)
			s := stream{id, ln}
			w.acked[s] = append(w.acked[s], batch...)
		}
		if rnd.IntN(2) == 0 {
			mustClose(t, l)
		} else {
			abandon(l)
		}
	}
	for s, recs := range w.acked {
		w.intact[s] = map[uint64]bool{}
		for i := range recs {
			w.intact[s][uint64(i+1)] = true
		}
	}
	return w
}

// hurt damages some of the segments, and what lies beside them.
func (w *world) hurt(t *testing.T, rnd *rand.Rand) {
	for s := range w.acked {
		for _, path := range segmentFiles(t, w.dir, s.id, s.lane) {
			if rnd.IntN(4) > 0 {
				continue
			}
			before, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			frames := framesIn(t, before, saltOf(s.id, byte(s.lane)))
			var after []byte
			if rnd.IntN(8) == 0 {
				w.note(path, "remove")
				err = os.Remove(path)
			} else {
				after = before
				for range 1 + rnd.IntN(3) {
					var how string
					after, how = harm(rnd, after)
					w.note(path, how)
				}
				err = os.WriteFile(path, after, 0o640)
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range frames {
				for seq := f.first; touched(before, after, f) && seq <= f.last(); seq++ {
					w.intact[s][seq] = false
				}
			}
		}
		if rnd.IntN(10) == 0 {
			path := filepath.Join(w.dir, buffersName, bufferName(s.id), s.lane.String(), marksName)
			w.unsure[s] = true
			w.wreck(t, rnd, path)
		}
	}
	for _, name := range []string{counterName, retiredName, latestName, endedNames[0], endedNames[1]} {
		if rnd.IntN(4) > 0 {
			continue
		}
		w.wreck(t, rnd, filepath.Join(w.dir, name))
		for s := range w.acked {
			w.unsure[s] = w.unsure[s] || name == latestName
		}
	}
}

// wreck damages a side file.
func (w *world) wreck(t *testing.T, rnd *rand.Rand, path string) {
	p, err := os.ReadFile(path)
	if err != nil {
		return
	}
	p, how := harm(rnd, p)
	w.note(path, how)
	if err := os.WriteFile(path, p, 0o640); err != nil {
		t.Fatal(err)
	}
}

func (w *world) note(path, how string) {
	rel, _ := filepath.Rel(w.dir, path)
	w.did = append(w.did, rel+": "+how)
}

// audit compares what can be read with what was acknowledged.
func (w *world) audit(t *testing.T, l *Log) map[stream][]Item {
	t.Helper()
	got := map[stream][]Item{}
	for s, recs := range w.acked {
		last := uint64(len(recs))
		items := readAll(t, l, s.id, s.lane)
		got[s] = items
		next, guess := uint64(1), false
		for _, it := range items {
			if it.Gap != nil {
				if it.Gap.First != next || it.Gap.Last != it.Seq || it.Gap.Reason == "" {
					t.Fatalf("%v: gap %+v of item %d where %d is next", s, *it.Gap, it.Seq, next)
				}
				for seq := it.Gap.First; seq <= it.Gap.Last; seq++ {
					if w.intact[s][seq] {
						t.Fatalf("%v: %d is reported missing (%+v) and is not damaged", s, seq, *it.Gap)
					}
				}
				guess = guess || !it.Gap.Exact
			} else {
				if it.Seq != next {
					t.Fatalf("%v: record %d where %d is next", s, it.Seq, next)
				}
				if it.Seq > last || !reflect.DeepEqual(it.Record, recs[it.Seq-1]) {
					t.Fatalf("%v: record %d is not the one that was stored", s, it.Seq)
				}
			}
			next = it.Seq + 1
		}
		if guess && !w.unsure[s] {
			t.Fatalf("%v: a guess, although its marks are whole", s)
		}
		switch {
		case next == last+1:
		case guess:
			for seq := next; seq <= last; seq++ {
				if w.intact[s][seq] {
					t.Fatalf("%v: %d is intact and was not read", s, seq)
				}
			}
		default:
			t.Fatalf("%v: read up to %d, stored up to %d", s, next-1, last)
		}
	}
	return got
}

func TestRandomDamage(t *testing.T) {
	rnd, _ := newRand(t)
	for i := range 150 {
		w := build(t, rnd)
		w.hurt(t, rnd)
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			defer func() {
				if t.Failed() {
					for _, d := range w.did {
						t.Log(d)
					}
				}
			}()
			o := small(w.dir)
			o.disk = noSync()
			l := mustOpen(t, o)
			first := w.audit(t, l)
			mustAppend(t, l, weir.Live, recs(0, 1))
			abandon(l)
			l = mustOpen(t, o)
			if again := w.audit(t, l); !reflect.DeepEqual(first, again) {
				t.Fatal("a second start reads something else")
			}
		})
	}
}

// TestUnacknowledgedTail is a process that was killed in the middle of a
// write: what it left is not a loss.
func TestUnacknowledgedTail(t *testing.T) {
	for cut := 1; cut < 200; cut += 13 {
		dir := t.TempDir()
		l := mustOpen(t, small(dir))
		id, _ := mustAppend(t, l, weir.Live, recs(0, 7))
		w := &l.writers[weir.Live]
		frame := w.frame(8, recs(7, 3))
		abandon(l)
		paths := segmentFiles(t, dir, id, weir.Live)
		f, err := os.OpenFile(paths[len(paths)-1], os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(frame[:min(cut, len(frame)-1)]); err != nil {
			t.Fatal(err)
		}
		f.Close()
		l = mustOpen(t, small(dir))
		checkItems(t, readAll(t, l, id, weir.Live), recs(0, 7))
		if last := l.Last(id, weir.Live); last != 7 {
			t.Fatalf("Last = %d", last)
		}
	}
}

// TestGapStaysAGap lets the bytes of a reported gap come back.
func TestGapStaysAGap(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, small(dir))
	var id weir.BufferID
	for i := range 10 {
		id, _ = mustAppend(t, l, weir.Live, recs(i*2, 2))
	}
	mustClose(t, l)
	path := segmentFiles(t, dir, id, weir.Live)[0]
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	hurt := bytes.Clone(whole)
	f := framesIn(t, whole, saltOf(id, byte(weir.Live)))[3]
	clear(hurt[f.begin+40 : f.begin+50])
	if err := os.WriteFile(path, hurt, 0o640); err != nil {
		t.Fatal(err)
	}
	l = mustOpen(t, small(dir))
	items, err := l.Read(id, weir.Live, 7)
	if err != nil || len(items) != 1 || items[0].Gap == nil || items[0].Gap.First != 7 || items[0].Gap.Last != 8 {
		t.Fatalf("items %+v, %v", items, err)
	}
	before := readAll(t, l, id, weir.Live)
	abandon(l)
	if err := os.WriteFile(path, whole, 0o640); err != nil {
		t.Fatal(err)
	}
	l = mustOpen(t, small(dir))
	if after := readAll(t, l, id, weir.Live); !reflect.DeepEqual(before, after) {
		t.Fatal("the gap closed")
	}
	if items, _ := l.Read(id, weir.Live, 8); items[0].Gap == nil || items[0].Gap.First != 8 {
		t.Fatalf("from the middle of the gap: %+v", items[0].Gap)
	}
}

// TestPartOfAFrameStaysAGap: half of a frame was delivered before the other
// half was found damaged; then a crash forgets what was delivered.
func TestPartOfAFrameStaysAGap(t *testing.T) {
	for _, back := range []bool{true, false} {
		dir := t.TempDir()
		l := mustOpen(t, small(dir))
		id, _ := mustAppend(t, l, weir.Live, recs(0, 4))
		mustAppend(t, l, weir.Live, recs(4, 1))
		marks := filepath.Join(l.current.lanes[weir.Live].dir, marksName)
		old, err := os.ReadFile(marks)
		if err != nil {
			t.Fatal(err)
		}
		path := segmentFiles(t, dir, id, weir.Live)[0]
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Trim(id, weir.Live, 2); err != nil {
			t.Fatal(err)
		}
		hurt := bytes.Clone(whole)
		hurt[headerSize+20] ^= 1
		if err := os.WriteFile(path, hurt, 0o640); err != nil {
			t.Fatal(err)
		}
		if items := readAll(t, l, id, weir.Live); len(items) != 2 || items[0].Gap == nil || items[0].Gap.First != 3 {
			t.Fatalf("items %+v", items)
		}
		abandon(l)
		if err := os.WriteFile(marks, old, 0o640); err != nil {
			t.Fatal(err)
		}
		if back {
			if err := os.WriteFile(path, whole, 0o640); err != nil {
				t.Fatal(err)
			}
		}
		l = mustOpen(t, small(dir))
		items := readAll(t, l, id, weir.Live)
		if back {
			checkItems(t, items[:2], recs(0, 2))
			items = items[1:]
		} else if g := items[0].Gap; g == nil || g.First != 1 || g.Last != 2 {
			t.Fatalf("items %+v", items)
		}
		if g := items[1].Gap; len(items) != 3 || g == nil || g.First != 3 || g.Last != 4 {
			t.Fatalf("back=%v: items %+v", back, items)
		}
	}
}

// TestForeignFrames puts whole frames of another lane and older ones of the
// same lane where a damaged file system might.
func TestForeignFrames(t *testing.T) {
	dir := t.TempDir()
	o := small(dir)
	o.SegmentSize = 1 << 20
	l := mustOpen(t, o)
	id, _ := mustAppend(t, l, weir.Live, recs(0, 3))
	mustAppend(t, l, weir.Live, recs(3, 3))
	mustAppend(t, l, weir.Bulk, recs(100, 20))
	abandon(l)
	path := segmentFiles(t, dir, id, weir.Live)[0]
	live, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	bulk, err := os.ReadFile(segmentFiles(t, dir, id, weir.Bulk)[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(append(bytes.Clone(live), bulk...), live...), 0o640); err != nil {
		t.Fatal(err)
	}
	l = mustOpen(t, o)
	checkItems(t, readAll(t, l, id, weir.Live), recs(0, 6))
}

// TestInterruptedTruncate is what tidwall/wal leaves when it is killed while
// it truncates: the data is in a .START file only.
func TestInterruptedTruncate(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, small(dir))
	var id weir.BufferID
	for i := range 50 {
		id, _ = mustAppend(t, l, weir.Live, recs(i, 1))
	}
	mustClose(t, l)
	first := segmentFiles(t, dir, id, weir.Live)[0]
	if err := os.Rename(first, first+".START"); err != nil {
		t.Fatal(err)
	}
	l = mustOpen(t, small(dir))
	checkItems(t, readAll(t, l, id, weir.Live), recs(0, 50))
}
