package wal

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/weirmq/weir/storage/weir"
)

// This file finds where a lane ends if its process was killed: from the lane's own
// files and from the files beside the buffers.

// witness is what the files beside the buffers say about one lane.
type witness struct {
	last  uint64 // there were records up to this sequence; 0: not known
	acked uint64 // records up to this sequence are delivered; a lower bound
	begun bool   // the lane had a folder

	ended bool // nothing was appended behind last
	guess bool // with ended: last may be too low or too high, and the lane's own files know better, if they exist

	expected bool   // the buffer is the newest, so the file latest should name it
	clean    bool   // the file latest does, and no later value of it was lost
	boot     uint32 // the start of the machine in which latest was written
}

// witness collects what the files beside the buffers say about a lane.
func (l *Log) witness(h heard, id weir.BufferID, ln weir.Lane) witness {
	if b, ok := l.ended.known[id]; ok {
		return witness{last: b.last[ln], acked: b.acked[ln], begun: b.last[ln] > 0, ended: true, guess: b.guess>>ln&1 > 0}
	}
	var w witness
	if h.id == id {
		w.expected, w.begun = true, h.begun>>ln&1 > 0
	}
	if h.latest.id == id {
		w.expected, w.clean, w.boot = true, h.latest.clean, h.latest.boot
		w.last = h.latest.last[ln]
		w.begun = w.begun || w.last > 0
	}
	return w
}

// saidEnd returns where a buffer ends according to the files beside the buffers. The
// buffer itself cannot be read at this start, and those files are about to be
// overwritten with what is known of the next buffer.
func saidEnd(id weir.BufferID, said func(weir.Lane) witness) endedBuffer {
	e := endedBuffer{id: id}
	for ln := range weir.Lane(weir.Lanes) {
		w := said(ln)
		e.last[ln], e.acked[ln] = w.last, w.acked
		if w.begun && !w.ended || w.guess {
			e.last[ln], e.guess = max(w.last, 1), e.guess|1<<ln
		}
	}
	return e
}

// load reads a lane that an earlier open wrote. It reads the lane's last segments if it
// is not known where the lane ends, and only file names otherwise.
func (la *lane) load(w witness) error {
	segs, err := listSegments(la.dir)
	if err != nil {
		return err
	}
	la.segs = segs
	if err := la.gaps.open(la.disk, la.dir, la.salt); err != nil {
		return err
	}
	value, clean := readCell(filepath.Join(la.dir, marksName), la.salt^partMarks)
	m, known := parseMark(value)
	if err := la.miss(&w, known); err != nil {
		return err
	}
	la.sealed = m.sealed || !known && len(segs) == 0 && !w.begun
	m.loose = m.loose || !clean
	m.acked = max(m.acked, w.acked)
	if !m.sealed {
		if m, err = la.unsealedEnd(m, known && clean, w); err != nil {
			return err
		}
	}
	m.acked = min(m.acked, m.high)
	la.marks.mark = m
	la.last, la.acked, la.guess, la.firm = m.high, m.acked, m.guess, m.firm
	la.front, la.loose = m.acked, m.loose
	return nil
}

// miss notes which of the lane's files are gone. If the folder is empty, something was
// removed from it, unless it is known that nothing was ever stored there: a process
// that begins a lane first writes the marks.
func (la *lane) miss(w *witness, known bool) error {
	_, err := os.Stat(la.dir)
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	case err == nil && !known && len(la.segs) == 0 && !w.ended && !w.expected:
		w.begun = true
	}
	switch {
	case !w.begun:
	case err != nil:
		la.lost = "the folder of the lane is gone"
	case len(la.segs) == 0 && !known:
		la.lost = "all files of the lane are gone"
	}
	return nil
}

