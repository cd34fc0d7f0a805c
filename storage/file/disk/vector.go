package disk

import "os"

// WriteVectorsAt writes pieces of memory to a file at off, one behind the other, as
// WriteAt does with one. It changes the slice.
func WriteVectorsAt(f *os.File, pieces [][]byte, off int64) error {
	for len(pieces) > 0 {
		now, rest, n := cut(pieces, stride)
		if err := writeVectors(f, now, off); err != nil {
			return err
		}
		if n == stride {
			writeBack(f, off, int64(n))
		}
		pieces, off = rest, off+int64(n)
	}
	return nil
}

// cut divides pieces behind limit bytes. n is how many bytes are in now.
func cut(pieces [][]byte, limit int) (now, rest [][]byte, n int) {
	i := 0
	for i < len(pieces) && n+len(pieces[i]) <= limit {
		n += len(pieces[i])
		i++
	}
	if i == len(pieces) || n == limit {
		return pieces[:i:i], pieces[i:], n
	}
	now = append(pieces[:i:i], pieces[i][:limit-n])
	pieces[i] = pieces[i][limit-n:]
	return now, pieces[i:], limit
}

// behind returns what is left of pieces behind n bytes.
func behind(pieces [][]byte, n int) [][]byte {
	for len(pieces) > 0 && n >= len(pieces[0]) {
		n -= len(pieces[0])
		pieces = pieces[1:]
	}
	if n > 0 {
		pieces[0] = pieces[0][n:]
	}
	return pieces
}
