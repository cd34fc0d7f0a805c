package row

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/crc"
	"github.com/weirmq/weir/storage/file/disk"
)

// errPackRemoved: the file was removed, or became another pack, while it was read.
// Everything in it had been deleted.
var errPackRemoved = errors.New("pack is gone")

// errFrozen: a pack is missing because the row has its end.
var errFrozen = errors.New("row is frozen")

// errChanging: the packs of a row changed during every attempt to read them.
var errChanging = errors.New("packs come and go faster than they are read")

// pack is what is known of a file of records.
type pack struct {
	packHead          // never changes
	end      int64    // behind the last group that was read
	searched int64    // end of the range already scanned for a valid group
	records  []record // by id
	indexed  int      // how many of records are in the row's index
	damaged  bool     // some of its records are unknown

	indexRead bool // records are from its index, not from the groups

	gone       extents
	deleted    bool  // records were deleted and it was not seen whether holes are to be punched
	punched    bool  // it may have holes
	goneKnown  bool  // gone-N was read once
	goneRead   int64 // bytes of gone-N that are in gone
	goneSynced int64 // bytes of it that are known to be durable
	goneNamed  bool  // its name is known to be durable
}

// readPackHead reads and checks the head of a pack's file.
func (r *row) readPackHead(f io.ReaderAt, number uint64) (packHead, error) {
	p := make([]byte, packHeadSize)
	if _, err := f.ReadAt(p, 0); err != nil && !errors.Is(err, io.EOF) {
		return packHead{}, err
	}
	h, err := decodePackHead(p)
	if err == nil && (h.row != r.id || h.number != number) {
		err = errPackRemoved // the file became another pack since it was opened
	}
	return h, err
}

// openPack opens a pack. The error is errPackRemoved if it is not there.
func (r *row) openPack(number uint64) (*os.File, packHead, error) {
	f, err := os.Open(r.packPath(number))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, packHead{}, errPackRemoved
	}
	if err != nil {
		return nil, packHead{}, err
	}
	h, err := r.readPackHead(f, number)
	if err == nil {
		err = checkSize(f, h)
	}
	if errors.Is(err, errPackRemoved) {
		err = r.replaced(f, number)
	}
	if err != nil {
		f.Close()
		return nil, packHead{}, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return f, h, nil
}

// replaced returns errPackRemoved for a file that became another pack since it was
// opened. It has lost its name before its head was changed. So if it has its name, it is
// damaged: in a copy that was taken meanwhile, for example.
func (r *row) replaced(f *os.File, number uint64) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	switch now, err := os.Stat(r.packPath(number)); {
	case errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(info, now):
		return errPackRemoved
	case err != nil:
		return err
	}
	return fmt.Errorf("%w: it has the head of another pack", errDamaged)
}

// checkSize returns an error if a file is shorter than its pack: all of it is written
// before it gets its name.
func checkSize(f *os.File, h packHead) error {
	info, err := f.Stat()
	if err == nil && info.Size() < h.size {
		err = fmt.Errorf("%w: of %d bytes %d are there", errDamaged, h.size, info.Size())
	}
	return err
}

// read returns a part of a record's body. The head of the pack is read afterwards: if
// it has not changed, the bytes belong to this pack.
func (r *row) read(at location, off, n int64) ([]byte, error) {
	off, n, err := storage.Range(at.size, off, n)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(r.packPath(at.pack.number))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errPackRemoved
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	body := make([]byte, n)
	_, err = f.ReadAt(body, at.off+off)
	if err == nil || errors.Is(err, io.EOF) {
		if moved := r.same(f, at.pack); moved != nil {
			return nil, moved
		}
	}
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("%s: %w: it ends before a record does", f.Name(), errDamaged)
	}
	return body, err
}

// same returns errPackRemoved if the file is no longer that pack.
func (r *row) same(f io.ReaderAt, p *pack) error {
	h, err := r.readPackHead(f, p.number)
	if err == nil && h.identity != p.identity {
		return errPackRemoved
	}
	return err
}

// follow reads what is new in the packs of a row that is not frozen; refresh adds it to
// the index. The error is errFrozen if packs behind the end have been removed. The
// caller holds mu.
func (r *row) follow() error {
	for range 100 {
		err := r.forgetRemoved()
		if err == nil {
			err = r.followOnce()
		}
		missing := errors.Is(err, errMissing)
		if !missing && !errors.Is(err, errPackRemoved) {
			return err
		}
		if there, err := disk.Exists(r.file(endName)); there || err != nil {
			return errors.Join(err, errFrozen)
		}
		if missing {
			return err
		}
	}
	return errChanging
}

