package wal

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/weirmq/weir/storage/weir"
)

// The absence matrix: every file and folder of a closed or killed log × what can happen
// to it, alone and in pairs. The log must open and take records. Each acknowledged record
// must be delivered or reported, never both and never twice. Undamaged records must be
// delivered.

// harmful is what happens to a file or folder.
type harmful struct {
	name string
	do   func(w *scene, path string) error
}

var toFiles = []harmful{
	{"deleted", func(_ *scene, path string) error { return os.Remove(path) }},
	{"emptied", func(_ *scene, path string) error { return os.Truncate(path, 0) }},
	{"cut", func(w *scene, path string) error {
		st, err := os.Stat(path)
		if err != nil || st.Size() == 0 {
			return err
		}
		return os.Truncate(path, w.rnd.Int64N(st.Size()))
	}},
	{"flipped", func(w *scene, path string) error {
		return w.rewrite(path, func(p []byte) {
			for range 64 { // a bit of what was written, not of what is blank
				if at := w.rnd.IntN(len(p)); p[at] != 0 {
					p[at] ^= 1 << w.rnd.IntN(8)
					return
				}
			}
		})
	}},
	{"spoiled", func(w *scene, path string) error {
		return w.rewrite(path, func(p []byte) {
			for i := 0; i < len(p); i += 16 {
				p[i] ^= 0x55
			}
		})
	}},
	{"older", func(w *scene, path string) error { return w.older(path, w.f.old) }},
	{"much older", func(w *scene, path string) error { return w.older(path, w.f.oldest) }},
}

var toFolders = []harmful{
	{"deleted", func(_ *scene, path string) error { return os.RemoveAll(path) }},
	{"emptied", func(w *scene, path string) error { return w.thin(path, 0) }},
	{"cut", func(w *scene, path string) error { return w.thin(path, 2) }},
	{"older", func(w *scene, path string) error { return w.older(path, w.f.old) }},
	{"much older", func(w *scene, path string) error { return w.older(path, w.f.oldest) }},
}

// cell is one damage: what happens to what.
type damageCell struct {
	path string // below the log
	how  harmful
}

func (c damageCell) String() string { return c.path + " " + c.how.name }

// fixture is a log at rest.
type fixture struct {
	dir         string
	old, oldest string // copies that were taken before
	boot        uint32 // the machine's start in which it is opened
	records     *ledger
	cloud       *miniCloud
	drawn       map[weir.BufferID]bool
	newest      weir.BufferID
	cells       []damageCell
	needed      map[int]bool // exceptions
}

// ending is how the last process ended.
type ending string

const (
	closed   ending = "closed"
	slain    ending = "killed"
	powerCut ending = "power cut"
)

