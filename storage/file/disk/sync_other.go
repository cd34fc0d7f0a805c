//go:build !linux

package disk

import (
	"errors"
	"os"
)

// datasync makes the content of a file durable. Not every system can leave out its
// times.
func datasync(f *os.File) error { return f.Sync() }

// FreeSpace is not implemented here: each system has its own call for it.
func FreeSpace(string) (int64, bool) { return 0, false }

func allocate(*os.File, int64) error { return errors.ErrUnsupported }

func punch(*os.File, int64, int64) error { return errors.ErrUnsupported }

func writeBack(*os.File, int64, int64) {}

func Reserve(*os.File, int64) {}

func writeOut(*os.File, int64, int64) {}
