package wal

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	tidwall "github.com/tidwall/wal"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/weir"
)

// small is a log with small segments and no claim on the disk's free space.
func small(dir string) Options {
	return Options{Dir: dir, SegmentSize: 4 << 10, Reserve: -1}
}

func mustOpen(t testing.TB, o Options) *Log {
	t.Helper()
	l, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func mustClose(t testing.TB, l *Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// rec is a record that tells its number.
func rec(n int) Record {
	return Record{Topic: "sensors", Record: record.Record{
		Timestamp: 1_700_000_000_000 + int64(n),
		Key:       []byte("sensors/a/telemetry"),
		Value:     fmt.Appendf(nil, "reading %d %s", n, strings.Repeat("x", n%100)),
		Headers:   []record.Header{{Key: "n", Value: fmt.Append(nil, n)}},
	}}
}

func recs(from, n int) []Record {
	rs := make([]Record, n)
	for i := range rs {
		rs[i] = rec(from + i)
	}
	return rs
}

func mustAppend(t testing.TB, l *Log, ln weir.Lane, rs []Record) (weir.BufferID, uint64) {
	t.Helper()
	id, first, err := l.Append(ln, rs)
	if err != nil {
		t.Fatal(err)
	}
	return id, first
}

// readAll reads a lane from the first sequence that is not trimmed to its end.
func readAll(t testing.TB, l *Log, id weir.BufferID, ln weir.Lane) []Item {
	t.Helper()
	var all []Item
	for from := uint64(1); ; {
		items, err := l.Read(id, ln, from)
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(items) == 0 {
			t.Fatalf("Read at %d: no items and no error", from)
		}
		all = append(all, items...)
		from = items[len(items)-1].Seq + 1
	}
}

// lane returns a lane's bounds as Buffers shows them.
func bounds(t testing.TB, l *Log, id weir.BufferID, ln weir.Lane) weir.Bounds {
	t.Helper()
	for _, info := range l.Buffers() {
		if info.ID == id {
			return info.Lanes[ln]
		}
	}
	t.Fatalf("no buffer %v", id)
	return weir.Bounds{}
}

// segmentFiles returns the paths of a lane's segments.
func segmentFiles(t testing.TB, dir string, id weir.BufferID, ln weir.Lane) []string {
	t.Helper()
	lane := filepath.Join(dir, buffersName, bufferName(id), ln.String())
	segs, err := listSegments(lane)
	if err != nil {
		t.Fatal(err)
	}
	paths := make([]string, len(segs))
	for i, s := range segs {
		paths[i] = filepath.Join(lane, s.name)
	}
	return paths
}

func TestAppendAndRead(t *testing.T) {
	l := mustOpen(t, small(t.TempDir()))
	id := l.Current()
	want := map[weir.Lane][]Record{}
	for i := range 300 {
		ln := weir.Lane(i % weir.Lanes)
		batch := recs(i*10, 1+i%7)
		next := l.Next(ln)
		gotID, first := mustAppend(t, l, ln, batch)
		if gotID != id || first != next || first != uint64(len(want[ln])+1) {
			t.Fatalf("append %d: buffer %v at %d, want %v at %d", i, gotID, first, id, next)
		}
		want[ln] = append(want[ln], batch...)
	}
	for ln, want := range want {
		items := readAll(t, l, id, ln)
		checkItems(t, items, want)
		if last := l.Last(id, ln); last != uint64(len(want)) {
			t.Errorf("Last(%v) = %d, want %d", ln, last, len(want))
		}
	}
	select {
	case <-l.Notify():
	default:
		t.Error("Notify said nothing")
	}
}

func checkItems(t *testing.T, items []Item, want []Record) {
	t.Helper()
	if len(items) != len(want) {
		t.Fatalf("%d items, want %d", len(items), len(want))
	}
	for i, it := range items {
		if it.Gap != nil || it.Seq != uint64(i+1) || !reflect.DeepEqual(it.Record, want[i]) {
			t.Fatalf("item %d is %+v, want %+v", i, it, want[i])
		}
	}
}

func TestReadAnywhere(t *testing.T) {
	l := mustOpen(t, small(t.TempDir()))
	var id weir.BufferID
	for i := 0; i < 500; i += 5 {
		id, _ = mustAppend(t, l, weir.Live, recs(i, 5))
	}
	for _, from := range []uint64{500, 1, 250, 251, 250, 248, 499, 3, 400, 0} {
		items, err := l.Read(id, weir.Live, from)
		if err != nil {
			t.Fatalf("Read at %d: %v", from, err)
		}
		seq := max(from, 1)
		if items[0].Seq != seq || !reflect.DeepEqual(items[0].Record, rec(int(seq-1))) {
			t.Fatalf("Read at %d begins with %d: %+v", from, items[0].Seq, items[0].Record)
		}
		if last := items[len(items)-1].Seq; last != (seq+4)/5*5 {
			t.Fatalf("Read at %d ends with %d", from, last)
		}
	}
	if _, err := l.Read(id, weir.Live, 501); err != io.EOF {
		t.Fatalf("Read behind the end: %v, want io.EOF", err)
	}
	if _, err := l.Read(weir.BufferID{1}, weir.Live, 1); !errors.Is(err, ErrUnknown) {
		t.Fatalf("Read of an unknown buffer: %v", err)
	}
	if _, err := l.Read(id, 7, 1); !errors.Is(err, ErrLane) {
		t.Fatalf("Read of an unknown lane: %v", err)
	}
}

func TestRestart(t *testing.T) {
	for _, clean := range []bool{true, false} {
		t.Run(fmt.Sprint("clean=", clean), func(t *testing.T) {
			dir := t.TempDir()
			want := map[weir.BufferID][]Record{}
			var order []weir.BufferID
			for round := range 4 {
				l := mustOpen(t, small(dir))
				batch := recs(round*100, 60)
				for i := range batch {
					id, first := mustAppend(t, l, weir.Bulk, batch[i:i+1])
					if first != uint64(i+1) {
						t.Fatalf("first = %d, want %d", first, i+1)
					}
					if i == 0 {
						order = append(order, id)
					}
				}
				want[l.Current()] = batch
				if !clean {
					abandon(l)
				} else {
					mustClose(t, l)
				}
			}
			l := mustOpen(t, small(dir))
			infos := l.Buffers()
			if len(infos) != 5 || !infos[4].Current {
				t.Fatalf("buffers: %+v", infos)
			}
			for i, id := range order {
				if infos[i].ID != id || infos[i].Lanes[weir.Bulk] != (weir.Bounds{First: 1, Last: 60}) || infos[i].Lanes[weir.Live] != (weir.Bounds{First: 1, Last: 0}) {
					t.Fatalf("buffer %d: %+v, want %v", i, infos[i], id)
				}
				checkItems(t, readAll(t, l, id, weir.Bulk), want[id])
			}
		})
	}
}

// abandon is what kill -9 does to a log: its locks go, and nothing is written.
func abandon(l *Log) {
	l.lock.Close()
}

func TestEmptyBuffersAreRemoved(t *testing.T) {
	dir := t.TempDir()
	var last weir.BufferID
	for range 5 {
		l := mustOpen(t, small(dir))
		if c := l.Current(); c.Counter() != last.Counter()+1 {
			t.Fatalf("counter %d after %d", c.Counter(), last.Counter())
		}
		last = l.Current()
		if err := l.AddRow(weir.MapRow{Buffer: last, Name: "a", Row: weir.Row{Partitions: 1, From: 1}}); err != nil {
			t.Fatal(err)
		}
		mustClose(t, l)
	}
	l := mustOpen(t, small(dir))
	if n := len(l.Buffers()); n != 1 {
		t.Fatalf("%d buffers, want the current one only", n)
	}
	entries, err := os.ReadDir(filepath.Join(dir, buffersName))
	if err != nil || len(entries) != 0 {
		t.Fatalf("left on disk: %v, %v", entries, err)
	}
}

func TestCounterOutlivesEmptyBuffers(t *testing.T) {
	dir := t.TempDir()
	for n := uint32(1); n < 5; n++ {
		l := mustOpen(t, small(dir))
		if got := l.Current().Counter(); got != n {
			t.Fatalf("counter %d, want %d", got, n)
		}
		abandon(l)
	}
}

func TestCounterOutlivesItsFile(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, small(dir))
	mustAppend(t, l, weir.Live, recs(0, 1))
	old := l.Current()
	mustClose(t, l)
	if err := os.WriteFile(filepath.Join(dir, counterName), make([]byte, cellSize), 0o600); err != nil {
		t.Fatal(err)
	}
	l = mustOpen(t, small(dir))
	if n := l.Current().Counter(); n != old.Counter()+1 {
		t.Fatalf("counter %d, want %d", n, old.Counter()+1)
	}
}

func TestLocked(t *testing.T) {
	dir := t.TempDir()
	mustOpen(t, small(dir))
	_, err := Open(small(dir))
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), fmt.Sprint("pid ", os.Getpid())) {
		t.Fatalf("second Open: %v", err)
	}
}

