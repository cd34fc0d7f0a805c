package storage

import (
	"fmt"
	"io/fs"
)

// Range limits the range of a Get, n bytes from off or all if n < 0, to an object of
// size bytes. It is for buckets that cut ranges themselves. The only error is
// fs.ErrInvalid, for a negative off.
func Range(size, off, n int64) (from, length int64, err error) {
	if off < 0 {
		return 0, 0, fmt.Errorf("%w: negative offset %d", fs.ErrInvalid, off)
	}
	if off >= size {
		return size, 0, nil
	}
	if n < 0 || n > size-off {
		n = size - off
	}
	return off, n, nil
}
