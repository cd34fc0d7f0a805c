package wire

import (
	"bytes"
	"io"
)

// Preface is the first eight octets of a connection: the protocol header, if the client
// speaks AMQP.
type Preface [8]byte

// Protocol is what a client begins to speak.
type Protocol uint8

const (
	Unknown      Protocol = iota
	OtherVersion          // AMQP, but none of those below
	AMQP091
	AMQP09     // 0-9, which RabbitMQ speaks as 0-9-1
	AMQP10     // 1.0
	AMQP10TLS  // 1.0, TLS first
	AMQP10SASL // 1.0, SASL first
	TLS        // a ClientHello on a listener without TLS
	HTTP
)

// PrefaceOf091 returns the protocol header of AMQP 0-9-1: a client's first octets, and the
// answer to a client that wants something else, after which the connection is closed.
func PrefaceOf091() Preface { return Preface{'A', 'M', 'Q', 'P', 0, 0, 9, 1} }

// ReadPreface reads eight octets and no more, so that the server of another protocol can go
// on after it.
func ReadPreface(r io.Reader) (Preface, error) {
	var p Preface
	_, err := io.ReadFull(r, p[:])
	return p, err
}

// Protocol tells what the client speaks.
func (p Preface) Protocol() Protocol {
	rest, ok := bytes.CutPrefix(p[:], []byte("AMQP"))
	switch {
	case ok:
		return version([4]byte(rest))
	case p[0] == 0x16 && p[1] == 3 && p[5] == 1:
		return TLS
	}
	for _, method := range []string{"GET ", "HEAD ", "POST ", "PUT ", "DELETE ", "OPTIONS "} {
		if bytes.HasPrefix(p[:], []byte(method)) {
			return HTTP
		}
	}
	return Unknown
}

func version(v [4]byte) Protocol {
	switch v {
	case [4]byte{0, 0, 9, 1}:
		return AMQP091
	case [4]byte{1, 1, 0, 9}:
		return AMQP09
	case [4]byte{0, 1, 0, 0}:
		return AMQP10
	case [4]byte{2, 1, 0, 0}:
		return AMQP10TLS
	case [4]byte{3, 1, 0, 0}:
		return AMQP10SASL
	}
	return OtherVersion
}
