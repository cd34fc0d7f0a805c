//go:build !linux

package disk

import "os"

// writeVectors writes pieces of memory to a file, one behind the other.
func writeVectors(f *os.File, pieces [][]byte, off int64) error {
	for _, p := range pieces {
		if _, err := f.WriteAt(p, off); err != nil {
			return err
		}
		off += int64(len(p))
	}
	return nil
}
