package txn

import (
	"encoding/binary"
	"math"

	"github.com/weirmq/weir/storage/commitlog"
)

const (
	none     = -1     // a time that there is not
	minPlace = 16 + 1 // bytes
)

func appendUvarint[N int | int32 | int64](b []byte, n N) []byte {
	return binary.AppendUvarint(b, uint64(n))
}

func appendString(b []byte, s string) []byte {
	return append(appendUvarint(b, len(s)), s...)
}

// appendHead begins the body of an entry about one transactional id.
func appendHead(id string, at int64) []byte {
	return binary.AppendVarint(appendString([]byte{bodyVersion}, id), at)
}

func appendProducer(b []byte, p Producer) []byte {
	return binary.AppendVarint(binary.AppendVarint(b, p.ID), int64(p.Epoch))
}

func appendPlace(b []byte, p commitlog.Place) []byte {
	return appendUvarint(append(b, p.Topic[:]...), p.Partition)
}

// decoder reads a body. After the first thing that does not fit it is bad, and
// gives zeros.
type decoder struct {
	p   []byte
	bad bool
}

func (d *decoder) done() bool { return !d.bad && len(d.p) == 0 }

func (d *decoder) take(n uint64) []byte {
	if d.bad || n > uint64(len(d.p)) {
		d.bad, d.p = true, nil
		return nil
	}
	b := d.p[:n]
	d.p = d.p[n:]
	return b
}

// rest is all that is left.
func (d *decoder) rest() []byte { return d.take(uint64(len(d.p))) }

func (d *decoder) byte() byte {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

// name reads a string that cannot be empty.
func (d *decoder) name() string {
	s := string(d.take(d.uvarint()))
	d.bad = d.bad || s == ""
	return s
}

func (d *decoder) producer() Producer {
	id, epoch := d.varint(), d.varint()
	if id < -1 || epoch < -1 || epoch > math.MaxInt16 || (id < 0) != (epoch < 0) {
		d.bad = true
		return NoProducer
	}
	return Producer{id, int16(epoch)}
}

func (d *decoder) place() (p commitlog.Place) {
	copy(p.Topic[:], d.take(16))
	p.Partition = int32(d.uint31())
	return p
}

// uint31 reads what fits a positive int32.
func (d *decoder) uint31() int64 {
	u := d.uvarint()
	if u > math.MaxInt32 {
		d.bad = true
		return 0
	}
	return int64(u)
}

func (d *decoder) uvarint() uint64 {
	u, n := binary.Uvarint(d.p)
	d.skip(n)
	return u
}

func (d *decoder) varint() int64 {
	i, n := binary.Varint(d.p)
	d.skip(n)
	return i
}

func (d *decoder) skip(n int) {
	if n <= 0 {
		d.bad, d.p = true, nil
		return
	}
	d.p = d.p[n:]
}

// count reads a number of items of at least size bytes each: no more than can
// follow, so that a damaged body does not allocate more than itself.
func (d *decoder) count(size int) int {
	n := d.uvarint()
	if n > uint64(len(d.p)/size) {
		d.bad = true
		return 0
	}
	return int(n)
}
