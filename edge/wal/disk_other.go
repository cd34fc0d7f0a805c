//go:build !linux

package wal

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// dataSync makes what was written to f durable, its length included.
func dataSync(f *os.File) error { return f.Sync() }

// bootID is 0: whether the machine has been started since is not known here.
func bootID() uint32 { return 0 }

// unreadable reports whether an error of opening or reading a file means that
// its content is gone, as opposed to an error that may pass.
func unreadable(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.EIO)
}
