//go:build !linux

package disk

import (
	"errors"
	"os"
)

// datasync makes durable what is in a file. Not every system can leave out its
// times.
func datasync(f *os.File) error { return f.Sync() }

// FreeSpace returns how many bytes are free on the file system of dir; systems
// differ in how they are asked.
func FreeSpace(string) (int64, bool) { return 0, false }

func allocate(*os.File, int64) error { return errors.ErrUnsupported }

func writeBack(*os.File, int64, int64) {}

func Reserve(*os.File, int64) {}