// unsealedEnd finds the end of a lane that was not sealed: its process was killed, or
// what it wrote at the end is lost. The mark that it returns is sealed.
//
// Bytes behind the last intact frame may be left of a batch that was being written and
// never acknowledged, or of stored ones. Two files tell which: the lane's marks, and
// latest, which has the last sequences of the newest buffer. Both are written after
// each sync, but not synced themselves. Nothing is missing behind the last record if
// both files are clean and of this start of the machine, or if latest is and agrees
// with the segments. If both are clean and of an earlier start, as after a power cut,
// nothing is missing unless there are damaged bytes at the end. In all other cases at
// least one record more may be missing.
func (la *lane) unsealedEnd(m mark, whole bool, w witness) (mark, error) {
	m.sealed = true
	if w.ended && !w.guess {
		m.high = max(m.high, w.last)
		return m, nil
	}
	end, err := la.findEnd()
	if err != nil {
		return mark{}, err
	}
	if !whole && len(la.segs) == 0 && !w.begun && m.high == 0 {
		return m, nil // the lane never existed
	}
	boot := la.disk.boot
	now := boot != 0 && m.boot == boot && (w.boot == boot || !w.expected)
	whole = whole && (w.clean || !w.expected) && (now || !end.damaged)
	agree := w.clean && boot != 0 && w.boot == boot && w.last > 0 && w.last == max(end.last, end.claimed)
	m.high = max(end.last, m.acked, m.high)
	if !w.guess {
		m.high = max(m.high, w.last)
	}
	if w.guess || !whole && !agree {
		m.firm, m.guess = m.high, true
		m.high = max(m.high+1, end.claimed, w.last)
	}
	return m, nil
}

// laneEnd is what was found at the end of a lane's segments.
type laneEnd struct {
	last    uint64 // sequence of the last intact record; 0: none
	damaged bool   // there are bytes behind it
	claimed uint64 // last sequence according to the intact headers of damaged frames behind last
}

// findEnd reads segments, newest first, until it finds an intact frame.
func (la *lane) findEnd() (laneEnd, error) {
	var end laneEnd
	for i := len(la.segs) - 1; i >= 0 && end.last == 0; i-- {
		if err := la.scanEnd(i, &end); err != nil {
			return laneEnd{}, err
		}
	}
	return end, nil
}

func (la *lane) scanEnd(i int, end *laneEnd) error {
	var w window
	if err := w.open(filepath.Join(la.dir, la.segs[i].name)); err != nil {
		end.damaged = true
		if unreadable(err) {
			return nil
		}
		return err
	}
	defer w.close()
	var last, claimed uint64
	damaged, off := false, int64(0)
	for {
		h, at, ok, err := findHeader(&w, la.salt, off)
		if err != nil {
			return err
		}
		if !ok {
			damaged = damaged || off < la.segs[i].size
			break
		}
		_, ok, err = readBody(&w, h, at)
		if err != nil {
			return err
		}
		if ok && h.kind == kindRecords && h.last() > last {
			last, claimed, damaged = h.last(), 0, false
		} else {
			claimed, damaged = max(claimed, h.last()), true
		}
		off = h.end(at)
	}
	end.last = last
	end.damaged = end.damaged || damaged
	end.claimed = max(end.claimed, claimed)
	return nil
}

// seal fixes the end of the lane, durably, at what it is in memory. Anything behind it
// in the segments does not count.
func (la *lane) seal() error {
	la.mu.Lock()
	m := mark{high: la.last, acked: la.acked, sealed: true, guess: la.guess, firm: la.firm, loose: la.loose, boot: la.disk.boot}
	la.mu.Unlock()
	if err := la.openMarks(); err != nil {
		return err
	}
	return la.marks.set(func(old *mark) { *old = m })
}

// openMarks opens the lane's marks file. It makes a new folder if the lane has none.
func (la *lane) openMarks() error {
	if la.lost != "" && !la.marks.opened() {
		if err := la.disk.mkdir(la.dir); err != nil {
			return err
		}
	}
	return la.marks.open(la.disk, la.dir, la.salt)
}
