package wire

import (
	"encoding/binary"
	"math"
)

// FrameType is the first octet of a frame [AMQP 0-9-1 §4.2.3].
type FrameType uint8

const (
	FrameMethod    FrameType = 1
	FrameHeader    FrameType = 2
	FrameBody      FrameType = 3
	FrameHeartbeat FrameType = 8
)

const (
	frameHeaderLen = 1 + 2 + 4 // type, channel, length of the payload
	frameEnd       = 0xce
)

// FrameOverhead is what a frame adds to its payload, in bytes.
const FrameOverhead = frameHeaderLen + 1

// MinFrameMax is the smallest frame-max, and the one that holds until ConnectionTuneOk has
// set another.
const MinFrameMax = 4096

// maxFrameMax stands for a frame-max of 0, which is no limit.
const maxFrameMax = math.MaxInt32 - FrameOverhead

// Frame is one frame.
type Frame struct {
	Type    FrameType
	Channel uint16
	Payload []byte
	// Owned reports whether the payload has memory of its own. If not, it is part of the
	// reader's buffer, and valid until the next frame is read.
	Owned bool
}

// check returns the error that RabbitMQ answers to a frame of an unknown type, or one whose
// payload does not have the shape of its type.
func (f Frame) check() error {
	ok := false
	switch f.Type {
	case FrameMethod:
		ok = len(f.Payload) >= idLen
	case FrameHeader:
		ok = len(f.Payload) >= contentHeaderLen
	case FrameBody:
		ok = true
	case FrameHeartbeat:
		ok = len(f.Payload) == 0
	}
	if !ok {
		return badFrame(FrameError, f, "unknown_frame")
	}
	if f.Type == FrameHeartbeat && f.Channel != 0 {
		return badFrame(UnexpectedFrame, f, "")
	}
	return nil
}

// appendFrameHeader appends what precedes a payload of n bytes.
func appendFrameHeader(b []byte, t FrameType, channel uint16, n int) []byte {
	b = append(b, byte(t), byte(channel>>8), byte(channel))
	return binary.BigEndian.AppendUint32(b, uint32(n))
}
