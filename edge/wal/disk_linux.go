package wal

import (
	"errors"
	"hash/crc32"
	"io/fs"
	"os"
	"syscall"
)

// dataSync makes what was written to f durable, its length included.
func dataSync(f *os.File) error {
	for {
		err := syscall.Fdatasync(int(f.Fd()))
		if err != syscall.EINTR {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}

// bootID is the checksum of the name that the kernel gave this start of the
// machine; 0 when there is none.
func bootID() uint32 {
	name, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return 0
	}
	return max(1, crc32.Checksum(name, castagnoli))
}

// unreadable reports whether an error of opening or reading a file means that
// its content is gone, as opposed to an error that may pass.
func unreadable(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.EIO) ||
		errors.Is(err, syscall.EBADMSG) || errors.Is(err, syscall.EUCLEAN)
}
