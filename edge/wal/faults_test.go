package wal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weirmq/weir/storage/weir"
	"golang.org/x/sys/unix"
)

// mode is what happens to a step that is due to fail.
type mode string

const (
	failBefore  mode = "fails, not applied"
	failAfter   mode = "fails, applied"
	failLong    mode = "fails, not applied, and the next ones too"
	crashBefore mode = "killed before"
	crashAfter  mode = "killed after"
)

var errInjected = errors.New("injected")

// killed is what a step panics with when the process dies there.
type killed struct{}

// faulty counts the steps of a log and lets one of them go wrong.
type faulty struct {
	count int
	at    int // the step that goes wrong; 0 none
	until int // the last that does, with failLong
	mode  mode
	hit   string // what went wrong
	syncs bool   // syncs are done; else the page cache is enough
}

func (f *faulty) disk() disk {
	return disk{do: f.do}
}

func (f *faulty) do(s step, path string, do func() error) error {
	switch s {
	case stepSync, stepDirSync, stepCellSync, stepListSync:
		if !f.syncs {
			do = func() error { return nil }
		}
	}
	f.count++
	if f.at == 0 || f.count < f.at || f.count > max(f.at, f.until) {
		return do()
	}
	if f.count == f.at {
		f.hit = fmt.Sprintf("%s %s", s, path)
	}
	switch f.mode {
	case crashBefore:
		panic(killed{})
	case crashAfter:
		_ = do()
		panic(killed{})
	case failAfter:
		_ = do()
	}
	return fmt.Errorf("%s: %w", s, errInjected)
}

// ledger is what calls of the log have returned to a script, and so must hold.
type ledger struct {
	n       int
	stored  map[stream]map[uint64]int // record numbers by place
	failed  map[int]bool              // record numbers that were refused
	trimmed map[stream]uint64
	gone    map[weir.BufferID][weir.Lanes]uint64
	leaving map[weir.BufferID]bool // Retire was called
	rows    map[weir.BufferID][]weir.MapRow
	dead    map[stream][]uint64
	rest    map[stream]bool // AddDead returned
}

func newLedger() *ledger {
	return &ledger{
		stored: map[stream]map[uint64]int{}, failed: map[int]bool{}, trimmed: map[stream]uint64{},
		gone: map[weir.BufferID][weir.Lanes]uint64{}, leaving: map[weir.BufferID]bool{},
		rows: map[weir.BufferID][]weir.MapRow{}, dead: map[stream][]uint64{}, rest: map[stream]bool{},
	}
}

// clone copies a script, so that it can continue in several ways.
func (g *ledger) clone() *ledger {
	c := newLedger()
	c.n = g.n
	for s, m := range g.stored {
		c.stored[s] = maps.Clone(m)
	}
	maps.Copy(c.failed, g.failed)
	return c
}

func (g *ledger) append(l *Log, ln weir.Lane, count int) {
	n := g.n
	g.n += count
	batch := recs(n, count)
	for i := range batch {
		g.failed[n+i] = true
	}
	id, first, err := l.Append(ln, batch)
	if err == nil {
		s := stream{id, ln}
		if g.stored[s] == nil {
			g.stored[s] = map[uint64]int{}
		}
		for i := range batch {
			delete(g.failed, n+i)
			g.stored[s][first+uint64(i)] = n + i
		}
	}
}

// again calls f until it succeeds; a lasting fault ends after a while.
func again(t *testing.T, f func() error) {
	var err error
	for range 100 {
		if err = f(); err == nil {
			return
		}
	}
	t.Fatalf("it never works again: %v", err)
}

