package wal

import (
	"errors"
	"io/fs"
	"os"
	"syscall"

	"github.com/weirmq/weir/storage/crc"
)

// dataSync makes what was written to f durable, including its length.
func dataSync(f *os.File) error {
	for {
		err := syscall.Fdatasync(int(f.Fd()))
		if err != syscall.EINTR {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}

// bootID returns the checksum of the kernel's id of this start of the machine; 0 if
// there is none.
func bootID() uint32 {
	name, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return 0
	}
	return max(1, crc.Sum(name))
}

// unreadable reports whether an error of opening or reading a file means that its
// content is gone. Other errors may be temporary.
func unreadable(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.EIO) ||
		errors.Is(err, syscall.EBADMSG) || errors.Is(err, syscall.EUCLEAN)
}
