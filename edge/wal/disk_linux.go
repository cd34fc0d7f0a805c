package wal

import (
	"errors"
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

// unreadable says whether an error of opening or reading a file means that
// its content is gone, as opposed to an error that may pass.
func unreadable(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.EIO) ||
		errors.Is(err, syscall.EBADMSG) || errors.Is(err, syscall.EUCLEAN)
}