// newFixture writes a log with a buffer that is retired, one whose process was
// killed and that has a damaged frame, one that was closed, and the newest.
func newFixture(t *testing.T, how ending) *fixture {
	f := &fixture{dir: filepath.Join(fastDir(t), "log"), boot: 1, records: newLedger(),
		cloud: newMiniCloud(), drawn: map[weir.BufferID]bool{}, needed: map[int]bool{}}
	open := func() *Log {
		o := small(f.dir)
		o.SegmentSize, o.disk = 1500, noSync()
		o.disk.boot = 1
		l := mustOpen(t, o)
		f.drawn[l.Current()] = true
		return l
	}
	fill := func(l *Log, rounds int, lanes ...weir.Lane) {
		for i := range rounds {
			for _, ln := range lanes {
				f.records.append(l, ln, 1+i%3)
			}
		}
	}
	l := open()
	fill(l, 4, weir.Live)
	mustClose(t, l)
	l = open()
	f.cloud.drain(t, l, false)
	fill(l, 12, weir.Live, weir.Bulk)
	second := l.Current()
	row := weir.MapRow{Buffer: second, Name: "sensors", Topic: [16]byte{1}, Lane: weir.Live, Row: weir.Row{Partitions: 3, From: 1}}
	if err := l.AddRow(row); err != nil {
		t.Fatal(err)
	}
	f.cloud.deliver(t, l, second, weir.Live, 8)
	path := segmentFiles(t, f.dir, second, weir.Live)[1]
	if err := flipAt(path, 60); err != nil {
		t.Fatal(err)
	}
	readAll(t, l, second, weir.Live) // notes the gap
	abandon(l)
	l = open()
	fill(l, 5, weir.Alarm)
	f.oldest = f.copyTo(t)
	fill(l, 8, weir.Alarm, weir.Live)
	items, err := l.Read(l.Current(), weir.Alarm, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.AddDead(l.Current(), weir.Alarm, items, "refused"); err != nil {
		t.Fatal(err)
	}
	mustClose(t, l)
	l = open()
	f.newest = l.Current()
	fill(l, 8, weir.Live, weir.Alarm)
	f.old = f.copyTo(t)
	fill(l, 2, weir.Bulk, weir.Live, weir.Alarm)
	synced := f.copyTo(t)
	fill(l, 6, weir.Live, weir.Alarm, weir.Bulk)
	f.cloud.deliver(t, l, f.newest, weir.Alarm, 3)
	switch how {
	case closed:
		mustClose(t, l)
	case slain:
		abandon(l)
	case powerCut: // what was not synced is as it was when the segments were begun
		abandon(l)
		f.boot = 2
		f.unsynced(t, synced)
	}
	f.list(t)
	return f
}

// unsynced restores the files that are written without a sync to their content some
// appends ago.
func (f *fixture) unsynced(t *testing.T, synced string) {
	for _, path := range []string{latestName, filepath.Join(buffersName, bufferName(f.newest), weir.Live.String(), marksName)} {
		if err := copyFile(filepath.Join(f.dir, path), filepath.Join(synced, path)); err != nil {
			t.Fatal(err)
		}
	}
}

func flipAt(path string, at int) error {
	p, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	p[at] ^= 4
	return os.WriteFile(path, p, 0o640)
}

func (f *fixture) copyTo(t *testing.T) string {
	dir := filepath.Join(fastDir(t), "log")
	if err := os.CopyFS(dir, os.DirFS(f.dir)); err != nil {
		t.Fatal(err)
	}
	return dir
}

func copyFile(to, from string) error {
	p, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, p, 0o640)
}

