package wal

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/weirmq/weir/storage/weir"
)

// reported is a gap without its cause.
type reported struct {
	first, last uint64
	exact       bool
}

// loss is what happens to the files of a lane that holds four batches of three
// records, and whose process was killed.
type loss struct {
	hurt func(l missingLane, t *testing.T)
	boot uint32 // of the next start; that of the first is 1
	want []reported
	told string // the cause of the first gap
}

var losses = map[string]loss{
	"nothing":                            {func(missingLane, *testing.T) {}, 1, nil, ""},
	"nothing, power cut":                 {func(missingLane, *testing.T) {}, 2, nil, ""},
	"an unacknowledged batch, torn":      {missingLane.tear, 1, nil, ""},
	"an unacknowledged batch, power cut": {missingLane.tear, 2, []reported{{13, 13, false}}, ""},
	"last frame":                         {missingLane.hurtLast, 1, []reported{{10, 12, true}}, ""},
	"last frame and newest marks": {func(l missingLane, t *testing.T) {
		l.hurtLast(t)
		l.hurtMarks(t, true)
	}, 1, []reported{{10, 12, true}}, ""}, // latest and the header of the frame agree
	"last frame and newest marks, power cut": {func(l missingLane, t *testing.T) {
		l.hurtLast(t)
		l.hurtMarks(t, true)
		remove(t, filepath.Join(l.dir, latestName))
	}, 2, []reported{{10, 12, false}}, ""}, // the header of the frame says 12
	"last frame, marks not written before the power cut": {func(l missingLane, t *testing.T) {
		l.hurtLast(t)
		l.stale(t, l.marks(), filepath.Join(l.dir, latestName))
	}, 2, []reported{{10, 12, false}}, ""},
	"last frame cut off and newest marks, latest not written before the power cut": {func(l missingLane, t *testing.T) {
		l.hurtMarks(t, true)
		l.stale(t, filepath.Join(l.dir, latestName))
		p, err := os.ReadFile(l.segment())
		if err != nil {
			t.Fatal(err)
		}
		frames := framesIn(t, p, saltOf(l.log.current.id, byte(weir.Live)))
		if err := os.Truncate(l.segment(), frames[2].end); err != nil {
			t.Fatal(err)
		}
	}, 2, []reported{{10, 10, false}}, ""},
	"newest marks":          {func(l missingLane, t *testing.T) { l.hurtMarks(t, true) }, 1, nil, ""},
	"older marks":           {func(l missingLane, t *testing.T) { l.hurtMarks(t, false) }, 1, nil, ""},
	"marks":                 {func(l missingLane, t *testing.T) { remove(t, l.marks()) }, 1, nil, ""},
	"latest":                {func(l missingLane, t *testing.T) { remove(t, filepath.Join(l.dir, latestName)) }, 1, []reported{{13, 13, false}}, ""},
	"segments":              {missingLane.removeSegments, 1, []reported{{1, 12, true}}, ""},
	"segments and marks":    {missingLane.removeAll, 1, []reported{{1, 12, true}, {13, 13, false}}, "all files of the lane are gone"},
	"folder of the lane":    {func(l missingLane, t *testing.T) { remove(t, l.lane) }, 1, []reported{{1, 12, true}, {13, 13, false}}, "the folder of the lane is gone"},
	"folder of the buffer":  {func(l missingLane, t *testing.T) { remove(t, filepath.Dir(l.lane)) }, 1, []reported{{1, 12, true}, {13, 13, false}}, "the folder of the lane is gone"},
	"folder of all buffers": {func(l missingLane, t *testing.T) { remove(t, filepath.Join(l.dir, buffersName)) }, 1, []reported{{1, 12, true}, {13, 13, false}}, "the folder of the lane is gone"},
	"folder of the buffer, and latest": {func(l missingLane, t *testing.T) {
		remove(t, filepath.Dir(l.lane))
		remove(t, filepath.Join(l.dir, latestName))
	}, 1, []reported{{1, 1, false}}, "the folder of the lane is gone"},
	"folder of the buffer, and the counter": {func(l missingLane, t *testing.T) {
		remove(t, filepath.Dir(l.lane))
		remove(t, filepath.Join(l.dir, counterName))
	}, 1, []reported{{1, 12, true}, {13, 13, false}}, "the folder of the lane is gone"},
}

// TestMissing: each loss is reported, exactly if that is possible.
func TestMissing(t *testing.T) {
	for name, c := range losses {
		t.Run(name, func(t *testing.T) {
			o := small(t.TempDir())
			o.disk.boot = 1
			log := mustOpen(t, o)
			lane := missingLane{dir: o.Dir, log: log, lane: log.current.lanes[weir.Live].dir}
			for i := range 4 {
				if i == 3 {
					lane.keep(t)
				}
				mustAppend(t, log, weir.Live, recs(3*i, 3))
			}
			id := log.Current()
			abandon(log)
			c.hurt(lane, t)
			o.disk.boot = c.boot
			for start := range 2 {
				log = mustOpen(t, o)
				var got []reported
				records := uint64(0)
				for _, it := range readAll(t, log, id, weir.Live) {
					if it.Gap == nil {
						records++
						continue
					}
					got = append(got, reported{it.Gap.First, it.Gap.Last, it.Gap.Exact})
					if len(got) == 1 && c.told != "" && it.Gap.Reason != c.told {
						t.Errorf("cause %q, want %q", it.Gap.Reason, c.told)
					}
				}
				missing := uint64(0)
				for _, g := range got {
					if g.first <= 12 {
						missing += min(g.last, 12) + 1 - g.first
					}
				}
				if known := len(got) == 0 || got[len(got)-1].last >= 12; !slices.Equal(got, c.want) || known && records+missing != 12 {
					t.Fatalf("start %d: %d records and gaps %v, want %v", start, records, got, c.want)
				}
				abandon(log)
			}
		})
	}
}

