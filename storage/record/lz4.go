package record

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sync"

	"github.com/pierrec/lz4/v4"
)

// The LZ4 frame format, version 1.6.1, as far as Kafka supports it (little endian):
//
//	magic 4 | FLG 1 | BD 1 | [content size 8] | HC 1 |
//	(block size 4 | block | [checksum 4])* | 0 4 | [content checksum 4]
//
// Linked blocks, dictionaries, legacy and skippable frames are refused, because Kafka's
// Java client cannot read them. Frames are parsed here and not by the library's reader,
// which allocates two buffers of the frame's block size, up to 8 MiB, however short the
// input is.
const (
	lz4Magic     = "\x04\x22\x4d\x18"
	lz4BlockSize = 64 << 10

	// lz4Header begins every frame that we write: independent blocks of
	// lz4BlockSize without checksums, which the batch's CRC makes needless.
	lz4Header = lz4Magic + "\x60\x40\x82"

	lz4Version         = 0x40 // FLG
	lz4VersionMask     = 0xc0
	lz4Independent     = 0x20
	lz4BlockChecksum   = 0x10
	lz4ContentSize     = 0x08
	lz4ContentChecksum = 0x04
	lz4FlagsReserved   = 0x03 // a reserved bit, and the one for dictionaries
	lz4BlockReserved   = 0x8f // BD

	lz4Plain = 1 << 31 // in a block's size: it is not compressed
)

// lz4Ratio is more than LZ4 can compress: a byte adds at most 255 to a
// length.
const lz4Ratio = 256

var lz4Compressors = sync.Pool{New: func() any { return new(lz4.Compressor) }}

func deflateLZ4(dst, src []byte) []byte {
	c := lz4Compressors.Get().(*lz4.Compressor)
	defer lz4Compressors.Put(c)
	dst = append(dst, lz4Header...)
	for plain := range slices.Chunk(src, lz4BlockSize) {
		at := len(dst) + 4
		dst = grow(dst, 4+len(plain))
		// The destination is one byte shorter than plain: 0 or an error means that the
		// block did not shrink.
		n, err := c.CompressBlock(plain, dst[at:at+len(plain)-1])
		if err != nil || n == 0 {
			dst = binary.LittleEndian.AppendUint32(dst, uint32(len(plain))|lz4Plain)
			dst = append(dst, plain...)
			continue
		}
		dst = binary.LittleEndian.AppendUint32(dst, uint32(n))
		dst = dst[:at+n]
	}
	return append(dst, 0, 0, 0, 0)
}

// lz4Frame is what the header of a frame says.
type lz4Frame struct {
	flags     byte
	blockSize int
	size      uint64 // of the content, if flags has lz4ContentSize
}

func inflateLZ4(dst, src []byte, limit int) ([]byte, error) {
	f, src, ok := cutLZ4Header(src)
	if !ok {
		return dst, fmt.Errorf("%w: lz4 frame header", ErrCorrupt)
	}
	for {
		if len(src) < 4 {
			return dst, fmt.Errorf("%w: lz4 frame is cut", ErrCorrupt)
		}
		mark := binary.LittleEndian.Uint32(src)
		src = src[4:]
		if mark == 0 {
			break
		}
		var err error
		if dst, src, err = f.inflateBlock(dst, src, mark); err != nil {
			return dst, err
		}
		if len(dst) > limit {
			return dst, tooLarge(limit)
		}
	}
	return dst, f.checkEnd(src, uint64(len(dst)), func() uint32 { return xxh32(dst) })
}

// checkEnd checks what follows the last block. src is all that is left, size the number
// of bytes that the blocks held, and sum returns their checksum.
func (f lz4Frame) checkEnd(src []byte, size uint64, sum func() uint32) error {
	if f.flags&lz4ContentChecksum != 0 {
		if len(src) < 4 || binary.LittleEndian.Uint32(src) != sum() {
			return fmt.Errorf("%w: lz4 content checksum", ErrCorrupt)
		}
		src = src[4:]
	}
	if f.flags&lz4ContentSize != 0 && f.size != size {
		return fmt.Errorf("%w: lz4 content has %d bytes, header says %d", ErrCorrupt, size, f.size)
	}
	if len(src) > 0 {
		return fmt.Errorf("%w: %d bytes behind the lz4 frame", ErrCorrupt, len(src))
	}
	return nil
}

// lz4Bound is the most that the blocks of a frame can hold.
func lz4Bound(p []byte) (bound int64, ok bool) {
	f, p, ok := cutLZ4Header(p)
	for ok && len(p) >= 4 {
		mark := binary.LittleEndian.Uint32(p)
		if p = p[4:]; mark == 0 {
			return bound, true
		}
		size := int64(mark &^ lz4Plain)
		if f.flags&lz4BlockChecksum != 0 {
			p = p[min(4, len(p)):]
		}
		if size > int64(len(p)) {
			break
		}
		if p = p[size:]; mark&lz4Plain == 0 {
			size = min(int64(f.blockSize), lz4Ratio*size)
		}
		bound += size
	}
	return 0, false
}

func cutLZ4Header(p []byte) (f lz4Frame, rest []byte, ok bool) {
	if len(p) < len(lz4Header) || string(p[:len(lz4Magic)]) != lz4Magic {
		return f, p, false
	}
	p = p[len(lz4Magic):]
	f.flags = p[0]
	end := 2 // of the descriptor: where its checksum lies
	if f.flags&lz4ContentSize != 0 {
		end += 8
	}
	if len(p) <= end || p[end] != byte(xxh32(p[:end])>>8) {
		return f, p, false
	}
	if f.flags&lz4ContentSize != 0 {
		f.size = binary.LittleEndian.Uint64(p[2:])
	}
	sizeID := p[1] >> 4 & 7 // 4 to 7: 64 KiB, 256 KiB, 1 MiB, 4 MiB
	f.blockSize = 1 << (8 + 2*sizeID)
	ok = f.flags&lz4VersionMask == lz4Version && f.flags&lz4Independent != 0 &&
		f.flags&lz4FlagsReserved == 0 && p[1]&lz4BlockReserved == 0 && sizeID >= 4
	return f, p[end+1:], ok
}

// inflateBlock appends the block that src begins with to dst. A block is at most
// blockSize long, so the caller can check the limit afterwards.
func (f lz4Frame) inflateBlock(dst, src []byte, mark uint32) (out, rest []byte, err error) {
	size := int64(mark &^ lz4Plain)
	if size > int64(len(src)) || size > int64(f.blockSize) {
		return dst, src, fmt.Errorf("%w: lz4 block of %d bytes, %d left", ErrCorrupt, size, len(src))
	}
	block, src := src[:size], src[size:]
	if f.flags&lz4BlockChecksum != 0 {
		if len(src) < 4 || binary.LittleEndian.Uint32(src) != xxh32(block) {
			return dst, src, fmt.Errorf("%w: lz4 block checksum", ErrCorrupt)
		}
		src = src[4:]
	}
	if mark&lz4Plain != 0 {
		return append(dst, block...), src, nil
	}
	room := min(f.blockSize, lz4Ratio*len(block))
	dst = grow(dst, room)
	n, err := lz4.UncompressBlock(block, dst[len(dst):len(dst)+room])
	if err != nil {
		return dst, src, fmt.Errorf("%w: %v", ErrCorrupt, err)
	}
	return dst[:len(dst)+n], src, nil
}