// list finds every cell.
func (f *fixture) list(t *testing.T) {
	segments := map[string]int{} // of a lane, so far
	err := filepath.WalkDir(f.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(f.dir, path)
		if n := segments[filepath.Dir(rel)]; strings.HasSuffix(f.role(rel), "/segment") {
			segments[filepath.Dir(rel)]++
			if names, err := filepath.Glob(filepath.Dir(path) + "/0*"); err != nil || n > 1 && n < len(names)-1 {
				return err // the first two and the last stand for all
			}
		}
		all := toFiles
		if d.IsDir() {
			all = toFolders
		}
		for _, how := range all {
			if strings.HasSuffix(how.name, "older") {
				from := f.old
				if how.name == "much older" {
					from = f.oldest
				}
				if _, err := os.Stat(filepath.Join(from, rel)); err != nil {
					continue // there was none: as good as deleted
				}
			}
			f.cells = append(f.cells, damageCell{rel, how})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// role returns a path without the parts that differ from log to log.
func (f *fixture) role(rel string) string {
	parts := strings.Split(rel, string(filepath.Separator))
	if len(parts) > 1 && parts[0] == buffersName {
		if parts[1] == bufferName(f.newest) {
			parts[1] = "newest"
		} else {
			parts[1] = "earlier"
		}
	}
	if last := len(parts) - 1; len(parts) == 4 && strings.Trim(parts[last], "0123456789") == "" {
		parts[last] = "segment"
	}
	return strings.Join(parts, "/")
}

// scene is one run of a cell or a pair.
type scene struct {
	f     *fixture
	dir   string
	rnd   *rand.Rand
	cloud *miniCloud

	intact map[stream]map[uint64]bool // what the damage left
	dead   map[position]bool          // dead letters that it left
}

func (w *scene) rewrite(path string, change func([]byte)) error {
	p, err := os.ReadFile(path)
	if err != nil || len(p) == 0 {
		return err
	}
	change(p)
	return os.WriteFile(path, p, 0o640)
}

// older restores path from an earlier copy.
func (w *scene) older(path, from string) error {
	rel, err := filepath.Rel(w.dir, path)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	old := filepath.Join(from, rel)
	st, err := os.Stat(old)
	if err != nil {
		return err
	}
	if st.IsDir() {
		return os.CopyFS(path, os.DirFS(old))
	}
	return copyFile(path, old)
}

// thin removes the last entries of a folder, by name: all of them, or all but the first
// 1/part.
func (w *scene) thin(path string, part int) error {
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	keep := 0
	if part > 0 {
		keep = len(entries) / part
	}
	for _, e := range entries[keep:] {
		if err := os.RemoveAll(filepath.Join(path, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// play damages a copy of the fixture, opens it, drains it and audits the books.
func (f *fixture) play(t testing.TB, seed uint64, cells ...damageCell) (problems []string) {
	base := fastDir(t)
	defer os.RemoveAll(base)
	w := &scene{f: f, dir: filepath.Join(base, "log"), rnd: rand.New(rand.NewPCG(seed, 9)), cloud: f.cloud.clone()}
	if err := os.CopyFS(w.dir, os.DirFS(f.dir)); err != nil {
		t.Fatal(err)
	}
	for _, c := range cells {
		path := filepath.Join(w.dir, c.path)
		if _, err := os.Lstat(path); err != nil {
			continue // the one before took it along
		}
		if err := c.how.do(w, path); err != nil {
			t.Fatalf("%v: %v", c, err)
		}
	}
	w.intact, w.dead = intactIn(t, w.dir), deadIn(t, w.dir)
	var l *Log
	for range 1 + w.rnd.IntN(2) { // a start that does nothing changes nothing
		o := small(w.dir)
		o.SegmentSize, o.disk = 1500, noSync()
		o.disk.boot = f.boot
		var err error
		if l, err = Open(o); err != nil {
			return []string{fmt.Sprintf("does not boot: %v", err)}
		}
		defer l.Close()
		if f.drawn[l.Current()] {
			problems = append(problems, fmt.Sprintf("buffer id %v is drawn twice", l.Current()))
		}
		abandon(l)
	}
	books := f.records.clone()
	for ln := range weir.Lane(weir.Lanes) {
		n := len(books.failed)
		if books.append(l, ln, 2); len(books.failed) > n {
			problems = append(problems, fmt.Sprintf("lane %v takes no records", ln))
		}
	}
	w.cloud.drain(t, l, true)
	if n := len(l.Buffers()); n != 1 {
		problems = append(problems, fmt.Sprintf("%d buffers are left after all is delivered", n))
	}
	left := len(w.dead)
	err := l.EachDead(func(d Dead) error {
		if w.dead[position{d.Buffer, d.Seq}] {
			left--
		}
		return nil
	})
	if left > 0 || err != nil {
		problems = append(problems, fmt.Sprintf("%d intact dead letters are gone: %v", left, err))
	}
	return append(problems, w.audit(books)...)
}

// audit compares what was acknowledged with what was delivered and reported.
func (w *scene) audit(books *ledger) (problems []string) {
	c := w.cloud
	problems = append(problems, c.problems...)
	intact := w.intact
	var lost, needless []string
	for s, recs := range books.stored {
		for seq, n := range recs {
			got, delivered := c.delivered[s][seq]
			switch {
			case delivered && got != n:
				problems = append(problems, fmt.Sprintf("%v: at %d lies %d, stored was %d", s, seq, got, n))
			case delivered && c.exact[s][seq]:
				problems = append(problems, fmt.Sprintf("%v: %d is delivered and reported", s, seq))
			case !delivered && !c.told(s, seq):
				lost = append(lost, fmt.Sprint(bufferName(s.id)[:8], "/", s.lane, "/", seq))
			}
			if !delivered && intact[s][seq] {
				needless = append(needless, fmt.Sprint(bufferName(s.id)[:8], "/", s.lane, "/", seq))
			}
		}
	}
	if len(lost) > 0 {
		slices.Sort(lost)
		problems = append(problems, fmt.Sprintf("LOST %d: %s", len(lost), lost))
	}
	if len(needless) > 0 {
		slices.Sort(needless)
		problems = append(problems, fmt.Sprintf("%d intact records are not delivered: %v", len(needless), needless))
	}
	return problems
}

// deadIn returns the intact dead letters below a directory.
func deadIn(t testing.TB, dir string) map[position]bool {
	found := map[position]bool{}
	paths, _ := filepath.Glob(filepath.Join(dir, deadName, "*"+letterSuffix))
	for _, path := range paths {
		p, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		eachFrame(p, saltOf(weir.BufferID{}, partDead), func(h header, body []byte) error {
			all, err := parseDead(body, h.count)
			for _, d := range all {
				found[position{d.Buffer, d.Seq}] = true
			}
			return err
		})
	}
	return found
}

// intactIn returns the intact records in the segments below a directory.
func intactIn(t testing.TB, dir string) map[stream]map[uint64]bool {
	found := map[stream]map[uint64]bool{}
	entries, _ := os.ReadDir(filepath.Join(dir, buffersName))
	for _, e := range entries {
		id, ok := parseBufferName(e.Name())
		for ln := range weir.Lane(weir.Lanes) {
			if !ok {
				break
			}
			s := stream{id, ln}
			found[s] = map[uint64]bool{}
			for _, path := range segmentFiles(t, dir, id, ln) {
				p, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				for off := int64(0); ; {
					h, at, ok, _ := findHeader(windowOn(p), saltOf(id, byte(ln)), off)
					if !ok {
						break
					}
					off = h.end(at)
					if _, ok, _ = readBody(windowOn(p), h, at); !ok {
						continue
					}
					for seq := h.first; seq <= h.last(); seq++ {
						found[s][seq] = true
					}
				}
			}
		}
	}
	return found
}

// exception is a cell, or a pair of cells, after which the disk looks like that of an
// undamaged log.
type exception struct {
	reason string
	when   []ending // nil: always
	cells  []pattern
}

// pattern matches roles, and what happened to them; no name: whatever happened.
type pattern struct {
	role string
	how  []string
}

const (
	nobody  = "no file is left that knows; the cloud has what reached it"
	oneTime = "the two that know how far a lane came are from one moment: that is what a log looks like to which nothing was appended since"
	unsync  = "after a power cut nothing that was synced says how far the newest segment came"
)

var exceptions = []exception{
	{nobody, nil, []pattern{{".", nil}}},
	{oneTime, []ending{slain}, []pattern{{"latest", []string{"older"}}, {"buffers", []string{"older"}}}},
	{oneTime, []ending{slain}, []pattern{{"latest", []string{"older"}}, {"buffers/newest", []string{"older"}}}},
	{oneTime, []ending{slain}, []pattern{{"latest", []string{"older"}}, {"buffers/newest/*", []string{"older"}}}},
	{unsync, []ending{powerCut}, []pattern{{"buffers/newest/*/segment", []string{"deleted", "emptied", "cut", "older"}}}},
	{unsync, []ending{powerCut}, []pattern{{"buffers", []string{"older"}}}},
	{unsync, []ending{powerCut}, []pattern{{"buffers/newest", []string{"older"}}}},
	{unsync, []ending{powerCut}, []pattern{{"buffers/newest/*", []string{"older"}}}},
}

func (x *exception) matches(f *fixture, how ending, cells []damageCell) bool {
	if x.when != nil && !slices.Contains(x.when, how) {
		return false
	}
	return matches(f, x.cells, cells)
}

// matches reports whether each pattern has a cell of its own.
func matches(f *fixture, patterns []pattern, cells []damageCell) bool {
	if len(patterns) == 0 {
		return true
	}
	for i, c := range cells {
		p := patterns[0]
		if ok, _ := filepath.Match(p.role, f.role(c.path)); ok && (p.how == nil || slices.Contains(p.how, c.how.name)) &&
			matches(f, patterns[1:], slices.Delete(slices.Clone(cells), i, i+1)) {
			return true
		}
	}
	return false
}

// drawnPairs is how many pairs are tried at random; a soak tries all.
const drawnPairs = 300

func TestAbsence(t *testing.T) {
	soak := os.Getenv("WEIR_SOAK") == "1"
	for _, how := range []ending{closed, slain, powerCut} {
		t.Run(string(how), func(t *testing.T) {
			rnd, _ := newRand(t)
			f := newFixture(t, how)
			t.Logf("%d cells", len(f.cells))
			if problems := f.play(t, rnd.Uint64()); len(problems) > 0 {
				t.Fatalf("nothing is damaged: %s", problems)
			}
			for _, c := range f.cells {
				f.check(t, how, rnd.Uint64(), c)
			}
			if !soak {
				for range drawnPairs / 3 {
					f.check(t, how, rnd.Uint64(), f.cells[rnd.IntN(len(f.cells))], f.cells[rnd.IntN(len(f.cells))])
				}
				return
			}
			for i, a := range f.cells {
				for _, b := range f.cells[i+1:] {
					f.check(t, how, rnd.Uint64(), a, b)
				}
			}
			for i, x := range exceptions {
				if !f.needed[i] && (x.when == nil || slices.Contains(x.when, how)) {
					t.Errorf("nothing needs the exception for %+v", x.cells)
				}
			}
		})
	}
}

func (f *fixture) check(t *testing.T, how ending, seed uint64, cells ...damageCell) {
	problems := f.play(t, seed, cells...)
	if len(problems) == 0 {
		return
	}
	for i := range exceptions {
		if exceptions[i].matches(f, how, cells) && strings.HasPrefix(problems[0], "LOST") {
			f.needed[i] = true
			return
		}
	}
	var names []string
	for _, c := range cells {
		names = append(names, fmt.Sprintf("%s (%s)", f.role(c.path), c.how.name))
	}
	t.Errorf("%s: %s", strings.Join(names, " and "), strings.Join(problems, "\n\t"))
}

// TestLogGone: the loss of the whole log is reported, once.
func TestLogGone(t *testing.T) {
	for name, used := range map[string]bool{"new": false, "gone": true} {
		t.Run(name, func(t *testing.T) {
			o := small(filepath.Join(t.TempDir(), "log"))
			for start := range 3 {
				o.Used = used || start > 0
				l := mustOpen(t, o)
				mustAppend(t, l, weir.Live, recs(start, 1))
				c := newMiniCloud()
				c.drain(t, l, false)
				gaps := 0
				for s, ranges := range c.perhaps {
					if len(ranges) != 1 || ranges[0] != (seqRange{1, never}) || s.id.Counter() != 1 {
						t.Errorf("gaps of %v: %v", s, ranges)
					}
					gaps++
				}
				if want := map[bool]int{true: weir.Lanes}[used && start == 0]; gaps != want {
					t.Errorf("start %d: %d gaps, want %d", start, gaps, want)
				}
				if want := uint32(start + 1 + map[bool]int{true: 1}[used]); l.Current().Counter() != want {
					t.Errorf("counter %d, want %d", l.Current().Counter(), want)
				}
				mustClose(t, l)
			}
		})
	}
}
