package wal

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"syscall"
	"testing"

	"github.com/weirmq/weir/storage/weir"
)

// power is a disk that remembers what was synced. A power cut keeps that, and a random part
// of everything else, content and names alike.
type power struct {
	root  string
	files map[uint64][]byte            // synced content by inode
	dirs  map[uint64]map[string]uint64 // synced names by the directory's inode
	next  func(step, string, func() error) error
}

func newPower(root string) *power {
	return &power{root: root, files: map[uint64][]byte{}, dirs: map[uint64]map[string]uint64{inode(root): {}}}
}

func inode(path string) uint64 {
	st, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return st.Sys().(*syscall.Stat_t).Ino
}

func (p *power) disk(next func(step, string, func() error) error) disk {
	p.next = next
	return disk{do: p.do, boot: 1}
}

func (p *power) do(s step, path string, f func() error) error {
	return p.next(s, path, func() error {
		err := f()
		if err != nil {
			return err
		}
		switch s {
		case stepSync, stepCellSync, stepListSync, stepTemp:
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			p.files[inode(path)] = data
		case stepDirSync:
			p.dirs[inode(path)] = names(path)
		}
		return nil
	})
}

func names(path string) map[string]uint64 {
	m := map[string]uint64{}
	entries, _ := os.ReadDir(path)
	for _, e := range entries {
		m[e.Name()] = inode(filepath.Join(path, e.Name()))
	}
	return m
}

// cut builds what is on the disk when the power is back, and returns where.
func (p *power) cut(t *testing.T, rnd *rand.Rand) string {
	live := map[uint64]string{} // what the page cache has
	err := filepath.WalkDir(p.root, func(path string, _ os.DirEntry, err error) error {
		live[inode(path)] = path
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	after := fastDir(t)
	p.copyDir(t, rnd, live, inode(p.root), after)
	return after
}

func (p *power) copyDir(t *testing.T, rnd *rand.Rand, live map[uint64]string, dir uint64, to string) {
	entries := maps.Clone(p.dirs[dir])
	if entries == nil {
		entries = map[string]uint64{}
	}
	for name, ino := range names(live[dir]) {
		if rnd.IntN(2) == 0 {
			entries[name] = ino
		}
	}
	for name, ino := range p.dirs[dir] {
		if _, there := live[ino]; !there && rnd.IntN(2) == 0 {
			delete(entries, name) // removed, and the name is not synced yet
		}
	}
	for name, ino := range entries {
		path := filepath.Join(to, name)
		st, err := os.Stat(live[ino])
		if p.dirs[ino] != nil || err == nil && st.IsDir() {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
			p.copyDir(t, rnd, live, ino, path)
			continue
		}
		data := p.files[ino]
		if now, err := os.ReadFile(live[ino]); err == nil {
			data = torn(rnd, data, now)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// torn returns a file after a power cut: its synced content is safe. Later writes may be there
// or not, may lie behind the end, or may be zeros.
func torn(rnd *rand.Rand, synced, now []byte) []byte {
	switch n := len(now) - len(synced); {
	case rnd.IntN(3) == 0:
		return now
	case n <= 0 || rnd.IntN(3) == 0:
		return synced
	case rnd.IntN(2) == 0:
		return now[:len(synced)+rnd.IntN(n+1)]
	default:
		return append(synced[:len(synced):len(synced)], make([]byte, n)...)
	}
}

// TestPowerCut plays the script of the fault matrix on such a disk, cuts the
// power at a random step, and opens what is left: nothing that was said to be
// durable is missing.
func TestPowerCut(t *testing.T) {
	rnd, _ := newRand(t)
	rounds := 400
	if testing.Short() || raceEnabled {
		rounds = 120
	}
	for i := range rounds {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			dir, g := fastDir(t), newLedger()
			p := newPower(dir)
			o := small(dir)
			o.SegmentSize = 512
			o.disk = p.disk(func(_ step, _ string, f func() error) error { return f() })
			l := mustOpen(t, o)
			for i := range 15 {
				g.append(l, weir.Lane(i%weir.Lanes), 3)
			}
			old := l.Current()
			if rnd.IntN(2) == 0 {
				mustClose(t, l)
			} else {
				abandon(l)
			}
			f := &faulty{at: 1 + rnd.IntN(190), mode: []mode{crashBefore, crashAfter}[rnd.IntN(2)], syncs: true}
			o.disk = p.disk(f.do)
			l = nil
			func() {
				defer func() {
					if r := recover(); r != nil && r != (killed{}) {
						panic(r)
					}
				}()
				var err error
				if l, err = Open(o); err != nil {
					t.Fatal(err)
				}
				script(t, l, old, g)
			}()
			p.next = func(_ step, _ string, f func() error) error { return f() }
			o = small(p.cut(t, rnd))
			o.disk = noSync()
			o.disk.boot = 2
			l = mustOpen(t, o)
			g.check(t, l, true)
			if t.Failed() {
				t.Log(f.hit)
			}
		})
	}
}

// TestLyingDisk is a card that acknowledges syncs and does not do them. Records
// are lost, which cannot be avoided. But the log opens, what it still has is what was
// stored, and no place is used twice.
func TestLyingDisk(t *testing.T) {
	rnd, _ := newRand(t)
	for i := range 60 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			dir, g := fastDir(t), newLedger()
			p := newPower(dir)
			o := small(dir)
			o.SegmentSize = 512
			o.disk = p.disk(func(_ step, _ string, f func() error) error { return f() })
			l := mustOpen(t, o)
			honest := rnd.IntN(100)
			p.next = func(s step, path string, f func() error) error {
				if honest--; honest < 0 && (s == stepSync || s == stepCellSync || s == stepDirSync || s == stepListSync) {
					return nil
				}
				return f()
			}
			for i := range 40 {
				g.append(l, weir.Lane(i%weir.Lanes), 1+rnd.IntN(4))
			}
			after := p.cut(t, rnd)
			p.next = func(_ step, _ string, f func() error) error { return f() }
			o = small(after)
			o.disk = noSync()
			o.disk.boot = 2
			again := mustOpen(t, o)
			if again.Current() == l.Current() {
				t.Fatal("a buffer id was drawn twice")
			}
			for _, info := range again.Buffers() {
				for ln := range weir.Lane(weir.Lanes) {
					for _, it := range readAll(t, again, info.ID, ln) {
						n, stored := g.stored[stream{info.ID, ln}][it.Seq]
						if it.Gap == nil && (!stored || !reflect.DeepEqual(it.Record, rec(n))) {
							t.Fatalf("%v lane %v: at %d lies %+v", info.ID, ln, it.Seq, it.Record)
						}
					}
				}
			}
			mustAppend(t, again, weir.Live, recs(0, 1))
		})
	}
}
