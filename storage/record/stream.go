package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// pieces are inflated records, one piece after the other.
type pieces struct {
	// next returns a piece, which is valid until the next call. io.EOF after the last
	// one means that all checksums matched.
	next  func() ([]byte, error)
	close func() // called once, after the last next
}

// pieces begins to inflate src. limit bounds each piece, not the whole.
func (c Codec) pieces(src []byte, limit int) (pieces, error) {
	switch c {
	case Gzip:
		return newGzipPieces(src)
	case Snappy:
		return newSnappyPieces(src, limit)
	case LZ4:
		return newLZ4Pieces(src)
	case Zstd:
		return newZstdPieces(src)
	}
	return pieces{}, fmt.Errorf("%w: unknown codec %d", ErrCorrupt, int8(c))
}

// pieceSize is how many bytes are inflated at a time by codecs that can stop anywhere.
const pieceSize = 64 << 10

// pieceReader makes pieces of what the reader of a codec returns.
type pieceReader struct {
	inner io.Reader
	buf   []byte
	ended bool
}

// piecesOf returns the pieces that inner inflates.
func piecesOf(inner io.Reader, closed func()) pieces {
	r := &pieceReader{inner: inner, buf: make([]byte, pieceSize)}
	return pieces{r.next, closed}
}

func (r *pieceReader) next() ([]byte, error) {
	if r.ended {
		return nil, io.EOF
	}
	n, err := io.ReadFull(r.inner, r.buf)
	switch {
	case err == io.EOF:
		return nil, io.EOF
	case err == io.ErrUnexpectedEOF && n > 0 && r.atEnd():
		r.ended = true
		return r.buf[:n], nil
	case err != nil:
		return nil, fmt.Errorf("%w: %v", ErrCorrupt, err)
	}
	return r.buf, nil
}

// atEnd reports whether the data has ended and was not cut, which io.ReadFull does not
// tell.
func (r *pieceReader) atEnd() bool {
	n, err := r.inner.Read(make([]byte, 1))
	return n == 0 && err == io.EOF
}

func newGzipPieces(src []byte) (pieces, error) {
	g := gzipReaders.Get().(*gzipReader)
	g.src.Reset(src)
	if err := g.inner.Reset(&g.src); err != nil {
		gzipReaders.Put(g)
		return pieces{}, fmt.Errorf("%w: %v", ErrCorrupt, err)
	}
	return piecesOf(&g.inner, func() {
		g.src.Reset(nil)
		gzipReaders.Put(g)
	}), nil
}

// zstdStreams keep a window of their own; zstdDecoders need one buffer for everything
// that they inflate.
var zstdStreams = sync.Pool{New: func() any {
	d, err := zstd.NewReader(nil,
		zstd.WithDecoderConcurrency(1), // no goroutine
		zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(zstdWindow))
	if err != nil {
		return err
	}
	return d
}}

func newZstdPieces(src []byte) (pieces, error) {
	if _, ok := zstdBound(src); !ok {
		return pieces{}, fmt.Errorf("%w: zstd framing", ErrCorrupt)
	}
	d, ok := zstdStreams.Get().(*zstd.Decoder)
	if !ok {
		return pieces{}, errors.New("zstd decoder refuses its options")
	}
	if err := d.Reset(bytes.NewReader(src)); err != nil {
		zstdStreams.Put(d)
		return pieces{}, fmt.Errorf("%w: %v", ErrCorrupt, err)
	}
	return piecesOf(d, func() {
		_ = d.Reset(nil)
		zstdStreams.Put(d)
	}), nil
}

// piecesOfBlocks returns the pieces of a codec with independent blocks: one for each
// block. more appends a block, or returns io.EOF.
func piecesOfBlocks(more func(dst []byte) ([]byte, error)) pieces {
	var buf []byte
	next := func() (_ []byte, err error) {
		buf, err = more(buf[:0])
		return buf, err
	}
	return pieces{next, func() {}}
}

func newLZ4Pieces(src []byte) (pieces, error) {
	f, src, ok := cutLZ4Header(src)
	if !ok {
		return pieces{}, fmt.Errorf("%w: lz4 frame header", ErrCorrupt)
	}
	var sum xxh32Digest
	total := uint64(0)
	return piecesOfBlocks(func(dst []byte) ([]byte, error) {
		if len(src) < 4 {
			return dst, fmt.Errorf("%w: lz4 frame is cut", ErrCorrupt)
		}
		mark := binary.LittleEndian.Uint32(src)
		if src = src[4:]; mark == 0 {
			if err := f.checkEnd(src, total, sum.sum); err != nil {
				return dst, err
			}
			return dst, io.EOF
		}
		var err error
		if dst, src, err = f.inflateBlock(dst, src, mark); err != nil {
			return dst, err
		}
		if total += uint64(len(dst)); f.flags&lz4ContentChecksum != 0 {
			sum.write(dst)
		}
		return dst, nil
	}), nil
}

