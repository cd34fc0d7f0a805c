package row

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"

	"golang.org/x/sys/unix"

	"github.com/weirmq/weir/storage/file/disk"
)

// A record may be kept for long while its neighbours are deleted. Its pack stays, and
// the disk space of the others is given back: holes are punched into the file where
// whole pages belong to bodies of deleted records. The heads of groups stay, so a scan
// finds what it found before.
//
// The marks in gone-N are durable before a hole is punched. A crash between the two
// leaves the space in use; the next handle that deletes in the row, or that fills a row
// of its own, punches the holes. To punch one twice changes nothing.

// extentSize is room for what a file system writes about a part of a file between two
// holes, where it counts that as space that the file takes.
const extentSize = 16

// hole is a part of a pack's file that is given back.
type hole struct{ from, to int64 }

// packHoles are the holes that are to be punched into a pack.
type packHoles struct {
	pack  *pack
	holes []hole
}

// punchHoles gives back the space of records that were deleted from packs that stay.
func (r *row) punchHoles() error {
	r.mu.Lock()
	packs, err := r.needHoles()
	r.mu.Unlock()
	for _, p := range packs {
		if err == nil {
			err = r.punch(p)
		}
	}
	if err != nil {
		return fmt.Errorf("give back the space of deleted records: %w", err)
	}
	return nil
}

// needHoles returns the packs that are to get holes, and what is deleted from them is durable.
// The caller holds mu.
//
// A file may be used again as another pack, and must not get holes then. In an open
// row the appender does that, so no other handle punches holes there. An appender that
// does not know yet that the row is closed is kept from it by a lock on the file: see
// punch and Rows.recycle.
func (r *row) needHoles() ([]packHoles, error) {
	open := r.writer != nil && !r.writer.isClosed()
	if r.version < 2 || r.rows.noHoles.Load() || !open && (r.end == nil || !r.endSynced) {
		return nil, nil
	}
	for _, p := range r.packs {
		if !p.goneKnown {
			if err := r.followGone(p); err != nil {
				return nil, err
			}
			p.goneKnown = true
		}
	}
	var all []packHoles
	later := false // something was deleted from a later pack
	for i := len(r.packs) - 1; i >= 0; i-- {
		p := r.packs[i]
		if p.deleted && r.finished(p) && p.passed(later) {
			p.deleted = false
			if p.mostlyGone() {
				if err := r.syncGone(p); err != nil {
					return nil, err
				}
				p.punched = true
				all = append(all, packHoles{p, p.holes()})
			}
		}
		later = later || len(p.gone) > 0 || i > 0 && r.packs[i-1].number+1 != p.number
	}
	return all, nil
}

// passed reports whether deletion has passed a record that is kept, which is then
// expected to stay. Otherwise the rest of the pack goes soon, and its file can be used
// again if it has no holes.
func (p *pack) passed(later bool) bool {
	kept := false
	for _, rec := range p.records {
		if gone := p.gone.has(rec.id); gone && kept {
			return true
		} else if !gone {
			kept = true
		}
	}
	return kept && later
}

// mostlyGone reports whether more bytes of a pack are deleted than are kept.
func (p *pack) mostlyGone() bool {
	if p.damaged {
		return false
	}
	var bytes int64
	for _, rec := range p.records {
		if p.gone.has(rec.id) {
			bytes += rec.size
		} else {
			bytes -= rec.size
		}
	}
	return bytes > 0
}

// holes returns the whole pages that only bodies of deleted records take, with the zeros
// behind the last body of a group.
func (p *pack) holes() (all []hole) {
	for i := 0; i < len(p.records); {
		end := p.records[i].off
		h := hole{from: roundUp(end)}
		first := i
		for i < len(p.records) && p.records[i].off == end && p.gone.has(p.records[i].id) {
			end += p.records[i].size
			i++
		}
		if i == first {
			i++
			continue
		}
		if h.to = roundUp(end); i < len(p.records) && p.records[i].off == end { // the next one is in the same group
			h.to = end / page * page
		}
		if h.from < h.to {
			all = append(all, h)
		}
	}
	return all
}

// punch punches the holes of a pack, unless its file is about to be used again.
func (r *row) punch(w packHoles) error {
	f, err := os.OpenFile(r.packPath(w.pack.number), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	locked, err := disk.TryLock(f, unix.LOCK_SH)
	if !locked || err != nil {
		return err
	}
	if err := r.same(f, w.pack); err != nil {
		if errors.Is(err, errPackRemoved) {
			return nil
		}
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	least := roundUp(info.Size()) + page + int64(len(w.holes))*extentSize
	for _, h := range w.holes {
		least -= h.to - h.from
	}
	if used, err := disk.Used(f); err != nil || used <= least {
		return err // the holes are there
	}
	for _, h := range w.holes {
		switch err := r.disk.Punch(f, h.from, h.to-h.from); {
		case errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT):
			r.mu.Lock()
			w.pack.deleted = true // the next Delete tries again
			r.mu.Unlock()
			return nil
		case err != nil:
			if r.rows.noHoles.CompareAndSwap(false, true) {
				slog.Warn("the file system cannot give back parts of files: the space of deleted records stays in use while others in the same file are kept",
					"file", f.Name(), "err", err)
			}
			return nil
		}
	}
	return nil
}
