package disk

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// datasync makes the content of a file durable, without its times.
func datasync(f *os.File) error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// FreeSpace returns how many bytes are free on the file system of dir.
func FreeSpace(dir string) (int64, bool) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, false
	}
	return int64(s.Bavail) * int64(s.Bsize), true
}

// writeBack tells the kernel to begin to write a part of a file. It promises nothing: a
// failure shows when the file is synced.
func writeBack(f *os.File, off, n int64) {
	_ = unix.SyncFileRange(int(f.Fd()), off, n, unix.SYNC_FILE_RANGE_WRITE)
}

// writeOut is writeBack, and waits until the part is written. Nothing is durable by it.
func writeOut(f *os.File, off, n int64) {
	const all = unix.SYNC_FILE_RANGE_WAIT_BEFORE | unix.SYNC_FILE_RANGE_WRITE | unix.SYNC_FILE_RANGE_WAIT_AFTER
	_ = unix.SyncFileRange(int(f.Fd()), off, n, all)
}

// allocate sets the size of an empty file to n bytes and reserves the room.
func allocate(f *os.File, n int64) error {
	return unix.Fallocate(int(f.Fd()), 0, 0, n)
}

// punch gives back the space of n bytes of a file.
func punch(f *os.File, off, n int64) error {
	for {
		err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// Reserve reserves room behind the end of a file, so that the next append succeeds even
// if the disk is full. If the file system cannot do that, the append may fail then.
func Reserve(f *os.File, bytes int64) {
	info, err := f.Stat()
	if err == nil {
		_ = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, info.Size(), bytes)
	}
}
