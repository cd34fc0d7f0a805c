package row

import (
	"cmp"
	"errors"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/weirmq/weir/storage/file/disk"
)

// The size of a pack doubles from smallestPack to largestPack with what the row's packs
// hold: see Rows.packSize.
const (
	smallestPack = 256 << 10
	largestPack  = 32 << 20
)

// packSize returns the size of the next pack of a row whose packs hold so many bytes
// and whose groups are of so many: a quarter of what the row holds, so that few zeros are
// written before there are records, and a row with few records takes little space. But
// to begin a pack takes four syncs, so it has room for manyGroups, unless that is more
// than twice what the row holds.
func (rs *Rows) packSize(held, group int64) int64 {
	fewGroups := int64(4)
	if group >= largeGroup {
		fewGroups = 16 // it is only allocated, which is cheap
	}
	most := max(held/4, min(manyGroups*group, 2*held))
	size := rs.smallest
	for size < rs.largest && (2*size <= most || size < fewGroups*group) {
		size *= 2
	}
	return min(size, rs.largest)
}

const manyGroups = 256

// A handle keeps files of deleted packs to use them again: they need no zeros. When the
// upkeep of a log has fallen behind, it deletes many packs at once, and new ones are
// needed soon; writing zeros to new files would slow down both. All kept files together
// take at most a quarter of the free space, except the first minSpares. A file that is
// smaller than 1/spareRatio of the size that is wanted is not used.
const (
	minSpares  = 4
	maxSpares  = 16
	spareRatio = 4
)

// spareLimit returns how many files of size may be kept when free bytes are free.
func spareLimit(free, size int64) int {
	return int(min(max(free/4/size, minSpares), maxSpares))
}

// In space that was only allocated, the sync of a group takes longer, because the file
// system writes its own metadata: half as long again at 256 KiB, a tenth to a quarter
// longer at 1 MiB (ext4, a virtual disk). From largeGroup bytes on, that costs less
// than writing zeros first. A smaller group in such space is followed by padding bytes
// of zeros, for the groups behind it.
const (
	largeGroup = 512 << 10
	padding    = 256 << 10
)

// blank is a file that is to become a pack. For small groups all of it has been written
// before, so that the file system has to write nothing but the data: in space that is
// only allocated, each sync also writes metadata.
type blank struct {
	file    *os.File
	size    int64
	written int64      // bytes from its beginning that were written before
	temp    *disk.Temp // a new file
	name    string     // its name in .tmp, if it was a pack
}

// made is the result of prepare.
type made struct {
	*blank
	err error
}

// blank returns a file of at least need bytes, and of size bytes if there is room: a
// spare file or a new one, which is only allocated if groups are large. An error means
// that nothing happened.
func (rs *Rows) blank(folder string, need, size int64, large bool) (*blank, error) {
	if s := rs.takeSpare(max(need, size/spareRatio)); s != nil {
		return s, nil
	}
	// The file system is not filled with space that is not needed yet.
	if free, ok := disk.FreeSpace(rs.disk.Root); ok && free/4 < size {
		size = min(size, max(need, rs.smallest))
	}
	s, err := rs.newBlank(folder, size, large)
	if size > need && errors.Is(err, unix.ENOSPC) {
		s, err = rs.newBlank(folder, roundUp(need), large)
	}
	return s, err
}

func (rs *Rows) newBlank(folder string, size int64, large bool) (*blank, error) {
	t, err := rs.disk.NewTemp(rs.disk.Path(folder))
	if err != nil {
		return nil, err
	}
	s := &blank{file: t.File, size: size, temp: t}
	if large {
		err = t.Allocate(size)
	}
	if !large || err != nil && !errors.Is(err, unix.ENOSPC) {
		s.written, err = size, t.WriteZeros(size)
	}
	if err != nil {
		s.drop()
		return nil, err
	}
	if err := rs.disk.Sync(t.File); err != nil {
		s.drop()
		return nil, err
	}
	return s, nil
}

// link gives the file its name and removes its other names. Errors: see disk.Refused.
func (s *blank) link(target string) (*os.File, error) {
	if s.temp == nil {
		if err := unix.Link(s.name, target); err != nil {
			s.drop()
			return nil, err
		}
		// If its name in .tmp stays, the next start removes it.
		_ = os.Remove(s.name)
		return s.file, nil
	}
	if err := s.temp.Link(target); err != nil {
		s.drop()
		return nil, err
	}
	return s.temp.Keep(), nil
}

func (s *blank) drop() {
	if s.temp != nil {
		s.temp.Close()
		return
	}
	s.file.Close()
	_ = os.Remove(s.name) // else the next start removes it
}

// errPunched: another process is punching holes into the file.
var errPunched = errors.New("file is getting holes")

// recycle renames a pack's file into .tmp. It may be written only after its folder is
// synced. The file stays locked until it is closed: see row.needHoles.
func (rs *Rows) recycle(name string, size int64) (*blank, error) {
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	locked, err := disk.TryLock(f, unix.LOCK_EX)
	if !locked || err != nil {
		f.Close()
		return nil, cmp.Or(err, errPunched)
	}
	s := &blank{file: f, size: size, written: size, name: rs.disk.TempName()}
	if err := os.Rename(name, s.name); err != nil {
		f.Close()
		return nil, err
	}
	return s, nil
}

// wantsSpare reports whether a file of that size is kept as a spare.
func (rs *Rows) wantsSpare(size int64) bool {
	rs.spareMu.Lock()
	defer rs.spareMu.Unlock()
	return rs.hasRoomFor(size)
}

// hasRoomFor is wantsSpare for a caller that holds spareMu.
func (rs *Rows) hasRoomFor(size int64) bool {
	return !rs.shut && size >= rs.smallest && (len(rs.spares) < rs.mostSpares() || rs.spares[0].size < size)
}

// mostSpares returns how many spare files are kept.
func (rs *Rows) mostSpares() int {
	free, known := disk.FreeSpace(rs.disk.Root)
	if !known {
		return minSpares
	}
	return spareLimit(free, rs.largest)
}

// keepSpare keeps a file as a spare, in the place of the smallest one if there are
// enough.
func (rs *Rows) keepSpare(s *blank) {
	rs.spareMu.Lock()
	dropped := s
	if rs.hasRoomFor(s.size) {
		at, _ := slices.BinarySearchFunc(rs.spares, s, func(a, b *blank) int { return cmp.Compare(a.size, b.size) })
		rs.spares = slices.Insert(rs.spares, at, s)
		dropped = nil
	}
	if dropped == nil && len(rs.spares) > rs.mostSpares() {
		dropped, rs.spares = rs.spares[0], rs.spares[1:]
	}
	rs.spareMu.Unlock()
	if dropped != nil {
		dropped.drop()
	}
}

// takeSpare returns the largest spare file if it has at least need bytes and still has
// its name: another process that starts up may have removed it.
func (rs *Rows) takeSpare(need int64) *blank {
	for {
		rs.spareMu.Lock()
		n := len(rs.spares)
		if n == 0 || rs.spares[n-1].size < need {
			rs.spareMu.Unlock()
			return nil
		}
		s := rs.spares[n-1]
		rs.spares = rs.spares[:n-1]
		rs.spareMu.Unlock()
		if there, err := disk.Exists(s.name); err == nil && there {
			return s
		}
		s.drop()
	}
}
