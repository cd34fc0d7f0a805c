//go:build !linux

package wal

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// dataSync makes what was written to f durable, including its length.
func dataSync(f *os.File) error { return f.Sync() }

// bootID returns 0: it is not known here whether the machine has been restarted.
func bootID() uint32 { return 0 }

// unreadable reports whether an error of opening or reading a file means that its
// content is gone. Other errors may be temporary.
func unreadable(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.EIO)
}
