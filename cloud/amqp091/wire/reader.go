package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

const (
	minBuffer = 4 << 10  // bytes that a connection costs while little arrives
	maxBuffer = 32 << 10 // a larger frame is read into memory of its own
)

// Reader reads frames. Its buffer grows with what arrives, up to maxBuffer: a length that
// a peer announces takes no memory before the bytes are there. It is used by one goroutine.
type Reader struct {
	r        io.Reader
	frameMax int    // also the limit of a payload: see SetFrameMax
	buf      []byte // buf[from:to] has arrived and is not used yet
	from, to int
}

// NewReader returns a reader of frames from r, which comes after the preface. Its frame-max
// is MinFrameMax.
func NewReader(r io.Reader) *Reader {
	c := &Reader{r: r, buf: make([]byte, minBuffer)}
	c.SetFrameMax(MinFrameMax)
	return c
}

// SetFrameMax sets the size of the largest frame, in bytes, as of the next one. 0 is no
// limit but that of memory.
//
// Many clients count the 8 bytes around the payload wrongly. So a frame that is larger by
// those is accepted, as by RabbitMQ.
func (c *Reader) SetFrameMax(n uint32) {
	if n == 0 || n > maxFrameMax {
		n = maxFrameMax
	}
	c.frameMax = int(max(n, MinFrameMax))
}

// Next reads the next frame. It returns io.EOF if the stream ended between two frames, and
// io.ErrUnexpectedEOF if it ended inside of one. After an *Error nothing more can be read:
// where the next frame begins is not known.
func (c *Reader) Next() (Frame, error) {
	if err := c.fill(frameHeaderLen); err != nil {
		return Frame{}, err
	}
	head := c.buf[c.from:]
	f := Frame{Type: FrameType(head[0]), Channel: binary.BigEndian.Uint16(head[1:])}
	size := binary.BigEndian.Uint32(head[3:])
	if uint64(size) > uint64(c.frameMax) {
		return Frame{}, badFrame(FrameError, f, fmt.Sprintf("{frame_too_large,%d,%d}", size, c.frameMax-FrameOverhead))
	}
	n := int(size)
	var err error
	if n+FrameOverhead <= maxBuffer {
		err = c.small(&f, n)
	} else {
		err = c.large(&f, n)
	}
	if err != nil {
		return Frame{}, noEOF(err)
	}
	end := c.buf[c.from]
	c.from++
	if end != frameEnd {
		return Frame{}, badFrame(FrameError, f, fmt.Sprintf("{invalid_frame_end_marker,%d}", end))
	}
	return f, f.check()
}

// small makes the payload a part of the buffer.
func (c *Reader) small(f *Frame, n int) error {
	if err := c.fill(n + FrameOverhead); err != nil {
		return err
	}
	at := c.from + frameHeaderLen
	f.Payload = c.buf[at : at+n : at+n]
	c.from = at + n
	return nil
}

// large reads the payload into memory of its own, which grows as bytes arrive.
func (c *Reader) large(f *Frame, n int) error {
	c.from += frameHeaderLen
	p := append(make([]byte, 0, maxBuffer), c.buf[c.from:c.to]...)
	if len(p) > n {
		p = p[:n]
	}
	c.from += len(p)
	for len(p) < n {
		if len(p) == cap(p) {
			p = append(make([]byte, 0, min(2*len(p), n)), p...)
		}
		got, err := io.ReadFull(c.r, p[len(p):min(cap(p), n)])
		p = p[:len(p)+got]
		if err != nil {
			return err
		}
	}
	f.Payload, f.Owned = p, true
	return c.fill(1)
}

// Buffered reports whether the next frame has arrived as a whole: Next would not wait. A
// server that has more to read puts off writing its answers.
func (c *Reader) Buffered() bool {
	have := c.buf[c.from:c.to]
	if len(have) < FrameOverhead {
		return false
	}
	return uint64(binary.BigEndian.Uint32(have[3:]))+FrameOverhead <= uint64(len(have))
}

// fill reads until n bytes, at most maxBuffer, are in the buffer.
func (c *Reader) fill(n int) error {
	for tries := 0; c.to-c.from < n; tries++ {
		c.makeRoom()
		got, err := c.r.Read(c.buf[c.to:])
		c.to += got
		switch {
		case got > 0:
			tries = 0
		case errors.Is(err, io.EOF) && c.from < c.to:
			return io.ErrUnexpectedEOF
		case err != nil:
			return err
		case tries == 100:
			return io.ErrNoProgress
		}
	}
	return nil
}

// makeRoom moves what has arrived to the front of the buffer, and doubles the buffer if it
// is full of it.
func (c *Reader) makeRoom() {
	if c.to < len(c.buf) && c.from < c.to {
		return
	}
	if c.from == 0 && c.to == len(c.buf) {
		c.buf = append(c.buf, make([]byte, len(c.buf))...)
		return
	}
	c.to = copy(c.buf, c.buf[c.from:c.to])
	c.from = 0
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
