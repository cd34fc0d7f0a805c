package record

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/klauspost/compress/gzip"
)

// The fastest level: a producer that wants small batches takes zstd, which is both
// smaller and faster.
var gzipWriters = sync.Pool{New: func() any {
	w, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed) // an error only for an invalid level
	return w
}}

func deflateGzip(dst, src []byte) ([]byte, error) {
	w := gzipWriters.Get().(*gzip.Writer)
	defer gzipWriters.Put(w)
	out := bytes.NewBuffer(dst)
	w.Reset(out)
	if _, err := w.Write(src); err != nil {
		return dst, err
	}
	if err := w.Close(); err != nil {
		return dst, err
	}
	return out.Bytes(), nil
}

type gzipReader struct {
	src   bytes.Reader
	inner gzip.Reader
}

var gzipReaders = sync.Pool{New: func() any { return new(gzipReader) }}

// gzipGuess returns the size that the last member declares at its end. It may be wrong,
// and there may be other members before it.
func gzipGuess(src []byte) int64 {
	if len(src) < 4 {
		return 0
	}
	return int64(binary.LittleEndian.Uint32(src[len(src)-4:]))
}

func inflateGzip(dst, src []byte, limit int) ([]byte, error) {
	r := gzipReaders.Get().(*gzipReader)
	defer gzipReaders.Put(r)
	defer r.src.Reset(nil)
	r.src.Reset(src)
	if err := r.inner.Reset(&r.src); err != nil {
		return dst, fmt.Errorf("%w: %v", ErrCorrupt, err)
	}
	for {
		// Make room for one byte beyond the limit, to notice that there is more.
		if len(dst) == cap(dst) {
			dst = slices.Grow(dst, min(max(4<<10, len(src), len(dst)), limit-len(dst)+1))
		}
		n, err := r.inner.Read(dst[len(dst):cap(dst)])
		dst = dst[:len(dst)+n]
		switch {
		case len(dst) > limit:
			return dst, tooLarge(limit)
		case err == io.EOF:
			return dst, nil
		case err != nil:
			return dst, fmt.Errorf("%w: %v", ErrCorrupt, err)
		}
	}
}
