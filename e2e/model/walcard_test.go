package model

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/weirmq/weir/edge/wal"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/sender"
)

// walCard is the real edge/wal on a directory. A kill leaves the directory as a
// copy of it was at that moment; what the dying process still does goes into
// the old one.
type walCard struct {
	root string
	no   int // of directories so far
	dir  string
	save string // the image; "" for none
	log  *wal.Log
	proc *walProcess
	rng  *rand.Rand
	segs int
	wait [weir.Lanes][]wal.Record // put and not synced
}

var _ disk = (*walCard)(nil)

func newWalCard(root string, seed uint64) *walCard {
	rng := rand.New(rand.NewPCG(seed, 4))
	d := &walCard{root: root, rng: rng, segs: 128 << rng.IntN(6)}
	d.dir = d.fresh()
	return d
}

func (d *walCard) fresh() string {
	d.no++
	return filepath.Join(d.root, fmt.Sprint(d.no))
}

func (d *walCard) boot() (sender.Buffers, error) {
	log, err := wal.Open(wal.Options{Dir: d.dir, Reserve: -1, SegmentSize: d.segs})
	if err != nil {
		return nil, err
	}
	d.log, d.proc = log, &walProcess{log: log}
	return d.proc, nil
}

func (d *walCard) put(lane weir.Lane, topic string, recs []record.Record, synced bool) ([]place, error) {
	id, seq := d.log.Position(lane)
	seq += uint64(len(d.wait[lane]))
	var out []place
	for i, r := range recs {
		d.wait[lane] = append(d.wait[lane], wal.Record{Topic: topic, Record: r})
		out = append(out, place{id, lane, seq + uint64(i)})
	}
	if synced {
		if _, err := d.flush(int(lane)); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// flush appends what waits in a lane.
func (d *walCard) flush(lane int) ([]place, error) {
	recs := d.wait[lane]
	if len(recs) == 0 {
		return nil, nil
	}
	d.wait[lane] = nil
	id, first, err := d.log.Append(weir.Lane(lane), recs)
	var out []place
	for i := range recs {
		out = append(out, place{id, weir.Lane(lane), first + uint64(i)})
	}
	return out, err
}

func (d *walCard) sync() (out []place, err error) {
	for lane := range d.wait {
		places, err := d.flush(lane)
		if err != nil {
			return nil, err
		}
		out = append(out, places...)
	}
	return out, nil
}

// kill copies the directory between two calls of the process. What was not
// synced is lost, or there, or torn: as far as some byte of what an append
// writes.
func (d *walCard) kill(a uint32) error {
	d.proc.mu.Lock()
	d.proc.dead = true
	defer d.proc.mu.Unlock()
	if a%3 == 1 {
		if _, err := d.sync(); err != nil {
			return err
		}
	}
	old := d.dir
	d.dir = d.fresh()
	if err := copyDir(d.dir, old); err != nil {
		return err
	}
	if a%3 == 2 {
		if _, err := d.sync(); err != nil {
			return err
		}
		if err := d.tear(old); err != nil {
			return err
		}
	}
	d.wait = [weir.Lanes][]wal.Record{}
	if err := d.log.Close(); err != nil {
		return err
	}
	return os.RemoveAll(old)
}

// tear appends to each file of the copy a part of what the original has more.
func (d *walCard) tear(old string) error {
	return d.segments(d.dir, func(path string) error {
		mine, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(d.dir, path)
		theirs, err := os.ReadFile(filepath.Join(old, rel))
		if err != nil || len(theirs) <= len(mine) || !bytes.HasPrefix(theirs, mine) {
			return err
		}
		part := len(mine) + d.rng.IntN(len(theirs)-len(mine))
		return os.WriteFile(path, theirs[:part], 0o640)
	})
}

// segments calls fn for each segment below dir.
func (d *walCard) segments(dir string, fn func(path string) error) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || len(e.Name()) != 20 {
			return err
		}
		return fn(path)
	})
}

func copyDir(to, from string) error {
	return filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if e.IsDir() {
			return os.Mkdir(filepath.Join(to, rel), 0o750)
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), raw, 0o640)
	})
}

func (d *walCard) image() error {
	if d.proc != nil {
		d.proc.mu.Lock()
		defer d.proc.mu.Unlock()
	}
	if d.save != "" {
		if err := os.RemoveAll(d.save); err != nil {
			return err
		}
	}
	d.save = d.fresh()
	return copyDir(d.save, d.dir)
}

func (d *walCard) restore() (bool, error) {
	if d.save == "" {
		return false, nil
	}
	if err := os.RemoveAll(d.dir); err != nil {
		return false, err
	}
	d.dir = d.fresh()
	return true, copyDir(d.dir, d.save)
}

