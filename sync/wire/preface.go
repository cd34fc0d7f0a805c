package wire

import (
	"fmt"
	"io"

	"github.com/weirmq/weir/storage/weir"
)

// StreamKind says what a stream is for.
type StreamKind uint8

const (
	StreamControl StreamKind = 1 // the first of a session, exactly one
	StreamLane    StreamKind = 2 // at most one per lane
)

const (
	prefaceLen     = 4
	prefaceMagic   = 'w'
	prefaceVersion = 1
)

// Preface is what a gateway writes at the start of every stream it opens:
// magic, version, kind, lane.
type Preface struct {
	Kind StreamKind
	Lane weir.Lane // StreamLane only
}

// WritePreface writes p.
func WritePreface(w io.Writer, p Preface) error {
	_, err := w.Write([]byte{prefaceMagic, prefaceVersion, byte(p.Kind), byte(p.Lane)})
	return err
}

// ReadPreface reads the first bytes of a stream.
func ReadPreface(r io.Reader) (Preface, error) {
	var b [prefaceLen]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return Preface{}, err
	}
	p := Preface{Kind: StreamKind(b[2]), Lane: weir.Lane(b[3])}
	switch {
	case b[0] != prefaceMagic:
		return Preface{}, fmt.Errorf("stream begins with %#02x: %w", b[0], ErrMalformed)
	case b[1] != prefaceVersion:
		return Preface{}, fmt.Errorf("stream of version %d, this end speaks %d: %w", b[1], prefaceVersion, ErrMalformed)
	case p.Kind == StreamControl && p.Lane == 0, p.Kind == StreamLane && p.Lane < weir.Lanes:
		return p, nil
	}
	return Preface{}, fmt.Errorf("stream of kind %d, lane %d: %w", b[2], b[3], ErrMalformed)
}
