package wire

import (
	"encoding/binary"
	"fmt"
)

// Method is one of the methods of methods.txt, with its arguments.
type Method interface {
	ID() MethodID
	// Append appends the arguments, or returns b and ErrTooLong.
	Append(b []byte) ([]byte, error)
	// Decode reads the arguments, which must be used up exactly. Nothing in the method
	// is part of args afterwards. Its error is an *Error.
	Decode(args []byte) error
}

// MethodID is the id of a method: that of its class in the upper 16 bits, its own in the
// lower.
type MethodID uint32

// known is what methods.txt says of a method besides its fields.
type known struct {
	name    string
	sender  Sender
	sync    bool
	content bool
}

// Sender is a set of ends of a connection.
type Sender uint8

const (
	byClient Sender = 1 << iota
	byServer
)

const (
	Client = byClient
	Server = byServer
)

// Class returns the id of the class.
func (id MethodID) Class() uint16 { return uint16(id >> 16) }

// Method returns the id of the method in its class.
func (id MethodID) Method() uint16 { return uint16(id) }

// String returns the name as in the specification: queue.declare.
func (id MethodID) String() string {
	if k, ok := id.known(); ok {
		return k.name
	}
	return fmt.Sprintf("method %d.%d", id.Class(), id.Method())
}

// SentBy reports whether a peer at the end s may send the method.
func (id MethodID) SentBy(s Sender) bool {
	k, _ := id.known()
	return k.sender&s != 0
}

// Synchronous reports whether the method is answered, unless its NoWait is set.
func (id MethodID) Synchronous() bool {
	k, _ := id.known()
	return k.sync
}

// Content reports whether a content header and a body follow the method.
func (id MethodID) Content() bool {
	k, _ := id.known()
	return k.content
}

// idLen is the length of the ids before the arguments of a method.
const idLen = 4

// SplitMethod returns the id and the arguments in the payload of a method frame, which must
// be one that Reader.Next returned: it is long enough then.
func SplitMethod(payload []byte) (MethodID, []byte) {
	return MethodID(binary.BigEndian.Uint32(payload)), payload[idLen:]
}

// ParseMethod reads the payload of a method frame that Reader.Next returned. Its error is an
// *Error.
func ParseMethod(payload []byte) (Method, error) {
	id, args := SplitMethod(payload)
	m := NewMethod(id)
	if m == nil {
		return nil, failed(NotImplemented, id, "no method %d in class %d", id.Method(), id.Class())
	}
	return m, m.Decode(args)
}
