package txn

import (
	"encoding/binary"
	"math"

	"github.com/weirmq/weir/storage/coding"
	"github.com/weirmq/weir/storage/commitlog/state"
)

const (
	none     = -1     // for a time that does not exist
	minPlace = 16 + 1 // bytes
)

func appendUvarint[N int | int32 | int64](b []byte, n N) []byte {
	return binary.AppendUvarint(b, uint64(n))
}

// appendHead begins the body of an entry about one transactional id.
func appendHead(id string, at int64) []byte {
	return binary.AppendVarint(coding.AppendString([]byte{bodyVersion}, id), at)
}

func appendProducer(b []byte, p Producer) []byte {
	return binary.AppendVarint(binary.AppendVarint(b, p.ID), int64(p.Epoch))
}

func appendPlace(b []byte, p state.Place) []byte {
	return appendUvarint(append(b, p.Topic[:]...), p.Partition)
}

func appendParts(b []byte, places []state.Place, groups []string) []byte {
	b = appendUvarint(b, len(places))
	for _, p := range places {
		b = appendPlace(b, p)
	}
	b = appendUvarint(b, len(groups))
	for _, name := range groups {
		b = coding.AppendString(b, name)
	}
	return b
}

// decoder reads a body.
type decoder struct{ coding.Decoder }

// name reads a string that cannot be empty.
func (d *decoder) name() string {
	s := d.String()
	if s == "" {
		d.Fail()
	}
	return s
}

func (d *decoder) producer() Producer {
	id, epoch := d.Varint(), d.Varint()
	if id < -1 || epoch < -1 || epoch > math.MaxInt16 || (id < 0) != (epoch < 0) {
		d.Fail()
		return NoProducer
	}
	return Producer{id, int16(epoch)}
}

func (d *decoder) place() state.Place {
	return state.Place{Topic: d.ID(), Partition: d.Int31()}
}

func (d *decoder) parts() ([]state.Place, []string) {
	places := make([]state.Place, d.Count(minPlace))
	for i := range places {
		places[i] = d.place()
	}
	groups := make([]string, d.Count(1))
	for i := range groups {
		groups[i] = d.name()
	}
	return places, groups
}