// TestMissingLater: a buffer that cannot be read at one start is not forgotten: at
// a later one it may be gone.
func TestMissingLater(t *testing.T) {
	for _, how := range []string{"ended", "newest", "ended, and comes back", "newest, and comes back"} {
		t.Run(how, func(t *testing.T) {
			o := small(t.TempDir())
			l := mustOpen(t, o)
			id, _ := mustAppend(t, l, weir.Live, recs(0, 2))
			latest := filepath.Join(o.Dir, latestName)
			if err := copyFile(latest+".kept", latest); err != nil {
				t.Fatal(err)
			}
			mustAppend(t, l, weir.Live, recs(2, 3))
			if strings.HasPrefix(how, "ended") {
				mustClose(t, l)
			} else {
				abandon(l)
			}
			back := strings.HasSuffix(how, "back")
			if back { // a power cut: what is not synced is older than the frames
				if err := copyFile(latest, latest+".kept"); err != nil {
					t.Fatal(err)
				}
			}
			dir := filepath.Join(o.Dir, buffersName, bufferName(id))
			saved := filepath.Join(t.TempDir(), "saved")
			if err := os.CopyFS(saved, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			remove(t, dir)
			if err := os.WriteFile(dir, []byte("no folder"), 0o600); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				l = mustOpen(t, o)
				if s := l.Stats(); s.Unreadable != 1 {
					t.Fatalf("%d buffers cannot be read", s.Unreadable)
				}
				mustAppend(t, l, weir.Live, recs(0, 1))
				abandon(l)
			}
			if back {
				if err := os.Remove(dir); err != nil {
					t.Fatal(err)
				}
				if err := os.CopyFS(dir, os.DirFS(saved)); err != nil {
					t.Fatal(err)
				}
				l = mustOpen(t, o)
				checkItems(t, readAll(t, l, id, weir.Live)[:5], recs(0, 5))
				return
			}
			remove(t, dir)
			l = mustOpen(t, o)
			items := readAll(t, l, id, weir.Live)
			if len(items) == 0 || items[0].Gap == nil || items[0].Gap.First != 1 || items[len(items)-1].Seq < 5 {
				t.Fatalf("items %+v", items)
			}
		})
	}
}

// TestMissingOnAFullDisk: the folder of a lane that is gone cannot be made again.
// What is lost is reported all the same, and nothing waits for it.
func TestMissingOnAFullDisk(t *testing.T) {
	o := small(t.TempDir())
	l := mustOpen(t, o)
	id, _ := mustAppend(t, l, weir.Live, recs(0, 5))
	mustAppend(t, l, weir.Alarm, recs(0, 5))
	mustClose(t, l)
	lane := filepath.Join(o.Dir, buffersName, bufferName(id), weir.Live.String())
	remove(t, lane)
	o.disk = disk{do: func(s step, path string, f func() error) error {
		if s == stepMkdir && path == lane || s == stepList || s == stepTemp {
			return errInjected
		}
		return f()
	}}
	l = mustOpen(t, o)
	items := readAll(t, l, id, weir.Live)
	if len(items) != 1 || items[0].Gap == nil || items[0].Seq != 5 {
		t.Fatalf("items %+v", items)
	}
	if err := l.Trim(id, weir.Live, 5); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(lane); err == nil {
		t.Fatal("the folder is there")
	}
}

// missingLane is a lane of a log whose process was killed.
type missingLane struct {
	dir, lane string
	log       *Log
}

func (l missingLane) marks() string { return filepath.Join(l.lane, marksName) }

// keep puts copies beside the log, for stale.
func (l missingLane) keep(t *testing.T) {
	for _, path := range []string{l.marks(), filepath.Join(l.dir, latestName)} {
		if err := copyFile(filepath.Join(l.dir, filepath.Base(path)+".kept"), path); err != nil {
			t.Fatal(err)
		}
	}
}

// stale puts files back that were there before the last batch.
func (l missingLane) stale(t *testing.T, paths ...string) {
	for _, path := range paths {
		if err := copyFile(path, filepath.Join(l.dir, filepath.Base(path)+".kept")); err != nil {
			t.Fatal(err)
		}
	}
}

func (l missingLane) segment() string { return filepath.Join(l.lane, segmentName(1)) }

// tear appends half of a batch.
func (l missingLane) tear(t *testing.T) {
	frame := bytes.Clone(l.log.writers[weir.Live].frame(13, recs(12, 3)))
	f, err := os.OpenFile(l.segment(), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(frame[:headerSize-3]); err != nil {
		t.Fatal(err)
	}
}

// hurtLast damages the body of the last frame.
func (l missingLane) hurtLast(t *testing.T) {
	p, err := os.ReadFile(l.segment())
	if err != nil {
		t.Fatal(err)
	}
	if err := flipAt(l.segment(), len(p)-5); err != nil {
		t.Fatal(err)
	}
}

// hurtMarks damages the slot that was written last, or the one before.
func (l missingLane) hurtMarks(t *testing.T, newest bool) {
	gen := l.log.current.lanes[weir.Live].marks.cell.gen
	if !newest {
		gen--
	}
	if err := flipAt(l.marks(), int(gen%2)*slotStride+20); err != nil {
		t.Fatal(err)
	}
}

func (l missingLane) removeSegments(t *testing.T) { remove(t, l.segment()) }

func (l missingLane) removeAll(t *testing.T) {
	l.removeSegments(t)
	remove(t, l.marks())
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}
