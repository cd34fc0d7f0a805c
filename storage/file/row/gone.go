package row

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/crc"
	"github.com/weirmq/weir/storage/file/disk"
)

// extent is a part of a pack: the records whose ids are in [from, to) are gone.
type extent struct{ from, to int64 }

// extents are sorted and do not touch.
type extents []extent

func (s extents) has(id int64) bool {
	i, _ := slices.BinarySearchFunc(s, id, func(a extent, id int64) int {
		if a.to <= id {
			return -1
		}
		return 1
	})
	return i < len(s) && s[i].from <= id
}

// with returns s with n added.
func (s extents) with(n extent) extents {
	i, _ := slices.BinarySearchFunc(s, n.from, func(a extent, from int64) int {
		if a.to < from {
			return -1
		}
		return 1
	})
	j := i
	for ; j < len(s) && s[j].from <= n.to; j++ {
		n.from, n.to = min(n.from, s[j].from), max(n.to, s[j].to)
	}
	return slices.Replace(slices.Clone(s), i, j, n)
}

// appendGone encodes an extent of the pack with the given identity.
func appendGone(p []byte, identity [16]byte, s extent) []byte {
	start := len(p)
	p = binary.BigEndian.AppendUint32(p, goneMagic)
	p = binary.BigEndian.AppendUint32(p, 0)
	p = binary.BigEndian.AppendUint64(p, uint64(s.from))
	p = binary.BigEndian.AppendUint64(p, uint64(s.to))
	binary.BigEndian.PutUint32(p[start+4:], goneSum(p[start:], identity))
	return p
}

func goneSum(p []byte, identity [16]byte) uint32 {
	return crc.Update(crc.Sum(identity[:]), p[8:goneSize])
}

// decodeGone reads extents and skips bytes that are not an extent: a process that died
// while it appended may have left half an extent in front of others. It returns how
// many bytes need not be read again.
func decodeGone(p []byte, identity [16]byte) (found []extent, used int) {
	for at := 0; len(p)-at >= goneSize; {
		q := p[at:]
		s := extent{int64(binary.BigEndian.Uint64(q[8:])), int64(binary.BigEndian.Uint64(q[16:]))}
		if binary.BigEndian.Uint32(q) != goneMagic || binary.BigEndian.Uint32(q[4:]) != goneSum(q, identity) || s.from >= s.to {
			at++
			continue
		}
		found = append(found, s)
		at += goneSize
		used = at
	}
	return found, used
}