// script is a life of a log: a buffer of an earlier open is drained and
// retired while a new one is written, trimmed and partly put into the dead letters.
func script(t *testing.T, l *Log, old weir.BufferID, g *ledger) {
	for i := range 12 {
		g.append(l, weir.Lane(i%weir.Lanes), 1+i%4)
	}
	row := weir.MapRow{Buffer: old, Name: "a", Topic: [16]byte{1}, Lane: weir.Live, Row: weir.Row{Partitions: 3, From: 1}}
	again(t, func() error { return l.AddRow(row) })
	g.rows[old] = append(g.rows[old], row)
	for ln := range weir.Lane(weir.Lanes) {
		s := stream{old, ln}
		items, err := l.Read(old, ln, 1)
		if err != nil {
			t.Fatal(err)
		}
		for _, it := range items {
			g.dead[s] = append(g.dead[s], it.Seq)
		}
		again(t, func() error { return l.AddDead(old, ln, items, "refused") })
		g.rest[s] = true
		through := l.Last(old, ln)
		g.trimmed[s] = through // it may count from here on
		again(t, func() error { return l.Trim(old, ln, through) })
	}
	var last [weir.Lanes]uint64
	for ln := range last {
		last[ln] = l.Last(old, weir.Lane(ln))
	}
	g.leaving[old] = true
	again(t, func() error {
		err := l.Retire(old)
		if errors.Is(err, ErrUnknown) {
			return nil
		}
		return err
	})
	g.gone[old] = last
	for i := range 12 {
		g.append(l, weir.Lane(i%weir.Lanes), 1+i%3)
		id := l.Current()
		s := stream{id, weir.Lane(i % weir.Lanes)}
		if last := l.Last(id, s.lane); i%2 == 0 && last > 2 {
			g.trimmed[s] = last - 2
			again(t, func() error { return l.Trim(id, s.lane, last-2) })
		}
	}
}

// check compares a log with what the script was told.
func (g *ledger) check(t *testing.T, l *Log, killed bool) {
	t.Helper()
	if !l.broken.Load() {
		checkBytes(t, l)
	}
	for s, want := range g.stored {
		if g.leaving[s.id] && !slices.ContainsFunc(l.Buffers(), func(i weir.Buffer) bool { return i.ID == s.id }) {
			continue
		}
		got := map[uint64]int{}
		for _, it := range readAll(t, l, s.id, s.lane) {
			if it.Gap != nil {
				if _, ok := want[it.Gap.First]; killed && !it.Gap.Exact && !ok {
					continue // what a batch that was being written left
				}
				t.Fatalf("%v: gap %+v", s, *it.Gap)
			}
			var n int
			if _, err := fmt.Sscanf(string(it.Record.Value), "reading %d", &n); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(it.Record, rec(n)) {
				t.Fatalf("%v: record %d is damaged", s, n)
			}
			got[it.Seq] = n
		}
		for seq, n := range want {
			if _, ok := got[seq]; !ok && seq <= g.trimmed[s] {
				continue
			}
			if got[seq] != n {
				t.Fatalf("%v: at %d lies %d, stored was %d", s, seq, got[seq], n)
			}
			delete(got, seq)
		}
		for seq, n := range got {
			if !killed || !g.failed[n] {
				t.Fatalf("%v: at %d lies %d, which nobody was told is stored", s, seq, n)
			}
		}
	}
	for id, last := range g.gone {
		for ln, want := range last {
			if got := l.Last(id, weir.Lane(ln)); got != want {
				t.Fatalf("Last of retired buffer %v lane %v = %d, want %d", id, ln, got, want)
			}
		}
	}
	for id, want := range g.rows {
		if rows, err := l.Rows(id); err == nil && !reflect.DeepEqual(rows, want) && !g.leaving[id] {
			t.Fatalf("rows %+v, want %+v", rows, want)
		}
	}
	g.checkDead(t, l, killed)
}

