package state

import (
	"fmt"
	"math"

	"github.com/weirmq/weir/storage/coding"
	"github.com/weirmq/weir/storage/weir"
)

// decoder takes the fields of an entry or a checkpoint off its front.
type decoder struct {
	coding.Decoder
	what string
	err  error // the cause, if a later version wrote the body
}

func decoderOf(body []byte) decoder { return decoder{Decoder: coding.NewDecoder(body)} }

// newDecoder checks the version of a body.
func newDecoder(what string, body []byte) (*decoder, error) {
	d, _, err := newVersionDecoder(what, body, bodyVersion)
	return d, err
}

// newVersionDecoder is newDecoder for an entry of which there are versions from 1 to
// newest.
func newVersionDecoder(what string, body []byte, newest byte) (d *decoder, version byte, err error) {
	d = &decoder{Decoder: coding.NewDecoder(body), what: what}
	if version = d.Byte(); d.Bad() {
		return nil, 0, d.corrupt("it is empty")
	} else if version < 1 || version > newest {
		return nil, 0, fmt.Errorf("%w: %s entry of version %d, this program knows %d", ErrFormat, what, version, newest)
	}
	return d, version, nil
}

// later notes that only a later version can read the body.
func (d *decoder) later(format string, args ...any) {
	if d.Fail(); d.err == nil {
		d.err = fmt.Errorf("%w: %s", ErrFormat, fmt.Sprintf(format, args...))
	}
}

func (d *decoder) corrupt(why string) error {
	return fmt.Errorf("%w: %s entry: %s", ErrCorrupt, d.what, why)
}

// end returns an error unless the body was whole and nothing is left of it.
func (d *decoder) end() error {
	if d.err != nil {
		return d.err
	}
	if !d.Done() {
		return d.corrupt("its fields do not fill it")
	}
	return nil
}

// bufferID takes the id of a buffer.
func (d *decoder) bufferID() (id weir.BufferID) {
	copy(id[:], d.Take(uint64(len(id))))
	return id
}

// text takes a string with its length in 2 bytes before it.
func (d *decoder) text() string { return string(d.Take(uint64(d.Uint16()))) }

// uvarint32 takes a number of at most 32 bits.
func (d *decoder) uvarint32() uint32 { return uint32(d.UpTo(math.MaxUint32)) }

// offset takes a number of at most 63 bits.
func (d *decoder) offset() int64 { return int64(d.UpTo(math.MaxInt64)) }

// name takes the id of a gateway.
func (d *decoder) name() string {
	n := d.UpTo(MaxName)
	if n == 0 {
		d.Fail()
	}
	return string(d.Take(n))
}

// count returns n if n items of at least size bytes can follow, else 0, so that a wrong
// number allocates nothing.
func (d *decoder) count(n uint32, size int) int {
	if int64(n)*int64(size) > int64(d.Len()) {
		d.Fail()
		return 0
	}
	return int(n)
}

// configs takes what appendConfigs writes.
func (d *decoder) configs() map[string]string {
	n := d.count(uint32(d.Uint16()), 2+2)
	configs := make(map[string]string, n)
	last := ""
	for i := range n {
		key := d.text()
		if i > 0 && key <= last {
			d.Fail()
		}
		configs[key], last = d.text(), key
	}
	return configs
}