// damage spoils some bytes of a file, or its end, or takes a file or a folder
// away. If it lies in a lane of a buffer, everything there may be gone; else nothing
// is. Left alone are the dead letters, which are the only copy, and what is above
// the buffers. Whatever is gone, the gateway must say so.
func (d *walCard) damage(a, b uint32) (gone func(place) bool, err error) {
	var all []string
	folders := a/512%4 == 3
	err = filepath.WalkDir(d.dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() == folders && e.Name() != "lock" && filepath.Ext(path) != ".dead" &&
			e.Name() != "dead" && path != d.dir {
			all = append(all, path)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	none := func(place) bool { return false }
	if len(all) == 0 {
		return none, nil
	}
	path := all[int(a)%len(all)]
	if folders {
		rel, _ := filepath.Rel(d.dir, path)
		parts := strings.Split(rel, string(filepath.Separator)) // buffers, the buffer, the lane
		return func(p place) bool {
			return (len(parts) < 2 || parts[1] == hex.EncodeToString(p.buffer[:4])+"-"+hex.EncodeToString(p.buffer[4:])) &&
				(len(parts) < 3 || parts[2] == p.lane.String())
		}, os.RemoveAll(path)
	}
	raw, err := os.ReadFile(path)
	if err != nil || len(raw) == 0 {
		return none, err
	}
	at := int(b) % len(raw)
	write := func() error { return os.WriteFile(path, raw, 0o640) }
	switch a / 512 % 4 {
	case 0:
		raw = raw[:at]
	case 1:
		clear(raw[at:])
	default:
		if raw[at] ^= byte(1 << (a % 8)); b%3 == 0 {
			write = func() error { return os.Remove(path) }
		}
	}
	lane := filepath.Dir(path)
	id, err := hex.DecodeString(strings.ReplaceAll(filepath.Base(filepath.Dir(lane)), "-", ""))
	if err != nil || len(id) != len(weir.BufferID{}) {
		return none, write()
	}
	gone = func(p place) bool { return bytes.Equal(p.buffer[:], id) && p.lane.String() == filepath.Base(lane) }
	return gone, write()
}

func (d *walCard) reports() bool { return true }

func (d *walCard) age() (id weir.BufferID, ok bool) { return id, false }

func (d *walCard) left(skip map[weir.BufferID]bool) (items, buffers int) {
	for _, info := range d.log.Buffers() {
		if skip[info.ID] {
			continue
		}
		buffers++
		for _, l := range info.Lanes {
			items += int(l.Last + 1 - l.First)
		}
	}
	return items, buffers
}

func (d *walCard) dead(p place) (found bool) {
	d.log.EachDead(func(dead wal.Dead) error {
		found = found || p == place{dead.Buffer, dead.Lane, dead.Seq}
		return nil
	})
	return found
}

func (d *walCard) close() error { return cmp.Or(d.log.Close(), os.RemoveAll(d.root)) }

// walProcess is the log as the sender sees it: what package edge puts between
// them. After its death it answers no call.
type walProcess struct {
	log  *wal.Log
	mu   sync.RWMutex // a kill waits for calls that are under way
	dead bool         // guarded by mu
}

var _ sender.Buffers = (*walProcess)(nil)

// enter begins a call; leave ends it.
func (u *walProcess) enter() error {
	u.mu.RLock()
	if u.dead {
		u.mu.RUnlock()
		return errDead
	}
	return nil
}

func (u *walProcess) leave() { u.mu.RUnlock() }

func (u *walProcess) List() ([]weir.Buffer, error) {
	if err := u.enter(); err != nil {
		return nil, err
	}
	defer u.leave()
	return u.log.Buffers(), nil
}

func (u *walProcess) Read(id weir.BufferID, lane weir.Lane, from uint64) ([]sender.Item, error) {
	if err := u.enter(); err != nil {
		return nil, err
	}
	defer u.leave()
	items, err := u.log.Read(id, lane, from)
	if err != nil {
		return nil, err
	}
	var out []sender.Item
	for _, item := range items {
		out = append(out, sender.Item{Seq: item.Seq, Topic: item.Record.Topic, Record: item.Record.Record, Gap: item.Gap})
	}
	return out, nil
}

func (u *walProcess) Trim(id weir.BufferID, lane weir.Lane, through uint64) error {
	if err := u.enter(); err != nil {
		return err
	}
	defer u.leave()
	return u.log.Trim(id, lane, through)
}

func (u *walProcess) Retire(id weir.BufferID) error {
	if err := u.enter(); err != nil {
		return err
	}
	defer u.leave()
	err := u.log.Retire(id)
	if errors.Is(err, wal.ErrUnacked) {
		for lane := range weir.Lane(weir.Lanes) {
			if err := u.log.Trim(id, lane, u.log.Last(id, lane)); err != nil {
				return err
			}
		}
		err = u.log.Retire(id)
	}
	if errors.Is(err, wal.ErrUnknown) || errors.Is(err, fs.ErrNotExist) {
		return nil // gone already
	}
	return err
}

func (u *walProcess) Notify() <-chan struct{} { return u.log.Notify() }

func (u *walProcess) Rows(id weir.BufferID) ([]weir.MapRow, error) {
	if err := u.enter(); err != nil {
		return nil, err
	}
	defer u.leave()
	return u.log.Rows(id)
}

func (u *walProcess) AddRow(row weir.MapRow) error {
	if err := u.enter(); err != nil {
		return err
	}
	defer u.leave()
	return u.log.AddRow(row)
}

func (u *walProcess) AddDead(id weir.BufferID, lane weir.Lane, items []sender.Item, reason string) error {
	if err := u.enter(); err != nil {
		return err
	}
	defer u.leave()
	var dead []wal.Item
	for _, item := range items {
		dead = append(dead, wal.Item{Seq: item.Seq, Record: wal.Record{Topic: item.Topic, Record: item.Record}, Gap: item.Gap})
	}
	return u.log.AddDead(id, lane, slices.Clip(dead), reason)
}