// checkDead compares the dead letters with what the script put there.
func (g *ledger) checkDead(t *testing.T, l *Log, killed bool) {
	t.Helper()
	dead := map[stream][]uint64{}
	if err := l.EachDead(func(d Dead) error {
		s := stream{d.Buffer, d.Lane}
		dead[s] = append(dead[s], d.Seq)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for s, want := range g.dead {
		if !slices.Equal(dead[s], want) && !(killed && !g.rest[s] && len(dead[s]) == 0) {
			t.Fatalf("dead letters of %v: %v, want %v", s, dead[s], want)
		}
	}
}

// prepare writes a buffer and closes, or is killed.
func prepare(t *testing.T, dir string, g *ledger, clean bool) weir.BufferID {
	o := small(dir)
	o.SegmentSize, o.disk = 512, noSync()
	l := mustOpen(t, o)
	for i := range 15 {
		g.append(l, weir.Lane(i%weir.Lanes), 3)
	}
	if clean {
		mustClose(t, l)
	} else {
		abandon(l)
	}
	return l.current.id
}

// run plays the script with one fault and checks what is left, in the process
// that lived through it and in the next one.
func run(t *testing.T, f *faulty, clean bool) {
	dir, g := fastDir(t), newLedger()
	old := prepare(t, dir, g, clean)
	f.count = 0
	o := small(dir)
	o.SegmentSize, o.disk = 512, f.disk()
	var l *Log
	dead := func() (dead bool) {
		defer func() {
			if p := recover(); p != nil {
				if _, ok := p.(killed); !ok {
					panic(p)
				}
				dead = true
			}
		}()
		var err error
		if l, err = Open(o); err != nil {
			if f.mode == failLong {
				f.until = 0
			}
			l = mustOpen(t, o)
		}
		script(t, l, old, g)
		return false
	}()
	if l != nil {
		if !dead {
			g.check(t, l, false)
			// A log that could not seal its buffer is one that was killed.
			dead = l.broken.Load()
		}
		abandon(l)
	} else {
		unlock(t, dir)
	}
	o.disk = noSync()
	l = mustOpen(t, o)
	g.check(t, l, dead)
	g.append(l, weir.Live, 3)
	mustClose(t, l)
	g.check(t, mustOpen(t, o), dead)
}

// unlock drops the lock of a log that was killed in Open: a process's locks go
// with it.
func unlock(t *testing.T, dir string) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("SKIPPED LOUDLY: needs /proc to drop a killed log's lock")
	}
	for _, e := range fds {
		var fd int
		fmt.Sscan(e.Name(), &fd)
		if path, _ := os.Readlink("/proc/self/fd/" + e.Name()); strings.HasPrefix(path, dir) {
			_ = unix.Flock(fd, unix.LOCK_UN)
		}
	}
}

// TestFaultMatrix makes every single step of a log fail in every way.
func TestFaultMatrix(t *testing.T) {
	for _, clean := range []bool{true, false} {
		count := &faulty{}
		t.Run(fmt.Sprintf("clean=%v/none", clean), func(t *testing.T) { run(t, count, clean) })
		total := count.count
		t.Logf("%d steps", total)
		stride := 1
		if testing.Short() || raceEnabled {
			stride = 3
		}
		for _, m := range []mode{failBefore, failAfter, failLong, crashBefore, crashAfter} {
			for at := 1; at <= total; at += stride {
				f := &faulty{at: at, until: at, mode: m}
				if m == failLong {
					f.until = at + 40
				}
				ok := t.Run(fmt.Sprintf("clean=%v/%s/%d", clean, m, at), func(t *testing.T) { run(t, f, clean) })
				if !ok {
					t.Fatalf("step %d %s: %s", at, m, f.hit)
				}
			}
		}
	}
}

// TestPoison is a failed write: no ack, a new buffer at once, and nothing of
// the failed batch to be read, then or later.
func TestPoison(t *testing.T) {
	for _, s := range []step{stepWrite, stepSync, stepCell} {
		t.Run(string(s), func(t *testing.T) {
			dir := t.TempDir()
			var fail bool
			o := small(dir)
			o.disk.do = func(got step, _ string, f func() error) error {
				err := f()
				if fail && got == s {
					fail = false
					return errInjected
				}
				return err
			}
			l := mustOpen(t, o)
			old, _ := mustAppend(t, l, weir.Live, recs(0, 5))
			mustAppend(t, l, weir.Bulk, recs(5, 5))
			fail = true
			if _, _, err := l.Append(weir.Live, recs(10, 5)); !errors.Is(err, errInjected) {
				t.Fatalf("Append: %v", err)
			}
			id, seq := l.Position(weir.Live)
			if id == old || seq != 1 || id.Counter() != old.Counter()+1 {
				t.Fatalf("the next record goes to %v %d", id, seq)
			}
			if got, first := mustAppend(t, l, weir.Live, recs(10, 5)); got != id || first != 1 {
				t.Fatalf("appended to %v %d", got, first)
			}
			for range 2 {
				checkItems(t, readAll(t, l, old, weir.Live), recs(0, 5))
				checkItems(t, readAll(t, l, old, weir.Bulk), recs(5, 5))
				checkItems(t, readAll(t, l, id, weir.Live), recs(10, 5))
				if last := l.Last(old, weir.Live); last != 5 {
					t.Fatalf("Last = %d", last)
				}
				abandon(l)
				l = mustOpen(t, small(dir))
			}
		})
	}
}

