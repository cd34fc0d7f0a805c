package row

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/weirmq/weir/storage/crc"
	"github.com/weirmq/weir/storage/file/disk"
)

// makerName is the file whose link decides which handle makes a row and appends to it.
// In version 1 it alone shows that there is a row. In version 2 it is also linked to
// `row`, which takes the marks.
const makerName = ".row"

// plainName is a file in the root of a folder that a person filled with objects of
// another kind of bucket: there, folders of slots without a row are not damaged.
const plainName = ".plain"

// marks say which packs there were, in a row of version 2. The folder alone does not
// show what is missing.
type marks struct {
	begun   uint64           // the highest pack that was begun
	removed uint64           // all packs up to this one may be gone
	alone   map[uint64]int64 // other packs that may be gone, and where the pack before each ends
}

// gone reports whether a pack may be missing because it was removed.
func (m marks) gone(number uint64) bool {
	_, alone := m.alone[number]
	return alone || number <= m.removed
}

// errMissing: a pack that was begun and not removed is missing.
var errMissing = fmt.Errorf("%w: it is missing, and was not removed", errDamaged)

// Kinds of marks. The mark of a pack that was removed before an earlier one says where
// the pack before it ends, in pages: nothing else records that then.
const (
	markBegun   = 1
	markRemoved = 2
	markAlone   = 3 // in the lowest byte
)

func aloneKind(before int64) uint64 { return markAlone | uint64(before/page)<<8 }

func appendMark(p []byte, row [16]byte, kind, number uint64) []byte {
	start := len(p)
	p = binary.BigEndian.AppendUint32(p, markMagic)
	p = binary.BigEndian.AppendUint32(p, 0)
	p = binary.BigEndian.AppendUint64(p, kind)
	p = binary.BigEndian.AppendUint64(p, number)
	binary.BigEndian.PutUint32(p[start+4:], markSum(p[start:], row))
	return p
}

func markSum(p []byte, row [16]byte) uint32 {
	return crc.Update(crc.Sum(row[:]), p[8:markSize])
}

// decodeMarks reads the marks behind the head of a row's file and skips bytes that are
// not a mark: a process that died may have left half a mark in front of others.
//
// It adds the marks to m, and returns how many bytes need not be read again.
func decodeMarks(p []byte, row [16]byte, m marks) (all marks, used int) {
	for at := 0; len(p)-at >= markSize; {
		q := p[at:]
		if binary.BigEndian.Uint32(q) != markMagic || binary.BigEndian.Uint32(q[4:]) != markSum(q, row) {
			at++
			continue
		}
		number := binary.BigEndian.Uint64(q[16:])
		switch kind := binary.BigEndian.Uint64(q[8:]); {
		case kind == markBegun:
			m.begun = max(m.begun, number)
		case kind == markRemoved:
			m.removed = max(m.removed, number)
		case kind&0xff == markAlone:
			if m.alone == nil {
				m.alone = make(map[uint64]int64)
			}
			m.alone[number] = int64(kind>>8) * page
		}
		at += markSize
		used = at
	}
	return m, used
}

// readRow reads the row's own file in a folder; it returns nil if there is no row. A
// folder that lacks this file but has other files of a row is damaged.
func (rs *Rows) readRow(folder string) (*row, error) {
	stray := ""
	for range 3 { // another process may be making it
		for _, name := range []string{rowName, makerName} {
			p, err := os.ReadFile(filepath.Join(rs.disk.Path(folder), name))
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
				continue
			}
			if err != nil {
				return nil, err
			}
			id, version, err := decodeRow(p)
			if err != nil {
				return nil, fmt.Errorf("%s/%s: %w", folder, name, err)
			}
			r := &row{rows: rs, disk: rs.disk, name: folder, id: id, version: version}
			if name == makerName && version > 1 {
				err = r.complete()
			}
			return r, err
		}
		var err error
		if stray, err = rs.stray(folder); stray == "" || err != nil {
			return nil, err
		}
	}
	if there, err := disk.Exists(filepath.Join(rs.disk.Root, plainName)); there || err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("%s/%s is missing beside %s: %w: slots may be missing with it; restore the folder from a copy that has the files that "+
		"begin with a dot, too, or, if these are objects of another kind of bucket, create an empty file %s in the bucket's folder",
		folder, makerName, stray, errDamaged, plainName)
}

