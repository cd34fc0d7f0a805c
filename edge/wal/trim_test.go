package wal

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/weirmq/weir/storage/weir"
)

func TestTrim(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, small(dir))
	var id weir.BufferID
	for i := range 200 {
		id, _ = mustAppend(t, l, weir.Live, recs(i, 1))
	}
	files := len(segmentFiles(t, dir, id, weir.Live))
	if err := l.Trim(id, weir.Live, 100); err != nil {
		t.Fatal(err)
	}
	if n := len(segmentFiles(t, dir, id, weir.Live)); n >= files || n < files/2-1 {
		t.Fatalf("%d of %d segments are left", n, files)
	}
	checkBytes(t, l)
	if b := bounds(t, l, id, weir.Live); b != (weir.Bounds{First: 101, Last: 200}) {
		t.Fatalf("bounds %+v", b)
	}
	items := readAll(t, l, id, weir.Live)
	if len(items) != 100 || items[0].Seq != 101 {
		t.Fatalf("%d items from %d", len(items), items[0].Seq)
	}
	if err := l.Trim(id, weir.Live, 1<<60); err != nil {
		t.Fatal(err)
	}
	if n := len(segmentFiles(t, dir, id, weir.Live)); n != 1 {
		t.Fatalf("%d segments of a drained lane, want the one that is written to", n)
	}
	if _, first := mustAppend(t, l, weir.Live, recs(200, 1)); first != 201 {
		t.Fatalf("first = %d", first)
	}
	mustClose(t, l)
	l = mustOpen(t, small(dir))
	if items := readAll(t, l, id, weir.Live); len(items) != 1 || items[0].Seq != 201 {
		t.Fatalf("%d items", len(items))
	}
	if last := l.Last(id, weir.Live); last != 201 {
		t.Fatalf("Last = %d", last)
	}
}

// TestTrimIsLazy: within a second nothing is written, and a crash brings back
// what was trimmed; but never behind a file that is gone.
func TestTrimIsLazy(t *testing.T) {
	now := time.Unix(1000, 0)
	writes := 0
	dir := t.TempDir()
	o := small(dir)
	o.Now = func() time.Time { return now }
	o.disk.do = func(s step, _ string, f func() error) error {
		if s == stepCell {
			writes++
		}
		return f()
	}
	l := mustOpen(t, o)
	id, _ := mustAppend(t, l, weir.Live, recs(0, 100)) // longer than a segment
	mustAppend(t, l, weir.Live, recs(100, 10))
	if err := l.Trim(id, weir.Live, 1); err != nil {
		t.Fatal(err)
	}
	writes = 0
	for seq := uint64(2); seq < 50; seq++ {
		if err := l.Trim(id, weir.Live, seq); err != nil {
			t.Fatal(err)
		}
	}
	if writes != 0 {
		t.Fatalf("%d writes within a second", writes)
	}
	now = now.Add(2 * time.Second)
	if err := l.Trim(id, weir.Live, 50); err != nil || writes != 1 {
		t.Fatalf("%d writes after a second, %v", writes, err)
	}
	if err := l.Trim(id, weir.Live, 100); err != nil {
		t.Fatal(err)
	}
	if err := l.Trim(id, weir.Live, 105); err != nil {
		t.Fatal(err)
	}
	abandon(l)
	o.disk = disk{}
	l = mustOpen(t, o)
	if b := bounds(t, l, id, weir.Live); b != (weir.Bounds{First: 101, Last: 110}) {
		t.Fatalf("bounds after a crash: %+v", b)
	}
	items := readAll(t, l, id, weir.Live)
	if len(items) != 10 || items[0].Gap != nil || items[0].Seq != 101 {
		t.Fatalf("%d items: %+v", len(items), items[0])
	}
}

func TestRetire(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, small(dir))
	old, _ := mustAppend(t, l, weir.Live, recs(0, 10))
	mustAppend(t, l, weir.Bulk, recs(0, 4))
	if err := l.Retire(old); !errors.Is(err, ErrUnacked) {
		t.Fatalf("Retire of the current buffer: %v", err)
	}
	mustClose(t, l)
	l = mustOpen(t, small(dir))
	if err := l.Trim(old, weir.Live, 10); err != nil {
		t.Fatal(err)
	}
	if err := l.Retire(old); !errors.Is(err, ErrUnacked) {
		t.Fatalf("Retire of an unacknowledged buffer: %v", err)
	}
	if n := len(segmentFiles(t, dir, old, weir.Live)); n != 0 {
		t.Fatalf("%d segments of a drained lane", n)
	}
	if err := l.Trim(old, weir.Bulk, 4); err != nil {
		t.Fatal(err)
	}
	if err := l.Retire(old); err != nil {
		t.Fatal(err)
	}
	if err := l.Retire(old); !errors.Is(err, ErrUnknown) {
		t.Fatalf("second Retire: %v", err)
	}
	for range 2 {
		if l.Last(old, weir.Live) != 10 || l.Last(old, weir.Bulk) != 4 || l.Last(old, weir.Alarm) != 0 {
			t.Fatalf("Last of the retired buffer: %d %d %d", l.Last(old, weir.Live), l.Last(old, weir.Bulk), l.Last(old, weir.Alarm))
		}
		if s := l.Stats(); s.Buffers != 1 || s.Bytes != 0 {
			t.Fatalf("Stats %+v", s)
		}
		mustClose(t, l)
		l = mustOpen(t, small(dir))
	}
}