// TestFileSizeLimit is a real short write, in the middle of tidwall/wal. It
// runs in a process of its own, whose files must not grow.
func TestFileSizeLimit(t *testing.T) {
	if os.Getenv("WAL_TEST_LIMIT") == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestFileSizeLimit$", "-test.v")
		cmd.Env = append(os.Environ(), "WAL_TEST_LIMIT=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	o := small(t.TempDir())
	o.SegmentSize = 1 << 20
	l := mustOpen(t, o)
	old, _ := mustAppend(t, l, weir.Live, recs(0, 50))
	size := l.current.lanes[weir.Live].bytes()
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	limit := before
	limit.Cur = uint64(size) + 1000
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	_, _, err := l.Append(weir.Live, recs(50, 50))
	if e := unix.Setrlimit(unix.RLIMIT_FSIZE, &before); e != nil {
		t.Fatal(e)
	}
	if !errors.Is(err, syscall.EFBIG) {
		t.Fatalf("Append: %v", err)
	}
	if st, err := os.Stat(segmentFiles(t, o.Dir, old, weir.Live)[0]); err != nil || st.Size() <= size {
		t.Fatalf("the write left nothing: %v, %v", st, err)
	}
	checkItems(t, readAll(t, l, old, weir.Live), recs(0, 50))
	id, _ := mustAppend(t, l, weir.Live, recs(50, 50))
	checkItems(t, readAll(t, l, id, weir.Live), recs(50, 50))
	if _, err := l.Read(old, weir.Live, 51); err != io.EOF {
		t.Fatalf("behind the sealed end: %v", err)
	}
	checkBytes(t, l)
}

// checkBytes compares what the log believes its segments take with the files.
func checkBytes(t *testing.T, l *Log) {
	t.Helper()
	var total int64
	for _, info := range l.Buffers() {
		for ln := range weir.Lane(weir.Lanes) {
			for _, path := range segmentFiles(t, l.opts.Dir, info.ID, ln) {
				st, err := os.Stat(path)
				if err != nil {
					t.Fatal(err)
				}
				total += st.Size()
			}
		}
	}
	if s := l.Stats(); s.Bytes != total {
		t.Fatalf("Stats.Bytes = %d, the files have %d", s.Bytes, total)
	}
}

// TestFailuresAreTwoLines: a disk that takes nothing for a while is one line when
// that begins and one when it is over.
func TestFailuresAreTwoLines(t *testing.T) {
	var out bytes.Buffer
	now, broken := time.Unix(0, 0), false
	o := small(t.TempDir())
	o.Now = func() time.Time { return now }
	o.Log = slog.New(slog.NewTextHandler(&out, nil))
	o.disk = disk{do: func(s step, _ string, f func() error) error {
		if broken && s == stepSync {
			return errInjected
		}
		return f()
	}}
	l := mustOpen(t, o)
	mustAppend(t, l, weir.Live, recs(0, 1))
	broken = true
	for range 50 {
		if _, _, err := l.Append(weir.Live, recs(0, 1)); !errors.Is(err, errInjected) {
			t.Fatalf("append on a broken disk: %v", err)
		}
		now = now.Add(time.Second)
	}
	broken = false
	for range 20 {
		mustAppend(t, l, weir.Live, recs(0, 1))
		now = now.Add(time.Second)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], "level=ERROR") || !strings.Contains(lines[1], "level=INFO") ||
		!strings.Contains(lines[1], "failed=50 ") && !strings.HasSuffix(lines[1], "failed=50") {
		t.Errorf("%s", &out)
	}
}