func TestUnwritable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{file, filepath.Join(file, "below"), "/proc/nowhere"} {
		l, err := Open(small(dir))
		if err == nil {
			l.Close()
			t.Errorf("Open(%s) worked", dir)
		}
	}
}

func TestClosed(t *testing.T) {
	l := mustOpen(t, small(t.TempDir()))
	id, _ := mustAppend(t, l, weir.Live, recs(0, 1))
	mustClose(t, l)
	mustClose(t, l)
	if _, _, err := l.Append(weir.Live, recs(0, 1)); !errors.Is(err, ErrClosed) {
		t.Errorf("Append: %v", err)
	}
	if _, err := l.Read(id, weir.Live, 1); !errors.Is(err, ErrClosed) {
		t.Errorf("Read: %v", err)
	}
	if err := l.Trim(id, weir.Live, 1); !errors.Is(err, ErrClosed) {
		t.Errorf("Trim: %v", err)
	}
	l.Stats()
}

func TestAppendAt(t *testing.T) {
	l := mustOpen(t, small(t.TempDir()))
	id, seq := l.Position(weir.Live)
	if err := l.AppendAt(id, weir.Live, seq, recs(0, 3)); err != nil {
		t.Fatal(err)
	}
	for _, p := range []position{{id, 1}, {id, 5}, {weir.BufferID{9}, 4}} {
		if err := l.AppendAt(p.id, weir.Live, p.seq, recs(0, 1)); !errors.Is(err, ErrMoved) {
			t.Errorf("AppendAt %+v: %v", p, err)
		}
	}
	if err := l.AppendAt(id, weir.Live, 4, recs(0, 1)); err != nil {
		t.Fatal(err)
	}
	if _, next, err := l.Append(weir.Live, nil); next != 5 || err != nil {
		t.Errorf("empty Append: %d, %v", next, err)
	}
}

