package row

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"github.com/weirmq/weir/storage/file/disk"
)

// packSizes returns how large the packs of a row are, one after the other; the
// last size stays. A row with little in it costs little.
func packSizes() []int64 { return []int64{256 << 10, 1 << 20, 4 << 20, 16 << 20, 32 << 20} }

// A handle keeps files of deleted packs, of the last size, to use them again. Many packs go
// at once when the upkeep of a log has fallen behind writers, and they are needed again
// soon: to write zeros instead would take the disk's time from both. All of them together
// take a quarter of the free space at most, but for the first minSpares.
const (
	minSpares = 4
	maxSpares = 16
)

// spareLimit returns how many files of size are kept with so much free space.
func spareLimit(free, size int64) int {
	return int(min(max(free/4/size, minSpares), maxSpares))
}

// The sync of a group in space that was only allocated takes longer, because the file
// system writes its own metadata: by a half at 256 KiB, by a tenth to a quarter at 1 MiB
// (ext4, a virtual disk). From largeGroup bytes on that is less than to write zeros there
// before. A smaller group that comes to such space brings padding bytes of zeros with it,
// for the groups behind it.
const (
	largeGroup = 512 << 10
	padding    = 256 << 10
)

// blank is a file for a pack that is not one yet. For small groups all of it was
// written once, so that the file system has nothing to do when it is written again but
// to write it: space that is only allocated costs a metadata write at each sync.
type blank struct {
	file    *os.File
	size    int64
	written int64      // bytes from its beginning that were written once
	temp    *disk.Temp // a new file
	name    string     // in .tmp, of one that was a pack
}

// made is what prepare hands over.
type made struct {
	*blank
	err error
}

// blank returns a file of at least need bytes, of size if there is room: a spare
// one or a new one, which for large groups is only allocated. Errors: nothing happened.
func (rs *Rows) blank(folder string, need, size int64, large bool) (*blank, error) {
	if s := rs.takeSpare(need); s != nil {
		return s, nil
	}
	// The file system is not filled with what nobody needs yet.
	if free, ok := disk.FreeSpace(rs.disk.Root); ok && free/4 < size {
		size = min(size, max(need, rs.sizes[0]))
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

// link gives the file its name and removes any other. Errors: see disk.Refused.
func (s *blank) link(target string) (*os.File, error) {
	if s.temp == nil {
		if err := unix.Link(s.name, target); err != nil {
			s.drop()
			return nil, err
		}
		// What stays of it in .tmp is removed at the next start.
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
	_ = os.Remove(s.name) // or at the next start
}

// recycle renames a pack's file into .tmp. It may be written only after its folder was
// synced.
func (rs *Rows) recycle(name string, size int64) (*blank, error) {
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	s := &blank{file: f, size: size, written: size, name: rs.disk.TempName()}
	if err := os.Rename(name, s.name); err != nil {
		f.Close()
		return nil, err
	}
	return s, nil
}

// wantsSpare reports whether one more spare file is kept.
func (rs *Rows) wantsSpare() bool {
	rs.spareMu.Lock()
	defer rs.spareMu.Unlock()
	return !rs.shut && len(rs.spares) < rs.mostSpares()
}

// mostSpares returns how many spare files are kept.
func (rs *Rows) mostSpares() int {
	free, known := disk.FreeSpace(rs.disk.Root)
	if !known {
		return minSpares
	}
	return spareLimit(free, rs.sizes[len(rs.sizes)-1])
}

func (rs *Rows) keepSpare(s *blank) {
	rs.spareMu.Lock()
	keep := !rs.shut && len(rs.spares) < rs.mostSpares()
	if keep {
		rs.spares = append(rs.spares, s)
	}
	rs.spareMu.Unlock()
	if !keep {
		s.drop()
	}
}

// takeSpare returns a spare file of at least need bytes that still has its name:
// another process that starts up may have removed it.
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