// followGone reads what was added to the file gone-N of a pack. The caller holds mu.
func (r *row) followGone(p *pack) error {
	name := r.gonePath(p.number)
	var info unix.Stat_t
	if err := unix.Stat(name, &info); err != nil {
		if errors.Is(err, unix.ENOENT) {
			return nil // or it was removed with the pack, which shows when the pack is opened
		}
		return &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	if info.Size <= p.goneRead {
		return nil
	}
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	tail, err := readUpTo(f, p.goneRead, info.Size-p.goneRead)
	if err != nil {
		return err
	}
	found, used := decodeGone(tail, p.identity)
	for _, s := range found {
		p.gone = p.gone.with(s)
		p.deleted = true
	}
	p.goneRead += int64(used)
	return nil
}

// syncGone makes durable what is known to be deleted from a pack: another process may
// have written it without a sync. The caller holds mu.
func (r *row) syncGone(p *pack) error {
	if p.goneSynced >= p.goneRead {
		return nil
	}
	f, err := os.OpenFile(r.gonePath(p.number), os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if err := r.syncGoneFile(f, p); err != nil {
		return err
	}
	p.goneSynced = p.goneRead
	return nil
}

func (r *row) syncGoneFile(f *os.File, p *pack) error {
	if err := r.disk.Data(f); err != nil {
		return r.disk.Broke(fmt.Errorf("sync %s: %w", f.Name(), err))
	}
	if p.goneNamed {
		return nil
	}
	if err := r.syncNames(); err != nil {
		return err
	}
	p.goneNamed = true
	return nil
}

func (r *row) syncNames() error {
	dir, err := os.Open(r.path(""))
	if err != nil {
		return err
	}
	defer dir.Close()
	return r.disk.SyncDir(dir)
}

// deleteFromRow is Delete for numbers of a row. It returns those that are in no pack.
func (rs *Rows) deleteFromRow(ctx context.Context, folder string, numbers []uint64) (rest []uint64, err error) {
	r, err := rs.row(folder)
	if r == nil || err != nil {
		return numbers, err
	}
	if err := r.waitFor(ctx, numbers...); err != nil {
		return nil, err
	}
	if rest, err = r.delete(numbers); err != nil {
		return nil, err
	}
	return rest, r.punchHoles()
}

// delete deletes the records of some numbers, durably. It returns those that are in no
// pack.
func (r *row) delete(numbers []uint64) (rest []uint64, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.refresh(); err != nil {
		return nil, err
	}
	ids := make(map[*pack][]int64)
	for _, number := range numbers {
		at, found, err := r.find(number)
		switch {
		case err != nil:
			return nil, err
		case found:
			ids[at.pack] = append(ids[at.pack], at.id)
		case at.pack != nil:
			// A number that was deleted from its pack can have a file as well.
			ids[at.pack] = append(ids[at.pack], nil...)
			rest = append(rest, number)
		case r.damage != nil:
			return nil, r.damage
		default:
			rest = append(rest, number)
		}
	}
	for _, p := range slices.Clone(r.packs) {
		of, ok := ids[p]
		if !ok || !slices.Contains(r.packs, p) {
			continue // sweep has removed it
		}
		if err := r.markGone(p, of); err != nil {
			return nil, err
		}
		if err := r.sweep(p); err != nil {
			return nil, err
		}
	}
	return rest, nil
}

// markGone writes, durably, that records are deleted from a pack. If nothing is left in
// the pack, sweep removes it instead, which works on a full disk too; in version 1 that
// holds only for the lowest pack.
func (r *row) markGone(p *pack, ids []int64) error {
	slices.Sort(ids)
	var news []extent
	all := p.gone
	for _, id := range ids {
		i, _ := slices.BinarySearchFunc(p.records, id, func(rec record, id int64) int { return int(rec.id - id) })
		if n := len(news); n > 0 && i > 0 && news[n-1].to == p.records[i-1].id+entrySize {
			news[n-1].to = id + entrySize
		} else {
			news = append(news, extent{id, id + entrySize})
		}
	}
	for _, s := range news {
		all = all.with(s)
	}
	if r.finished(p) && p.allGone(all) && (p == r.packs[0] || r.version > 1) {
		p.gone = all
		return nil
	}
	if len(news) == 0 {
		return r.syncGone(p)
	}
	if err := r.writeGone(p, news); err != nil {
		return err
	}
	p.gone, p.deleted = all, true
	return nil
}

func (r *row) writeGone(p *pack, news []extent) error {
	f, err := os.OpenFile(r.gonePath(p.number), os.O_WRONLY|os.O_APPEND|os.O_CREATE, disk.FilePerm)
	if err != nil {
		return err
	}
	defer f.Close()
	var body []byte
	for _, s := range news {
		body = appendGone(body, p.identity, s)
	}
	if _, err := f.Write(body); err != nil {
		return err // a part of it may be written, as the contract allows
	}
	if err := r.syncGoneFile(f, p); err != nil {
		return fmt.Errorf("%w: %w", storage.ErrUnknown, err)
	}
	return nil
}

// finished reports whether a pack takes no more records: the next one was begun, or
// the row has its end. The caller holds mu.
func (r *row) finished(p *pack) bool {
	return r.end != nil && r.endSynced || p.number < r.last
}

// allGone reports whether no record of a pack is left.
func (p *pack) allGone(gone extents) bool {
	if p.damaged || p.indexed < len(p.records) {
		return false
	}
	for _, rec := range p.records {
		if !gone.has(rec.id) {
			return false
		}
	}
	return true
}

// sweep removes the packs that have no records left, from the lowest on. In version 2
// it also removes the pack of, even if earlier ones remain. Readers tell by the marks
// which packs are not missing, so the marks are made durable first. The file gone-N of
// a pack is removed only when the removal of the pack is durable: otherwise a power cut
// could bring the records back. The caller holds mu.
func (r *row) sweep(of *pack) error {
	empty, err := r.emptyPacks()
	if err != nil {
		return err
	}
	if empty > 0 {
		lowest := slices.Clone(r.packs[:empty])
		last := lowest[empty-1].number
		if err := r.removePacks(markRemoved, lowest, 0, last); err != nil {
			return err
		}
	}
	if r.version > 1 && slices.Contains(r.packs, of) && r.finished(of) && of.allGone(of.gone) {
		if err := r.removePacks(aloneKind(of.before), []*pack{of}, of.number, of.number); err != nil {
			return err
		}
	} else if empty == 0 {
		return nil
	}
	if r.end == nil || len(r.packs) > 0 {
		return nil
	}
	return r.removeFiles(packStem, r.end.pack+1, math.MaxUint64)
}

// removePacks marks the last of some packs as removed, removes all of them, durably,
// and then removes the files gone-N of the packs from…to.
func (r *row) removePacks(kind uint64, packs []*pack, from, to uint64) error {
	if err := r.mark(kind, packs[len(packs)-1].number); err != nil {
		return err
	}
	var spare []*blank
	for _, p := range packs {
		s, err := r.removePack(p)
		if err != nil {
			return fmt.Errorf("%w: %w", storage.ErrUnknown, err)
		}
		if s != nil {
			spare = append(spare, s)
		}
		r.forget(p)
	}
	err := r.removeFiles(packStem, from, to) // those that a crash has left behind
	if err == nil {
		err = r.syncNames()
	}
	if err != nil {
		for _, s := range spare {
			s.drop()
		}
		return fmt.Errorf("%w: %w", storage.ErrUnknown, err)
	}
	for _, s := range spare {
		r.rows.keepSpare(s)
	}
	return r.removeFiles(goneStem, from, to)
}

// emptyPacks returns how many packs, from the lowest on, have nothing left.
func (r *row) emptyPacks() (n int, err error) {
	for ; n < len(r.packs); n++ {
		p := r.packs[n]
		if err := r.followGone(p); err != nil {
			return 0, err
		}
		if !r.finished(p) || !p.allGone(p.gone) {
			break
		}
	}
	return n, nil
}

// removeFiles removes the files whose names begin with stem and whose numbers are in
// from…to: those of removed packs, what a crash or a late Delete left, and packs behind
// the end.
func (r *row) removeFiles(stem string, from, to uint64) error {
	numbers, err := r.numbers(stem)
	if err != nil {
		return err
	}
	for _, n := range numbers {
		if n < from || n > to {
			continue
		}
		if err := os.Remove(r.file(stem + formatNumber(n))); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// removePack removes a pack's name. The appender keeps the file for a later pack.
func (r *row) removePack(p *pack) (*blank, error) {
	name := r.packPath(p.number)
	if r.end == nil && r.writer != nil && !r.writer.isClosed() && !p.punched && r.rows.wantsSpare(p.size) {
		s, err := r.rows.recycle(name, p.size)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			return s, nil
		}
	}
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return nil, nil
}
