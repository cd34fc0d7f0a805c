package file

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// packSizes returns how large the packs of a row are, one after the other; the
// last size stays. A row with little in it costs little.
func packSizes() []int64 { return []int64{256 << 10, 1 << 20, 4 << 20, 16 << 20, 32 << 20} }

// maxSpares is how many files a handle keeps of packs that were deleted, of the
// last size.
const maxSpares = 4

// blank is a file for a pack that is not one yet. All of it was written once, so
// that the file system has nothing to do when it is written again but to write
// it: space that is only allocated costs a metadata write at each sync.
type blank struct {
	file *os.File
	size int64
	temp *temp  // a new file
	name string // in .tmp, of one that was a pack
}

// made is what prepare hands over.
type made struct {
	*blank
	err error
}

// blank returns a file of at least need bytes, of size if there is room: a spare
// one or a new one. Errors: nothing happened.
func (b *Bucket) blank(folder string, need, size int64) (*blank, error) {
	if s := b.takeSpare(need); s != nil {
		return s, nil
	}
	// The file system is not filled with what nobody needs yet.
	if free, ok := freeSpace(b.root); ok && free/4 < size {
		size = min(size, max(need, b.sizes[0]))
	}
	s, err := b.newBlank(folder, size)
	if size > need && errors.Is(err, unix.ENOSPC) {
		s, err = b.newBlank(folder, roundUp(need))
	}
	return s, err
}

func (b *Bucket) newBlank(folder string, size int64) (*blank, error) {
	t, err := b.newTemp(b.path(folder))
	if err != nil {
		return nil, err
	}
	s := &blank{file: t.file, size: size, temp: t}
	zeros := make([]byte, min(size, stride))
	for left := size; left > 0; left -= int64(len(zeros)) {
		if err := t.write(zeros[:min(int64(len(zeros)), left)]); err != nil {
			s.drop()
			return nil, err
		}
	}
	if err := b.fsync(t.file); err != nil {
		s.drop()
		return nil, err
	}
	return s, nil
}

// link gives the file its name and lets go of any other. Errors: see refused.
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
	if err := s.temp.link(target); err != nil {
		s.drop()
		return nil, err
	}
	return s.temp.keep(), nil
}

func (s *blank) drop() {
	if s.temp != nil {
		s.temp.close()
		return
	}
	s.file.Close()
	_ = os.Remove(s.name) // or at the next start
}

// recycle takes a pack's file away from its name. It may be written only after
// its folder was synced.
func (b *Bucket) recycle(name string, size int64) (*blank, error) {
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	s := &blank{file: f, size: size, name: b.tempName()}
	if err := os.Rename(name, s.name); err != nil {
		f.Close()
		return nil, err
	}
	return s, nil
}

func (b *Bucket) wantsSpare() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.shut && len(b.spares) < maxSpares
}

func (b *Bucket) keepSpare(s *blank) {
	b.mu.Lock()
	keep := !b.shut && len(b.spares) < maxSpares
	if keep {
		b.spares = append(b.spares, s)
	}
	b.mu.Unlock()
	if !keep {
		s.drop()
	}
}

// takeSpare returns a spare file of at least need bytes that still has its name:
// another process that starts up may have removed it.
func (b *Bucket) takeSpare(need int64) *blank {
	for {
		b.mu.Lock()
		n := len(b.spares)
		if n == 0 || b.spares[n-1].size < need {
			b.mu.Unlock()
			return nil
		}
		s := b.spares[n-1]
		b.spares = b.spares[:n-1]
		b.mu.Unlock()
		if there, err := exists(s.name); err == nil && there {
			return s
		}
		s.drop()
	}
}