// stray returns the name of a file that is in a folder only if it has a row, or "". In
// a bucket that is older than rows, or was copied from one of another kind, all slots
// are files. Where objects come in sequence and 0 is there but 1 is not, the others
// were in packs.
func (rs *Rows) stray(folder string) (string, error) {
	entries, err := os.ReadDir(rs.disk.Path(folder))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return "", nil
	}
	first := [2]bool{}
	for _, e := range entries {
		if name := e.Name(); Reserved(strings.TrimPrefix(name, ".")) {
			return name, err
		}
		if n, ok := parseNumber(e.Name()); ok && n < 2 {
			first[n] = true
		}
	}
	if first[0] && !first[1] && rs.inSequence(folder) {
		return formatNumber(0), err
	}
	return "", err
}

// linkNames gives a new row its second name, in version 2, and makes both durable.
func (r *row) linkNames(dir *os.File) error {
	if r.version > 1 {
		err := unix.Link(r.path(makerName), r.file(rowName))
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("link %s: %w", rowName, err)
		}
	}
	return r.disk.SyncDir(dir)
}

// complete links a row's second name again after a crash or a person removed it. Both
// are names of one file, so the marks are kept.
func (r *row) complete() error {
	dir, err := os.Open(r.path(""))
	if err != nil {
		return err
	}
	defer dir.Close()
	return r.linkNames(dir)
}

// readMarks reads the new marks of a row and returns all of them; a row of version 1
// has none. The caller holds mu.
func (r *row) readMarks() (marks, error) {
	if r.version < 2 {
		return marks{}, nil
	}
	f, err := os.Open(r.file(rowName))
	if err != nil {
		return marks{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return marks{}, err
	}
	if r.marksRead == 0 || info.Size() < r.marksRead { // or the file was replaced by an older copy
		r.marks, r.marksRead = marks{}, rowSize
	}
	tail, err := readUpTo(f, r.marksRead, info.Size()-r.marksRead)
	if err != nil {
		return marks{}, err
	}
	all, used := decodeMarks(tail, r.id, r.marks)
	r.marks, r.marksRead = all, r.marksRead+int64(used)
	return all, nil
}

// mark appends a mark to the row's file, durably. Room for it is reserved, see
// disk.Reserve, so it works on a full disk. After an error the mark may or may not be
// there.
func (r *row) mark(kind, number uint64) error {
	if r.version < 2 {
		return nil
	}
	f, err := os.OpenFile(r.file(rowName), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(appendMark(nil, r.id, kind, number)); err != nil {
		return err
	}
	if err := r.disk.Data(f); err != nil {
		return r.disk.Broke(fmt.Errorf("sync %s: %w", f.Name(), err))
	}
	if kind == markBegun {
		disk.Reserve(f, page)
	}
	return nil
}

// survey lists the packs of a row up to its end, or all if end is nil. If one that must
// be there is missing, the row is damaged. A pack exists before it is marked as begun,
// and is marked as removed before it goes. So if one comes or goes while the folder is
// read, the next reading sees it. The returned marks are those after the last reading.
// Packs that were removed with all before them are left out: a crash, or a copy, may
// have left one.
func (r *row) survey(end *rowEnd) (numbers []uint64, m marks, err error) {
	missing := uint64(0)
	for range 3 {
		before, err := r.readMarks()
		if err != nil {
			return nil, m, err
		}
		if numbers, err = r.numbers(packStem); err != nil {
			return nil, m, err
		}
		if m, err = r.readMarks(); err != nil {
			return nil, m, err
		}
		if missing = r.missing(numbers, m, before.begun, end); missing == 0 {
			numbers = slices.DeleteFunc(numbers, func(n uint64) bool { return n <= m.removed })
			return numbers, m, nil
		}
	}
	return nil, m, fmt.Errorf("%s: %w", r.packPath(missing), errMissing)
}

// missing returns the lowest pack that must be there and is not in numbers, or 0.
func (r *row) missing(numbers []uint64, m marks, begun uint64, end *rowEnd) uint64 {
	first, last := m.removed+1, begun
	if n := len(numbers); n > 0 {
		last = max(last, numbers[n-1])
		if r.version < 2 {
			first = numbers[0] // nothing is known of those before
		}
	}
	if end != nil {
		last = end.pack
	}
	if r.version < 2 && len(numbers) == 0 {
		return 0
	}
	for n := first; n <= last; n++ {
		if _, there := slices.BinarySearch(numbers, n); !there && !m.gone(n) {
			return n
		}
	}
	return 0
}
