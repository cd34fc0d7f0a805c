package disk

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// maxVectors is how many pieces of memory Linux takes in one call.
const maxVectors = 1024

// writeVectors writes pieces of memory to a file, one behind the other.
func writeVectors(f *os.File, pieces [][]byte, off int64) error {
	fd := int(f.Fd())
	for len(pieces) > 0 {
		n, err := unix.Pwritev(fd, pieces[:min(len(pieces), maxVectors)], off)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return &os.PathError{Op: "pwritev", Path: f.Name(), Err: err}
		case n == 0:
			return &os.PathError{Op: "pwritev", Path: f.Name(), Err: io.ErrShortWrite}
		}
		off += int64(n)
		pieces = behind(pieces, n)
	}
	return nil
}
