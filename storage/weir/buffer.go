package weir

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
)

// BufferID names one opening of a gateway's local log: a big-endian counter of
// 4 bytes that grows with every opening, and 8 random bytes, so that two copies
// of one disk image have different buffers.
type BufferID [12]byte

// Counter returns the number of the opening. The buffers of a gateway drain in
// its order.
func (id BufferID) Counter() uint32 { return binary.BigEndian.Uint32(id[:4]) }

// Compare returns -1, 0 or +1: buffers are ordered by counter, then by the
// random bytes.
func (id BufferID) Compare(other BufferID) int { return bytes.Compare(id[:], other[:]) }

// String returns the id in hex.
func (id BufferID) String() string { return hex.EncodeToString(id[:]) }