// TestRetireInterrupted: the list knows that the buffer is retired, and the
// directory is still there, whole or in part.
func TestRetireInterrupted(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, small(dir))
	old, _ := mustAppend(t, l, weir.Live, recs(0, 10))
	gone := weir.BufferID{0, 0, 0, 1, 7}
	mustClose(t, l)
	l = mustOpen(t, small(dir))
	if err := l.retired.write(goneBuffer{id: old, last: [weir.Lanes]uint64{weir.Live: 10}}); err != nil {
		t.Fatal(err)
	}
	abandon(l)
	if err := os.MkdirAll(filepath.Join(dir, buffersName, bufferName(gone)+goneSuffix, "live"), 0o700); err != nil {
		t.Fatal(err)
	}
	l = mustOpen(t, small(dir))
	if n := len(l.Buffers()); n != 1 || l.Last(old, weir.Live) != 10 {
		t.Fatalf("%d buffers, Last = %d", n, l.Last(old, weir.Live))
	}
	entries, err := os.ReadDir(filepath.Join(dir, buffersName))
	if err != nil || len(entries) != 0 {
		t.Fatalf("left on disk: %v, %v", entries, err)
	}
}

// TestRetiredIsBounded retires more buffers than are remembered.
func TestRetiredIsBounded(t *testing.T) {
	path := filepath.Join(fastDir(t), retiredName)
	d := noSync()
	d.defaults()
	var r retired
	quiet := Options{Dir: "x"}
	if err := quiet.check(); err != nil {
		t.Fatal(err)
	}
	if err := r.open(&d, path, quiet.Log); err != nil {
		t.Fatal(err)
	}
	id := func(n int) (id weir.BufferID) {
		binary.BigEndian.PutUint32(id[:], uint32(n))
		return id
	}
	const many = 3*retiredKeep + 5
	for n := range many {
		g := goneBuffer{id: id(n), last: [weir.Lanes]uint64{uint64(n)}}
		if err := r.write(g); err != nil {
			t.Fatal(err)
		}
		r.add(g)
	}
	for range 2 {
		if _, ok := r.last(id(many - 1 - retiredKeep)); ok || len(r.known) != retiredKeep || r.highest() != many-1 {
			t.Fatalf("%d known, highest %d", len(r.known), r.highest())
		}
		if last, ok := r.last(id(many - retiredKeep)); !ok || last[0] != many-retiredKeep {
			t.Fatalf("the oldest of the newest: %v, %v", last, ok)
		}
		r = retired{}
		if err := r.open(&d, path, quiet.Log); err != nil {
			t.Fatal(err)
		}
	}
	if st, err := os.Stat(path); err != nil || st.Size() > (2*retiredKeep+2)*(headerSize+goneSize) {
		t.Fatalf("the list has %d bytes, %v", st.Size(), err)
	}
}

func TestStats(t *testing.T) {
	l := mustOpen(t, small(t.TempDir()))
	if s := l.Stats(); s.Records != 0 || !s.OldestTime.IsZero() || s.Buffers != 1 || s.Free <= 0 {
		t.Fatalf("of an empty log: %+v", s)
	}
	id, _ := mustAppend(t, l, weir.Bulk, recs(0, 10))
	mustAppend(t, l, weir.Alarm, recs(50, 5))
	for _, through := range []uint64{0, 4, 4, 9} {
		if err := l.Trim(id, weir.Bulk, through); err != nil {
			t.Fatal(err)
		}
		want := time.UnixMilli(rec(int(through)).Timestamp)
		s := l.Stats()
		if s.Records != 15-through || s.Lanes[weir.Bulk].Records != 10-through || !s.OldestTime.Equal(want) {
			t.Fatalf("trimmed through %d: %+v", through, s)
		}
	}
	if err := l.Trim(id, weir.Bulk, 10); err != nil {
		t.Fatal(err)
	}
	if s := l.Stats(); s.Records != 5 || !s.OldestTime.Equal(time.UnixMilli(rec(50).Timestamp)) || !s.Lanes[weir.Bulk].OldestTime.IsZero() {
		t.Fatalf("with alarms only: %+v", s)
	}
}
