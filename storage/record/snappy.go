package record

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/klauspost/compress/s2"
)

// Kafka's Java clients wrap snappy in the framing of the xerial library:
//
//	magic 8 | version 4 | oldest compatible version 4 | (length 4 | block)*
//
// with big-endian integers and blocks that each are raw snappy. Others write
// one raw block. Java reads both; we read both and write what Java writes.
const (
	xerialMagic      = "\x82SNAPPY\x00"
	xerialHeader     = xerialMagic + "\x00\x00\x00\x01\x00\x00\x00\x01"
	xerialVersion    = 1
	xerialHeaderSize = len(xerialHeader)
	xerialBlockSize  = 32 << 10 // of plain bytes, as xerial writes them
)

// snappyRatio is more than snappy can compress: its best element makes 64
// bytes of 3. A block that declares more lies, or is not snappy.
const snappyRatio = 22

func deflateSnappy(dst, src []byte) []byte {
	dst = append(dst, xerialHeader...)
	for plain := range slices.Chunk(src, xerialBlockSize) {
		at := len(dst)
		dst = grow(dst, 4+s2.MaxEncodedLen(len(plain)))
		block := s2.EncodeSnappy(dst[at+4:cap(dst)], plain) // in place: there is room
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(block)))
		dst = dst[:at+4+len(block)]
	}
	return dst
}

func inflateSnappy(dst, src []byte, limit int) ([]byte, error) {
	if len(src) < xerialHeaderSize || string(src[:len(xerialMagic)]) != xerialMagic {
		return inflateSnappyBlock(dst, src, limit)
	}
	version := binary.BigEndian.Uint32(src[len(xerialMagic):])
	if version < xerialVersion {
		return dst, fmt.Errorf("%w: xerial version %d", ErrCorrupt, version)
	}
	for src = src[xerialHeaderSize:]; len(src) > 0; {
		if len(src) < 4 {
			return dst, fmt.Errorf("%w: xerial framing is cut", ErrCorrupt)
		}
		size := binary.BigEndian.Uint32(src)
		src = src[4:]
		if uint64(size) > uint64(len(src)) {
			return dst, fmt.Errorf("%w: xerial block of %d bytes, %d left", ErrCorrupt, size, len(src))
		}
		var err error
		if dst, err = inflateSnappyBlock(dst, src[:size], limit); err != nil {
			return dst, err
		}
		src = src[size:]
	}
	return dst, nil
}

// inflateSnappyBlock appends one raw block to dst.
func inflateSnappyBlock(dst, src []byte, limit int) ([]byte, error) {
	size, err := s2.DecodedLen(src)
	switch {
	case err != nil:
		return dst, fmt.Errorf("%w: %v", ErrCorrupt, err)
	case int64(size) > snappyRatio*int64(len(src)):
		return dst, fmt.Errorf("%w: %d bytes of snappy cannot hold %d", ErrCorrupt, len(src), size)
	case size > limit-len(dst):
		return dst, tooLarge(limit)
	}
	at := len(dst)
	dst = grow(dst, size)
	if _, err := s2.Decode(dst[at:at+size], src); err != nil { // in place: there is room
		return dst, fmt.Errorf("%w: %v", ErrCorrupt, err)
	}
	return dst[:at+size], nil
}
