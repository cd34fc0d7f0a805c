package weir

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"strconv"
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

// Bounds are the first and the last sequence that a lane of a buffer still has to
// deliver. First is Last+1 when nothing is left.
type Bounds struct{ First, Last uint64 }

// Buffer is one opening of a gateway's local log and what it still has to deliver.
type Buffer struct {
	ID      BufferID
	Current bool // the running process still appends to it
	Lanes   [Lanes]Bounds
}

// BufferState is what the cloud remembers of a gateway's buffer.
type BufferState uint8

// The states of a buffer. Their numbers are those on the wire.
const (
	BufferKnown   BufferState = iota // something of it is durable, and it is not retired
	BufferNew                        // never seen: nothing of it is durable
	BufferRetired                    // durable completely: the gateway deletes it
	BufferAside                      // unknown, and perhaps retired and forgotten: the gateway must not send it
)

// String returns the state in one word.
func (s BufferState) String() string {
	if !s.Valid() {
		return "state-" + strconv.Itoa(int(s))
	}
	return [...]string{"known", "new", "retired", "aside"}[s]
}

// Valid reports whether s is one of the states.
func (s BufferState) Valid() bool { return s <= BufferAside }
