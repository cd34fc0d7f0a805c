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

// snappyRatio is more than snappy can compress: its best element makes 64 bytes of 3. A
// block that declares more is invalid.
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
	raw, src, err := cutXerialHeader(src)
	switch {
	case err != nil:
		return dst, err
	case raw:
		return inflateSnappyBlock(dst, src, limit)
	}
	for len(src) > 0 {
		var block []byte
		if block, src, err = cutXerialBlock(src); err != nil {
			return dst, err
		}
		if dst, err = inflateSnappyBlock(dst, block, limit); err != nil {
			return dst, err
		}
	}
	return dst, nil
}

// cutXerialHeader cuts the header off p; raw reports that there is none and p is one
// block.
func cutXerialHeader(p []byte) (raw bool, rest []byte, err error) {
	if len(p) < xerialHeaderSize || string(p[:len(xerialMagic)]) != xerialMagic {
		return true, p, nil
	}
	version := binary.BigEndian.Uint32(p[len(xerialMagic):])
	if version < xerialVersion {
		return false, p, fmt.Errorf("%w: xerial version %d", ErrCorrupt, version)
	}
	return false, p[xerialHeaderSize:], nil
}

// cutXerialBlock cuts the first block off p.
func cutXerialBlock(p []byte) (block, rest []byte, err error) {
	if len(p) < 4 {
		return nil, p, fmt.Errorf("%w: xerial framing is cut", ErrCorrupt)
	}
	size := binary.BigEndian.Uint32(p)
	p = p[4:]
	if uint64(size) > uint64(len(p)) {
		return nil, p, fmt.Errorf("%w: xerial block of %d bytes, %d left", ErrCorrupt, size, len(p))
	}
	return p[:size], p[size:], nil
}

// snappyBound returns how many bytes the blocks of src declare.
func snappyBound(src []byte) (bound int64, ok bool) {
	raw, src, err := cutXerialHeader(src)
	if raw {
		n, err := s2.DecodedLen(src)
		return int64(n), err == nil
	}
	for err == nil && len(src) > 0 {
		var block []byte
		if block, src, err = cutXerialBlock(src); err == nil {
			var n int
			n, err = s2.DecodedLen(block)
			bound += int64(n)
		}
	}
	return bound, err == nil
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