func newSnappyPieces(src []byte, limit int) (pieces, error) {
	raw, src, err := cutXerialHeader(src)
	if err != nil {
		return pieces{}, err
	}
	first := true
	return piecesOfBlocks(func(dst []byte) ([]byte, error) {
		if raw {
			if !first {
				return dst, io.EOF
			}
			first = false
			return inflateSnappyBlock(dst, src, limit)
		}
		if len(src) == 0 {
			return dst, io.EOF
		}
		block, rest, err := cutXerialBlock(src)
		if err != nil {
			return dst, err
		}
		src = rest
		return inflateSnappyBlock(dst, block, limit)
	}), nil
}

// stream reads records off pieces. A fault sticks: err says what it was, and nothing
// more is read.
type stream struct {
	pieces pieces
	limit  int64 // bytes that may be inflated in all
	read   int64 // bytes inflated so far
	p      []byte
	err    error // of the pieces

	left   int64 // bytes that are left of the record under way, or of the whole if there is none
	record []byte
}

// fill gets the next piece. It reports false at the end, and after a fault.
func (s *stream) fill() bool {
	for len(s.p) == 0 {
		if s.err != nil {
			return false
		}
		runtime.Gosched() // this may take long: let other goroutines run
		p, err := s.pieces.next()
		if err != nil {
			if err != io.EOF {
				s.err = err
			}
			return false
		}
		if s.read += int64(len(p)); s.read > s.limit {
			s.err = tooLarge(int(s.limit))
			return false
		}
		s.p = p
	}
	return true
}

// uvarint reads at most max bytes.
func (s *stream) uvarint(max int) (uint64, bool) {
	var p [binary.MaxVarintLen64]byte
	for n := range max {
		if s.left == 0 || !s.fill() {
			return 0, false
		}
		p[n] = s.p[0]
		s.p = s.p[1:]
		if s.left--; p[n] < 0x80 {
			u, size := binary.Uvarint(p[:n+1])
			return u, size > 0
		}
	}
	return 0, false
}

func (s *stream) varint() (int32, bool) {
	u, ok := s.uvarint(binary.MaxVarintLen32)
	return int32(uint32(u)>>1) ^ -int32(u&1), ok && u <= math.MaxUint32
}

func (s *stream) varlong() (int64, bool) {
	u, ok := s.uvarint(binary.MaxVarintLen64)
	return int64(u>>1) ^ -int64(u&1), ok
}

// skip passes over n bytes.
func (s *stream) skip(n int64) bool {
	if n < 0 || n > s.left {
		return false
	}
	for s.left -= n; n > 0; {
		if !s.fill() {
			return false
		}
		some := min(n, int64(len(s.p)))
		s.p = s.p[some:]
		n -= some
	}
	return true
}

// take reads n bytes, which are valid until the next call. Memory grows with what is
// there.
func (s *stream) take(n int64) ([]byte, bool) {
	if n < 0 || n > s.left {
		return nil, false
	}
	s.left -= n
	s.record = s.record[:0]
	for int64(len(s.record)) < n {
		if !s.fill() {
			return nil, false
		}
		some := min(n-int64(len(s.record)), int64(len(s.p)))
		s.record = append(slices.Grow(s.record, int(some)), s.p[:some]...)
		s.p = s.p[some:]
	}
	return s.record, true
}

// field passes over a key or a value.
func (s *stream) field(null bool) bool {
	n, ok := s.varint()
	if ok && n == -1 {
		return null
	}
	return ok && s.skip(int64(n))
}

// body passes over the body of a record, and reports whether it is valid.
func (s *stream) body() bool {
	for range 2 { // key and value
		if !s.field(true) {
			return false
		}
	}
	headers, ok := s.varint()
	if !ok || headers < 0 || headers > MaxHeaders || int64(headers) > s.left/2 {
		return false
	}
	for range headers {
		if !s.field(false) || !s.field(true) {
			return false
		}
	}
	return s.left == 0
}

// entry reads the next record. Its body is left out, and checked, unless it is wanted.
func (s *stream) entry(body bool) (e entry, err error) {
	s.left = binary.MaxVarintLen32
	size, ok := s.varint()
	if !ok || size < 0 {
		return e, errEntry
	}
	s.left = int64(size)
	if !s.skip(1) { // attributes
		return e, errEntry
	}
	if e.timestampDelta, ok = s.varlong(); !ok {
		return e, errEntry
	}
	if e.offsetDelta, ok = s.varint(); !ok {
		return e, errEntry
	}
	if !body {
		if e.checked = s.body(); !e.checked {
			return e, errBody
		}
		return e, nil
	}
	if e.body, ok = s.take(s.left); !ok {
		return e, errEntry
	}
	return e, nil
}

var errEntry = fmt.Errorf("%w: a record does not decode", ErrCorrupt)

// walkStream calls w.fn for each record of a stream.
func (b Batch) walkStream(s *stream, w walking) error {
	last := int32(-1)
	for i := range b.Count() {
		e, err := s.entry(w.bodies)
		if err != nil {
			return fmt.Errorf("record %d: %w", i, err)
		}
		if err := b.checkEntry(e, i, last); err != nil {
			return err
		}
		if err := w.fn(e); err != nil {
			return err
		}
		last = e.offsetDelta
	}
	if s.fill() {
		return fmt.Errorf("%w: bytes behind its last record", ErrCorrupt)
	}
	return nil
}
