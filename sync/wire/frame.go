package wire

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/weirmq/weir/storage/coding"
)

// Caps on a frame's body in bytes. A reader uses the cap of the stream that it reads; a
// longer declared length is ErrTooLarge before any allocation.
const (
	MaxControl = 128 << 10 // control stream, and everything that a cloud sends on a lane stream
	MaxLane    = 8 << 20   // what a gateway sends on a lane stream
	MaxJoin    = 16 << 10  // weir-join/1, where the peer is still a stranger
)

// headerLen is the length of a frame's header: type, then body length.
const headerLen = 5

var (
	// ErrTooLarge says that a declared frame length exceeds the stream's cap.
	ErrTooLarge = errors.New("frame too large")
	// ErrMalformed says that a frame's bytes do not follow the specification.
	ErrMalformed = errors.New("malformed frame")
)

// Type is a frame's first byte.
type Type uint8

// Frame types. The high nibble groups them: 0 control, 2 lane, 4 joining.
const (
	TypeHello        Type = 0x01
	TypeWelcome      Type = 0x02
	TypeOffer        Type = 0x03
	TypeMarks        Type = 0x04
	TypeResolve      Type = 0x05
	TypeTopic        Type = 0x06
	TypeRetire       Type = 0x07
	TypeRetired      Type = 0x08
	TypePing         Type = 0x09
	TypePong         Type = 0x0a
	TypeRenew        Type = 0x0b
	TypeCertificate  Type = 0x0c
	TypeRedirect     Type = 0x0d
	TypeGoodbye      Type = 0x0e
	TypeStatus       Type = 0x0f
	TypeAppend       Type = 0x20
	TypeGap          Type = 0x21
	TypeAck          Type = 0x22
	TypeRefused      Type = 0x23
	TypeJoinRequest  Type = 0x40
	TypeJoinResponse Type = 0x41
)

// Frame is one message of the protocol.
type Frame interface {
	Type() Type
	// encode appends the body, except what tail returns. The tail follows on the wire,
	// so that a record batch is not copied.
	encode(b []byte) []byte
	tail() []byte
	decode(c *decoder)
}

// small is embedded in frames whose encode writes the whole body.
type small struct{}

func (small) tail() []byte { return nil }

// empty returns a frame of the given type, nil if the type is unknown.
func empty(t Type) Frame {
	switch t {
	case TypeHello:
		return new(Hello)
	case TypeWelcome:
		return new(Welcome)
	case TypeOffer:
		return new(Offer)
	case TypeMarks:
		return new(Marks)
	case TypeResolve:
		return new(Resolve)
	case TypeTopic:
		return new(Topic)
	case TypeRetire:
		return new(Retire)
	case TypeRetired:
		return new(Retired)
	case TypePing:
		return new(Ping)
	case TypePong:
		return new(Pong)
	case TypeRenew:
		return new(Renew)
	case TypeCertificate:
		return new(Certificate)
	case TypeRedirect:
		return new(Redirect)
	case TypeGoodbye:
		return new(Goodbye)
	case TypeStatus:
		return new(Status)
	case TypeAppend:
		return new(Append)
	case TypeGap:
		return new(Gap)
	case TypeAck:
		return new(Ack)
	case TypeRefused:
		return new(Refused)
	case TypeJoinRequest:
		return new(JoinRequest)
	case TypeJoinResponse:
		return new(JoinResponse)
	}
	return nil
}

// Header is what precedes a frame's body.
type Header struct {
	Type Type
	Len  int // of the body, in bytes
}

// ReadHeader reads the header of the next frame and checks its length against limit. It
// returns io.EOF if the stream ended between two frames, io.ErrUnexpectedEOF if it
// ended inside the header. A reader that has the header can make room for the body
// piece by piece (see Next).
func ReadHeader(r io.Reader, limit int) (Header, error) {
	var h [headerLen]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return Header{}, err
	}
	n := binary.BigEndian.Uint32(h[1:])
	if uint64(n) > uint64(limit) {
		return Header{}, fmt.Errorf("frame type %#02x of %d bytes, at most %d: %w", h[0], n, limit, ErrTooLarge)
	}
	if empty(Type(h[0])) == nil {
		return Header{}, fmt.Errorf("unknown frame type %#02x: %w", h[0], ErrMalformed)
	}
	return Header{Type: Type(h[0]), Len: int(n)}, nil
}

// Body reads and decodes the body that belongs to h. The frame owns its bytes. Memory
// is allocated for what arrives, not for what the header announces.
func (h Header) Body(r io.Reader) (Frame, error) {
	var body []byte
	for len(body) < h.Len {
		n := h.Next(len(body))
		body = append(make([]byte, 0, len(body)+n), body...)
		got, err := io.ReadFull(r, body[len(body):cap(body)])
		body = body[:len(body)+got]
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, err
		}
	}
	return Decode(h.Type, body)
}

// firstPiece is how much memory is allocated for a body before any of it has arrived.
const firstPiece = 16 << 10

// Next returns for how many more bytes of the body to make room when got bytes have
// arrived: as many again, and at least firstPiece.
func (h Header) Next(got int) int { return min(max(got, firstPiece), h.Len-got) }

// Read reads one frame whose body has at most limit bytes.
func Read(r io.Reader, limit int) (Frame, error) {
	h, err := ReadHeader(r, limit)
	if err != nil {
		return nil, err
	}
	return h.Body(r)
}

// Decode decodes a body; the frame keeps pointing into it.
func Decode(t Type, body []byte) (Frame, error) {
	f := empty(t)
	if f == nil {
		return nil, fmt.Errorf("unknown frame type %#02x: %w", uint8(t), ErrMalformed)
	}
	c := decoder{Decoder: coding.NewDecoder(body)}
	f.decode(&c)
	if c.Len() > 0 {
		c.fail("bytes left over")
	}
	if c.Bad() {
		return nil, fmt.Errorf("decode frame type %#02x: %s: %w", uint8(t), cmp.Or(c.what, "body too short"), ErrMalformed)
	}
	return f, nil
}

// Write writes f in one call, or in two when f carries a record batch.
func Write(w io.Writer, f Frame) error {
	head := appendHead(make([]byte, 0, 256), f)
	if _, err := w.Write(head); err != nil {
		return err
	}
	if t := f.tail(); len(t) > 0 {
		if _, err := w.Write(t); err != nil {
			return err
		}
	}
	return nil
}

// AppendFrame appends the complete frame to b.
func AppendFrame(b []byte, f Frame) []byte {
	return append(appendHead(b, f), f.tail()...)
}

// appendHead appends the header and all of the body but its tail.
func appendHead(b []byte, f Frame) []byte {
	at := len(b)
	b = append(b, byte(f.Type()), 0, 0, 0, 0)
	b = f.encode(b)
	binary.BigEndian.PutUint32(b[at+1:], uint32(len(b)-at-headerLen+len(f.tail())))
	return b
}