func (r *row) followOnce() error {
	if len(r.packs) == 0 {
		first, err := r.firstPack()
		if first == 0 || err != nil {
			return err
		}
		if err := r.addPack(first); err != nil {
			return err
		}
	}
	for {
		last := r.packs[len(r.packs)-1]
		next, end, err := r.nextPack(last.number)
		if err != nil {
			return err
		}
		if next == nil { // unless one appears meanwhile, this is the last pack
			if err := r.scan(last, -1); err != nil {
				return err
			}
			if next, end, err = r.nextPack(last.number); next == nil || err != nil {
				return err
			}
		}
		if err := r.load(last, end); err != nil {
			return err
		}
		r.add(next)
	}
}

// nextPack returns the first pack after the one with the given number, and where that
// one ends; nil if there is none. The error is errPackRemoved if the pack with the
// number may be gone, too.
func (r *row) nextPack(number uint64) (next *pack, end int64, err error) {
	for n := number + 1; ; n++ {
		h, before, err := r.lookForPack(n)
		switch {
		case err != nil:
			return nil, 0, err
		case n == number+1:
			end = before
		}
		if h != nil {
			return &pack{packHead: *h, end: page}, end, nil
		}
		if before < 0 {
			return nil, 0, r.remains(number)
		}
	}
}

// lookForPack returns the head of a pack, and where the pack before it ends, even if
// the pack was removed alone. h is nil if the pack is not there; before is negative if
// it was never made. Its mark as begun is read after the look for it. So if the pack is
// not there and the mark is, it appeared meanwhile, or is being removed, or is missing.
func (r *row) lookForPack(number uint64) (h *packHead, before int64, err error) {
	for range 3 {
		f, h, err := r.openPack(number)
		if err == nil {
			return &h, h.before, f.Close()
		}
		if !errors.Is(err, errPackRemoved) {
			return nil, 0, err
		}
		m, err := r.readMarks()
		if err != nil {
			return nil, 0, err
		}
		before, alone := m.alone[number]
		switch {
		case number <= m.removed:
			return nil, 0, errPackRemoved
		case alone:
			return nil, before, nil
		case m.begun < number:
			return nil, -1, nil
		}
	}
	return nil, 0, fmt.Errorf("%s: %w", r.packPath(number), errMissing)
}

// remains returns errPackRemoved if a pack is no longer there. In version 1 packs are
// removed from the lowest on: if the next one is not there and this one still is, the
// next one was never made.
func (r *row) remains(number uint64) error {
	there, err := disk.Exists(r.packPath(number))
	if err == nil && !there {
		err = errPackRemoved
	}
	return err
}

func (r *row) addPack(number uint64) error {
	f, h, err := r.openPack(number)
	if err != nil {
		return err
	}
	r.add(&pack{packHead: h, end: page})
	return f.Close()
}

// firstPack returns the number of the lowest pack, 0 if there is none. One reading of
// the folder can miss both a pack that is removed meanwhile and the next one that
// appears, so the folder is read twice before the answer is 0. After `close` has
// appeared at most one more pack is made, so the second reading is then right.
func (r *row) firstPack() (uint64, error) {
	for range 2 {
		numbers, _, err := r.survey(nil)
		if err != nil {
			return 0, err
		}
		if len(numbers) > 0 {
			return numbers[0], nil
		}
	}
	return 0, nil
}

// numbers lists the files of the row whose names begin with stem.
func (r *row) numbers(stem string) ([]uint64, error) {
	dir, err := os.Open(r.path(""))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var all []uint64
	for _, name := range names {
		if digits, ok := strings.CutPrefix(name, r.dot()+stem); ok {
			if n, ok := parseNumber(digits); ok {
				all = append(all, n)
			}
		}
	}
	slices.Sort(all)
	return all, nil
}

