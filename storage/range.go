package storage

import (
	"fmt"
	"io/fs"
)

// Range cuts the range that Get was asked for, n bytes from off or all if
// n < 0, to an object of size bytes, for buckets that cut by themselves. The
// only error is fs.ErrInvalid, for a negative off.
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
