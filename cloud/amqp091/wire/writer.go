package wire

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
)

const (
	copyBody   = 4 << 10  // bytes of a body that are rather copied than written on their own
	keepBuffer = 64 << 10 // bytes of a buffer that Trim leaves
)

// Writer gathers frames, and writes them with one call. It is used by one goroutine at a
// time.
type Writer struct {
	// Spare is where Trim puts memory, and where the next frame gets some; nil: there is no
	// such place.
	Spare *Spare

	max    int    // bytes of a payload
	buf    []byte // frames; buf[from:] belong to no part yet
	from   int
	parts  net.Buffers // what is to be written before buf[from:]
	queued int         // bytes in parts
}

// NewWriter returns a writer whose frame-max is MinFrameMax.
func NewWriter() *Writer { return &Writer{max: MinFrameMax - FrameOverhead} }

// SetFrameMax sets the size of the largest frame, in bytes, as of the next one. 0 is no
// limit.
func (w *Writer) SetFrameMax(n uint32) {
	if n == 0 || n > maxFrameMax {
		n = maxFrameMax
	}
	w.max = int(max(n, MinFrameMax)) - FrameOverhead
}

// Method adds a method frame. After an error, which is ErrTooLong or ErrTooLarge, nothing
// is added.
func (w *Writer) Method(channel uint16, m Method) error {
	if w.buf == nil && w.Spare != nil {
		w.buf = w.Spare.get()
	}
	at := len(w.buf)
	w.buf = appendFrameHeader(w.buf, FrameMethod, channel, 0)
	w.buf = binary.BigEndian.AppendUint32(w.buf, uint32(m.ID()))
	b, err := m.Append(w.buf)
	if err != nil {
		w.buf = w.buf[:at]
		return err
	}
	w.buf = b
	n := len(b) - at - frameHeaderLen
	if n > w.max {
		w.buf = w.buf[:at]
		return fmt.Errorf("%v of %d bytes: %w", m.ID(), n, ErrTooLarge)
	}
	binary.BigEndian.PutUint32(b[at+3:], uint32(n))
	w.buf = append(w.buf, frameEnd)
	return nil
}

// Content adds a method, the header that says which content follows, and the body, which
// may be in several pieces, in frames of at most the frame-max. Properties are as
// Properties.Append writes them; none are no bytes. A large piece is not copied: it must
// not change until WriteTo has returned. After an error nothing is added.
func (w *Writer) Content(channel uint16, m Method, properties []byte, body ...[]byte) error {
	if len(properties) == 0 {
		properties = []byte{0, 0}
	}
	size := 0
	for _, piece := range body {
		size += len(piece)
	}
	n := contentHeaderLen + len(properties)
	if n > w.max {
		return fmt.Errorf("content header of %d bytes: %w", n, ErrTooLarge)
	}
	if err := w.Method(channel, m); err != nil {
		return err
	}
	w.buf = appendFrameHeader(w.buf, FrameHeader, channel, n)
	w.buf = ContentHeader{Class: m.ID().Class(), Size: uint64(size), Properties: properties}.Append(w.buf)
	w.buf = append(w.buf, frameEnd)
	w.body(channel, size, body)
	return nil
}

// body adds size bytes in body frames, each of which is full but the last.
func (w *Writer) body(channel uint16, size int, body [][]byte) {
	var piece []byte
	for size > 0 {
		n := min(size, w.max)
		size -= n
		w.buf = appendFrameHeader(w.buf, FrameBody, channel, n)
		for n > 0 {
			if len(piece) == 0 {
				piece, body = body[0], body[1:]
			}
			k := min(n, len(piece))
			w.bytes(piece[:k])
			piece, n = piece[k:], n-k
		}
		w.buf = append(w.buf, frameEnd)
	}
}

// bytes adds p: a short one to buf, a long one as a part of its own.
func (w *Writer) bytes(p []byte) {
	if len(p) <= copyBody {
		w.buf = append(w.buf, p...)
		return
	}
	w.parts = append(w.parts, w.buf[w.from:len(w.buf):len(w.buf)], p)
	w.queued += len(w.buf) - w.from + len(p)
	w.from = len(w.buf)
}

// Frame adds a frame as it was read. Its payload is copied.
func (w *Writer) Frame(f Frame) {
	if w.buf == nil && w.Spare != nil {
		w.buf = w.Spare.get()
	}
	w.buf = appendFrameHeader(w.buf, f.Type, f.Channel, len(f.Payload))
	w.buf = append(append(w.buf, f.Payload...), frameEnd)
}

// Heartbeat adds a heartbeat.
func (w *Writer) Heartbeat() {
	w.buf = append(appendFrameHeader(w.buf, FrameHeartbeat, 0, 0), frameEnd)
}

// Len returns how many bytes wait for WriteTo.
func (w *Writer) Len() int { return w.queued + len(w.buf) - w.from }

// WriteTo writes what has been added, and forgets it, whether or not it could be written.
func (w *Writer) WriteTo(dst io.Writer) (int64, error) {
	defer w.reset()
	if len(w.parts) == 0 {
		n, err := dst.Write(w.buf)
		return int64(n), err
	}
	w.parts = append(w.parts, w.buf[w.from:])
	parts := w.parts
	n, err := w.parts.WriteTo(dst)
	clear(parts)
	w.parts = parts[:0]
	return n, err
}

func (w *Writer) reset() { w.buf, w.from, w.queued = w.buf[:0], 0, 0 }

// Trim gives up most of its memory if nothing waits. It is for a connection that has
// nothing to write for a while.
func (w *Writer) Trim() {
	if w.Len() > 0 || cap(w.buf) <= keepBuffer {
		return
	}
	if w.Spare != nil {
		w.Spare.put(w.buf)
	}
	w.buf = nil
}

// Spare is memory that writers of many connections use in turn. The zero value is empty.
type Spare struct{ pool sync.Pool }

func (s *Spare) get() []byte {
	if p, ok := s.pool.Get().(*[]byte); ok {
		return *p
	}
	return nil
}

func (s *Spare) put(p []byte) {
	p = p[:0]
	s.pool.Put(&p)
}
