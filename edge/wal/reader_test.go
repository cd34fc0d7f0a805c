package wal

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/weirmq/weir/storage/weir"
)

// TestReadDuringAWrite reads while half of the next frame is in the file: what
// the reader then has in memory is no damage.
func TestReadDuringAWrite(t *testing.T) {
	dir := t.TempDir()
	o := small(dir)
	o.SegmentSize = 1 << 20
	var l *Log
	var during func(path string)
	o.disk.do = func(s step, path string, f func() error) error {
		if s == stepWrite && during != nil {
			during(path)
		}
		return f()
	}
	l = mustOpen(t, o)
	id, _ := mustAppend(t, l, weir.Live, recs(0, 5))
	during = func(path string) {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.Write(make([]byte, 60_000)); err != nil {
			t.Fatal(err)
		}
		checkItems(t, readAll(t, l, id, weir.Live), recs(0, 5))
	}
	mustAppend(t, l, weir.Live, recs(5, 40))
	checkItems(t, readAll(t, l, id, weir.Live), recs(0, 45))
}

// TestSealedAtBoot: if records that one start has found at the end of a lane are gone at the
// next, they are reported, even if the marks of the killed process were old.
func TestSealedAtBoot(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, small(dir))
	id, _ := mustAppend(t, l, weir.Live, recs(0, 3))
	marks := filepath.Join(l.current.lanes[weir.Live].dir, marksName)
	old, err := os.ReadFile(marks)
	if err != nil {
		t.Fatal(err)
	}
	mustAppend(t, l, weir.Live, recs(3, 3))
	abandon(l)
	if err := os.WriteFile(marks, old, 0o600); err != nil {
		t.Fatal(err)
	}
	l = mustOpen(t, small(dir))
	if last := l.Last(id, weir.Live); last != 6 {
		t.Fatalf("Last = %d", last)
	}
	abandon(l)
	path := segmentFiles(t, dir, id, weir.Live)[0]
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, st.Size()-10); err != nil {
		t.Fatal(err)
	}
	l = mustOpen(t, small(dir))
	items := readAll(t, l, id, weir.Live)
	checkItems(t, items[:3], recs(0, 3))
	if len(items) != 4 || items[3].Gap == nil || items[3].Gap.First != 4 || items[3].Gap.Last != 6 || !items[3].Gap.Exact {
		t.Fatalf("items %+v", items[3:])
	}
}

// TestGuess: the marks are lost together with the end of the segment. The latest
// sequences of the newest buffer make up for them, if they are not lost too.
func TestGuess(t *testing.T) {
	t.Run("latest is there", func(t *testing.T) { testGuess(t, false) })
	t.Run("latest is lost", func(t *testing.T) { testGuess(t, true) })
}

func testGuess(t *testing.T, lost bool) {
	dir := t.TempDir()
	l := mustOpen(t, small(dir))
	id, _ := mustAppend(t, l, weir.Live, recs(0, 3))
	mustAppend(t, l, weir.Live, recs(3, 3))
	lane := l.current.lanes[weir.Live].dir
	abandon(l)
	if err := os.Remove(filepath.Join(lane, marksName)); err != nil {
		t.Fatal(err)
	}
	if lost {
		if err := os.Remove(filepath.Join(dir, latestName)); err != nil {
			t.Fatal(err)
		}
	}
	path := segmentFiles(t, dir, id, weir.Live)[0]
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, st.Size()-10); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		l = mustOpen(t, small(dir))
		items := readAll(t, l, id, weir.Live)
		checkItems(t, items[:3], recs(0, 3))
		if len(items) != 4 || items[3].Gap == nil || items[3].Gap.First != 4 || items[3].Gap.Last != 6 || items[3].Gap.Exact == lost {
			t.Fatalf("items %+v", items[3:])
		}
		// What is guessed may never have been stored: a device that sends it again
		// must not be told that it was.
		if sure := l.Stored(id, weir.Live, 6); !l.Stored(id, weir.Live, 3) || sure == lost || l.Stored(id, weir.Live, 7) {
			t.Fatalf("stored: 6 %v, 7 %v", sure, l.Stored(id, weir.Live, 7))
		}
		abandon(l)
	}
}

// TestLostWhileRunning removes a segment under a log that is open.
func TestLostWhileRunning(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, small(dir))
	var id weir.BufferID
	for i := range 200 {
		id, _ = mustAppend(t, l, weir.Live, recs(i, 1))
	}
	if err := os.Remove(segmentFiles(t, dir, id, weir.Live)[2]); err != nil {
		t.Fatal(err)
	}
	var gaps, records uint64
	next := uint64(1)
	for _, it := range readAll(t, l, id, weir.Live) {
		if it.Gap != nil {
			gaps += it.Gap.Last - it.Gap.First + 1
			next = it.Gap.First
		} else {
			records++
		}
		if it.Gap == nil && it.Seq != next {
			t.Fatalf("record %d where %d is next", it.Seq, next)
		}
		next = it.Seq + 1
	}
	if gaps == 0 || gaps+records != 200 {
		t.Fatalf("%d records and %d missing", records, gaps)
	}
	if err := l.Trim(id, weir.Live, 200); err != nil {
		t.Fatal(err)
	}
}

// TestSalvage reads a file block by block, as after a read error.
func TestSalvage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	data := make([]byte, 3*blockSize+100)
	for i := range data {
		data[i] = byte(i / 7)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	var w window
	if err := w.open(path); err != nil {
		t.Fatal(err)
	}
	defer w.close()
	p := make([]byte, len(data))
	if n, err := w.salvage(p, 50); n != len(data)-50 || err != nil || string(p[:n]) != string(data[50:]) {
		t.Fatalf("%d bytes, %v", n, err)
	}
	if n, err := w.salvage(p, int64(len(data))+5); n != 0 || err != nil {
		t.Fatalf("behind the end: %d bytes, %v", n, err)
	}
}

// TestFrontLostWithTheMarks: segments at the front are gone, and so are the marks
// that would say whether they had been acknowledged and freed. So they may be
// missing, and are reported as such.
func TestFrontLostWithTheMarks(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, small(dir))
	var id weir.BufferID
	for i := range 200 {
		id, _ = mustAppend(t, l, weir.Live, recs(i, 1))
	}
	lane := l.current.lanes[weir.Live].dir
	abandon(l)
	for _, path := range []string{segmentFiles(t, dir, id, weir.Live)[0], filepath.Join(lane, marksName)} {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		l = mustOpen(t, small(dir))
		items := readAll(t, l, id, weir.Live)
		g := items[0].Gap
		if g == nil || g.First != 1 || g.Last != items[0].Seq || g.Exact || items[1].Seq != g.Last+1 {
			t.Fatalf("the front is read as %+v", items[0])
		}
		abandon(l)
	}
}
