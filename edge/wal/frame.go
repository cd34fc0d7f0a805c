package wal

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/weirmq/weir/storage/crc"
	"github.com/weirmq/weir/storage/weir"
)

// A frame is what this package appends to any file: a header, which has a
// checksum of its own, and a body. FORMAT.md has the byte table.
const (
	frameMagic   = "\xf7WFr"
	frameVersion = 1
	headerSize   = 32

	// maxBody is the largest body of a frame, in bytes.
	maxBody = 16 << 20

	// maxPrefix is the length of the longest length that tidwall/wal puts in
	// front of an entry.
	maxPrefix = binary.MaxVarintLen64
)

// kind is the type of a frame's body.
type kind byte

const (
	kindRecords kind = 1 // in segments: records of consecutive sequences
	kindGap     kind = 2 // in a lane's list of gaps
	kindRow     kind = 3 // in a buffer's map table
	kindRetired kind = 4 // in the list of retired buffers
	kindDead    kind = 5 // in dead letter files
	kindEnded   kind = 6 // in the list of ended buffers
	kindLetters kind = 7 // in the files of refused letters
)

// salt goes into the checksum of every header. So a frame is valid only in the file of
// the buffer and lane that it was written to, even if a damaged file system puts old
// blocks into another file.
type salt uint32

// saltOf returns the salt of a file that belongs to a buffer.
func saltOf(id weir.BufferID, part byte) salt {
	return salt(crc.Sum(append(id[:], part)))
}

// Parts of a buffer other than lanes, for saltOf.
const (
	partRows    = 0x80
	partRetired = 0x81
	partDead    = 0x82
	partCounter = 0x83
	partLatest  = 0x84
	partEnded   = 0x85
	partLetters = 0x86
	partMarks   = 0x40 // with the lane added
	partGaps    = 0x20 // with the lane added
)

// header is the first part of a frame.
type header struct {
	kind  kind
	first uint64 // sequence of the first record; other kinds count their frames from 1
	count uint32 // at least 1
	size  int    // of the body
	sum   uint32 // checksum of the body
}

// last returns the sequence of the last record.
func (h header) last() uint64 { return h.first + uint64(h.count) - 1 }

// openFrame begins a frame at the end of dst. The caller appends the body and then
// calls sealFrame with the length that dst had before.
func openFrame(dst []byte) []byte {
	var h [headerSize]byte
	return append(dst, h[:]...)
}

// sealFrame writes the header of the frame that begins at dst[at] and ends
// with dst.
func sealFrame(dst []byte, at int, s salt, k kind, first uint64, count uint32) {
	h, body := dst[at:at+headerSize], dst[at+headerSize:]
	copy(h, frameMagic)
	h[4], h[5], h[6], h[7] = frameVersion, byte(k), 0, 0
	binary.BigEndian.PutUint64(h[8:], first)
	binary.BigEndian.PutUint32(h[16:], count)
	binary.BigEndian.PutUint32(h[20:], uint32(len(body)))
	binary.BigEndian.PutUint32(h[24:], crc.Sum(body))
	binary.BigEndian.PutUint32(h[28:], crc.Update(uint32(s), h[:28]))
}

// parseHeader reads a header from the start of p. It accepts only what
// sealFrame wrote with the same salt.
func parseHeader(p []byte, s salt) (header, bool) {
	if len(p) < headerSize || string(p[:4]) != frameMagic || p[4] != frameVersion || p[6] != 0 || p[7] != 0 {
		return header{}, false
	}
	if binary.BigEndian.Uint32(p[28:]) != crc.Update(uint32(s), p[:28]) {
		return header{}, false
	}
	size := binary.BigEndian.Uint32(p[20:])
	h := header{
		kind:  kind(p[5]),
		first: binary.BigEndian.Uint64(p[8:]),
		count: binary.BigEndian.Uint32(p[16:]),
		size:  int(size),
		sum:   binary.BigEndian.Uint32(p[24:]),
	}
	if size > maxBody || h.count == 0 || h.first == 0 || h.first > math.MaxInt64 {
		return header{}, false
	}
	return h, true
}

// checkBody reports whether body is the one that h was sealed with.
func (h header) checkBody(body []byte) bool {
	return len(body) == h.size && crc.Sum(body) == h.sum
}

// findHeader returns the first valid header at or behind off, and where it begins. ok
// is false if the window ends without one.
//
// A header stands directly behind the frame before or a few bytes later: in segments,
// tidwall/wal puts the frame's length in front. If there is no header at either place,
// the bytes are searched.
func findHeader(src *window, s salt, off int64) (h header, at int64, ok bool, err error) {
	p, err := src.peek(off, maxPrefix+headerSize)
	if err != nil {
		return header{}, 0, false, err
	}
	if size, n := binary.Uvarint(p); n > 0 {
		if h, ok := parseHeader(p[n:], s); ok && size == uint64(headerSize+h.size) {
			return h, off + int64(n), true, nil
		}
	}
	const chunk = 32 << 10
	for at = off; ; {
		p, err := src.peek(at, chunk)
		if err != nil || len(p) < headerSize {
			return header{}, 0, false, err
		}
		if h, i := searchHeader(p, s); i >= 0 {
			return h, at + int64(i), true, nil
		}
		at += int64(len(p) - headerSize + 1)
	}
}

// searchHeader returns the first valid header that lies completely in p, and where it
// begins; -1 if there is none.
func searchHeader(p []byte, s salt) (header, int) {
	for at := 0; ; at++ {
		i := bytes.Index(p[at:], []byte(frameMagic))
		if i < 0 || len(p)-at-i < headerSize {
			return header{}, -1
		}
		at += i
		if h, ok := parseHeader(p[at:], s); ok {
			return h, at
		}
	}
}

// readBody returns the body of the frame whose header begins at at. ok is false if the
// body is damaged or cut short. The body is valid until the window's next call.
func readBody(src *window, h header, at int64) (body []byte, ok bool, err error) {
	body, err = src.peek(at+headerSize, h.size)
	if err != nil {
		return nil, false, err
	}
	return body, h.checkBody(body), nil
}

// end returns where the frame that begins at at ends.
func (h header) end(at int64) int64 { return at + headerSize + int64(h.size) }

// corrupt wraps ErrCorrupt with what is wrong.
func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
}
