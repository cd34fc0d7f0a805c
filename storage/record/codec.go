package record

import (
	"fmt"
	"slices"
)

// Codec is a compression of records, by its number in the attributes of a
// batch.
type Codec int8

// The codecs that Kafka knows.
const (
	None Codec = iota
	Gzip
	Snappy
	LZ4
	Zstd
)

var codecNames = [...]string{None: "none", Gzip: "gzip", Snappy: "snappy", LZ4: "lz4", Zstd: "zstd"}

func (c Codec) known() bool { return c >= None && int(c) < len(codecNames) }

// String is the codec's name in Kafka's compression.type.
func (c Codec) String() string {
	if !c.known() {
		return fmt.Sprintf("codec %d", int8(c))
	}
	return codecNames[c]
}

// deflate appends src to dst, compressed.
func (c Codec) deflate(dst, src []byte) ([]byte, error) {
	switch c {
	case None:
		return append(dst, src...), nil
	case Gzip:
		return deflateGzip(dst, src)
	case Snappy:
		return deflateSnappy(dst, src), nil
	case LZ4:
		return deflateLZ4(dst, src), nil
	case Zstd:
		return deflateZstd(dst, src)
	}
	return dst, fmt.Errorf("unknown codec %d", int8(c))
}

// inflate decompresses src into dst, which must be empty. It returns dst, perhaps
// grown, on an error too.
//
// Errors: ErrTooLarge when the result exceeds limit bytes, before more than one block
// beyond limit is allocated; and ErrCorrupt.
func (c Codec) inflate(dst, src []byte, limit int) ([]byte, error) {
	switch c {
	case Gzip:
		return inflateGzip(dst, src, limit)
	case Snappy:
		return inflateSnappy(dst, src, limit)
	case LZ4:
		return inflateLZ4(dst, src, limit)
	case Zstd:
		return inflateZstd(dst, src, limit)
	}
	return dst, fmt.Errorf("%w: unknown codec %d", ErrCorrupt, int8(c))
}

// grow makes room for n more bytes, and for as many as there are already, so
// that many small steps copy each byte about once.
func grow(p []byte, n int) []byte {
	if cap(p)-len(p) >= n {
		return p
	}
	return slices.Grow(p, max(n, len(p)))
}

func tooLarge(limit int) error {
	return fmt.Errorf("%w: more than %d bytes", ErrTooLarge, limit)
}