// scan reads the groups of a pack from where the last scan ended. If limit is not
// negative, the pack ends there, and bytes below it that are not a group are damage.
// Else they are damage only if a group follows, because that was written after they had
// been synced; and the last group counts if it is whole.
func (r *row) scan(p *pack, limit int64) error {
	if limit >= 0 && p.end >= limit {
		return nil
	}
	f, h, err := r.openPack(p.number)
	if err != nil {
		return err
	}
	defer f.Close()
	if h.identity != p.identity {
		return errPackRemoved
	}
	sound := *p
	if limit < 0 {
		err = sound.scanTail(f)
	} else {
		err = sound.scanTo(f, limit)
	}
	if err != nil {
		return err
	}
	if err := r.same(f, p); err != nil {
		return err
	}
	// The head is not assigned: others read it without mu.
	p.end, p.searched, p.records, p.damaged = sound.end, sound.searched, sound.records, sound.damaged
	if p.damaged {
		r.damage = fmt.Errorf("%s: %w: which numbers it had cannot be told", f.Name(), errDamaged)
	}
	return nil
}

func (p *pack) add(g group) {
	p.records = append(p.records, g.records...)
	p.end = g.next
}

// scanTo reads all groups below limit and skips what is damaged.
func (p *pack) scanTo(f io.ReaderAt, limit int64) error {
	for p.end < limit {
		g, ok, err := readGroup(f, p.identity, p.end, limit)
		if err != nil {
			return err
		}
		if ok {
			p.add(g)
			continue
		}
		p.damaged = true
		if p.end, err = search(f, p.identity, p.end+page, limit); err != nil {
			return err
		}
	}
	return nil
}

// scanTail reads all groups up to the end of the file.
func (p *pack) scanTail(f io.ReaderAt) error {
	for p.end < p.size {
		g, ok, err := readGroup(f, p.identity, p.end, p.size)
		if err != nil {
			return err
		}
		if ok {
			good, err := p.intact(f, g)
			if err != nil {
				return err
			}
			if !good {
				return nil
			}
			p.add(g)
			continue
		}
		if p.searched == p.end {
			return nil
		}
		limit := min(p.size, p.end+groupSize(maxCount, maxGroup)+page)
		next, err := search(f, p.identity, p.end+page, limit)
		if err != nil {
			return err
		}
		if next == limit {
			p.searched = p.end
			return nil
		}
		// The group may have been written since: what follows it is newer.
		if _, ok, err = readGroup(f, p.identity, p.end, p.size); err != nil {
			return err
		}
		if !ok {
			p.damaged = true
			p.end = next
		}
	}
	return nil
}

// intact reports whether all of a group was written: another group follows it, or its
// bodies have the checksums in its head. Only the bodies of the last group are read.
func (p *pack) intact(f io.ReaderAt, g group) (bool, error) {
	if g.next < p.size {
		if _, follows, err := readGroup(f, p.identity, g.next, p.size); follows || err != nil {
			return follows, err
		}
	}
	for _, rec := range g.records {
		sum := crc.New()
		if _, err := io.Copy(sum, io.NewSectionReader(f, rec.off, rec.size)); err != nil {
			return false, err
		}
		if sum.Sum32() != rec.crc { // or it was written meanwhile
			_, follows, err := readGroup(f, p.identity, g.next, p.size)
			return follows, err
		}
	}
	return true, nil
}

// readGroup reads the head of the group at off.
func readGroup(f io.ReaderAt, identity [16]byte, off, limit int64) (group, bool, error) {
	p, err := readUpTo(f, off, min(page, limit-off))
	if err != nil {
		return group{}, false, err
	}
	if n, ok := groupCount(p); ok && groupHeadSize+n*entrySize > len(p) {
		if p, err = readUpTo(f, off, groupHeadSize+int64(n)*entrySize); err != nil {
			return group{}, false, err
		}
	}
	g, ok := decodeGroup(p, identity, off, limit)
	return g, ok, nil
}

func readUpTo(f io.ReaderAt, off, n int64) ([]byte, error) {
	if n <= 0 {
		return nil, nil
	}
	p := make([]byte, n)
	got, err := f.ReadAt(p, off)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return p[:got], err
}

// search returns where the first group at or behind off begins, or limit.
func search(f io.ReaderAt, identity [16]byte, off, limit int64) (int64, error) {
	const chunk = 256 * page
	for ; off < limit; off += chunk {
		p, err := readUpTo(f, off, min(chunk, limit-off))
		if err != nil {
			return 0, err
		}
		for at := int64(0); at < int64(len(p)); at += page {
			if _, ok := groupCount(p[at:]); !ok {
				continue
			}
			if _, ok, err := readGroup(f, identity, off+at, limit); ok || err != nil {
				return off + at, err
			}
		}
	}
	return limit, nil
}