func TestTooLarge(t *testing.T) {
	l := mustOpen(t, small(t.TempDir()))
	big := Record{Topic: "t", Record: record.Record{Value: make([]byte, maxBody)}}
	if _, _, err := l.Append(weir.Live, []Record{big}); !errors.Is(err, ErrTooLarge) {
		t.Fatalf("Append: %v", err)
	}
	big.Value = make([]byte, maxBody-Size(&Record{Topic: "t"}))
	id, _ := mustAppend(t, l, weir.Live, []Record{big})
	mustAppend(t, l, weir.Live, recs(1, 1))
	items := readAll(t, l, id, weir.Live)
	if len(items) != 2 || len(items[0].Record.Value) != len(big.Value) {
		t.Fatalf("%d items", len(items))
	}
	if n := cap(l.readers[weir.Live].window.buf); n > windowKeep {
		t.Errorf("the reader keeps %d bytes", n)
	}
}

// TestTidwall holds what is written against tidwall/wal itself.
func TestTidwall(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, small(dir))
	var id weir.BufferID
	for i := range 300 {
		id, _ = mustAppend(t, l, weir.Live, recs(i, 1))
	}
	mustClose(t, l)
	lane := filepath.Join(dir, buffersName, bufferName(id), weir.Live.String())
	log, err := tidwall.Open(lane, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	if last, err := log.LastIndex(); last != 300 || err != nil {
		t.Fatalf("LastIndex = %d, %v", last, err)
	}
	for i := uint64(1); i <= 300; i++ {
		p, err := log.Read(i)
		if err != nil {
			t.Fatal(err)
		}
		h, ok := parseHeader(p, saltOf(id, byte(weir.Live)))
		if !ok || h.first != i || !h.checkBody(p[headerSize:]) {
			t.Fatalf("entry %d: %+v, %v", i, h, ok)
		}
	}
}

// TestReopenTidwall goes over the number of segments after which the log is
// opened anew.
func TestReopenTidwall(t *testing.T) {
	o := small(t.TempDir())
	o.SegmentSize = 64
	l := mustOpen(t, o)
	id := l.Current()
	for i := range reopenAfter*2 + 10 {
		if got, _ := mustAppend(t, l, weir.Live, recs(i, 1)); got != id {
			t.Fatal("the buffer changed")
		}
		if i%3 == 0 {
			if err := l.Trim(id, weir.Live, uint64(i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	items := readAll(t, l, id, weir.Live)
	if last := items[len(items)-1]; last.Seq != reopenAfter*2+10 || last.Gap != nil {
		t.Fatalf("last is %+v", last)
	}
}

func TestRows(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, small(dir))
	id, _ := mustAppend(t, l, weir.Live, recs(0, 1))
	rows := []weir.MapRow{
		{Buffer: id, Name: "a", Topic: [16]byte{1}, Lane: weir.Live, Row: weir.Row{Partitions: 3, From: 1}},
		{Buffer: id, Name: "b", Topic: [16]byte{2}, Lane: weir.Bulk, Row: weir.Row{Partitions: 1, From: 7}},
		{Buffer: id, Name: "a", Topic: [16]byte{1}, Lane: weir.Live, Row: weir.Row{Partitions: 5, From: 70}},
	}
	for _, r := range append(rows, rows[1]) {
		if err := l.AddRow(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.AddRow(weir.MapRow{Buffer: id, Name: "a", Row: weir.Row{From: 1}}); err == nil {
		t.Error("a row without partitions was taken")
	}
	abandon(l)
	l = mustOpen(t, small(dir))
	got, err := l.Rows(id)
	if err != nil || !reflect.DeepEqual(got, rows) {
		t.Fatalf("rows %+v, %v, want %+v", got, err, rows)
	}
	if none, err := l.Rows(l.Current()); len(none) != 0 || err != nil {
		t.Fatalf("rows of the new buffer: %v, %v", none, err)
	}
}
