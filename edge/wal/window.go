package wal

import (
	"io"
	"os"
)

const (
	windowSize = 64 << 10
	blockSize  = 4 << 10
	// windowKeep is the largest buffer that a window keeps between two reads.
	windowKeep = 1 << 20
)

// window reads a file at any offset through one small buffer. Its zero value reads
// nothing. It is for one goroutine at a time.
type window struct {
	file *os.File
	data []byte // read instead of a file if not nil
	at   int64  // offset of buf in the file
	buf  []byte
	size int // smallest number of bytes to read; 0 is windowSize
}

// windowOn returns a window on bytes in memory.
func windowOn(data []byte) *window { return &window{data: data} }

// open points the window at a file.
func (w *window) open(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	w.close()
	w.file = f
	return nil
}

// close closes the file.
func (w *window) close() {
	if w.file != nil {
		w.file.Close()
	}
	w.file = nil
	w.forget()
}

// forget drops the buffer, so that the next peek reads the file again.
func (w *window) forget() {
	w.at, w.buf = 0, w.buf[:0]
	w.shrink()
}

// shrink frees the memory that a large frame took.
func (w *window) shrink() {
	if cap(w.buf) > windowKeep {
		w.at, w.buf = 0, nil
	}
}

// peek returns n bytes at off, or fewer where the file ends. They are valid until the
// next call. It returns zeros for blocks that the disk cannot read any more: they count
// as damage like any other.
func (w *window) peek(off int64, n int) ([]byte, error) {
	if w.data != nil {
		p := w.data[min(off, int64(len(w.data))):]
		return p[:min(n, len(p))], nil
	}
	if off >= w.at && off+int64(n) <= w.at+int64(len(w.buf)) {
		return w.buf[off-w.at:][:n], nil
	}
	want := w.size
	if want == 0 {
		want = windowSize
	}
	want = max(want, n)
	if cap(w.buf) < want {
		w.buf = make([]byte, want)
	}
	w.at, w.buf = off, w.buf[:want]
	got, err := w.file.ReadAt(w.buf, off)
	if unreadable(err) {
		got, err = w.salvage(w.buf, off)
	}
	w.buf = w.buf[:got]
	if err != nil && err != io.EOF {
		w.forget()
		return nil, err
	}
	return w.buf[:min(n, got)], nil
}

// salvage reads p block by block, and leaves zeros for blocks that cannot be read.
func (w *window) salvage(p []byte, off int64) (int, error) {
	st, err := w.file.Stat()
	if err != nil {
		return 0, err
	}
	p = p[:max(0, min(int64(len(p)), st.Size()-off))]
	for i := 0; i < len(p); {
		n := min(len(p)-i, blockSize-int((off+int64(i))%blockSize))
		if _, err := w.file.ReadAt(p[i:i+n], off+int64(i)); err != nil {
			clear(p[i : i+n])
		}
		i += n
	}
	return len(p), nil
}
