package commitlog

import (
	"cmp"
	"encoding/binary"
	"slices"
)

// identity is what the log says of the objects beside it, which are made once and
// never change: so a log that was led once is not led without them, or with others.
type identity struct {
	anew    bool   // of an entry: after a repair, whatever was said before
	level   int    // the format level of the bucket
	cluster string // its id
	sums    []sum  // keys ascending
}

// sum is the checksum of an object.
type sum struct {
	key string
	crc uint32 // CRC-32C
}

// find returns the checksum of an object.
func (i *identity) find(key string) (crc uint32, found bool) {
	if i == nil {
		return 0, false
	}
	n, found := slices.BinarySearchFunc(i.sums, key, func(s sum, key string) int { return cmp.Compare(s.key, key) })
	if !found {
		return 0, false
	}
	return i.sums[n].crc, true
}

// follows reports whether a log that has said old may say i.
func (i *identity) follows(old *identity) bool {
	if old == nil {
		return true
	}
	for _, s := range old.sums {
		if crc, found := i.find(s.key); !found || crc != s.crc {
			return false
		}
	}
	return i.cluster == old.cluster && i.level >= old.level
}

// identify takes what an entry says of the objects beside the log.
func (s *state) identify(i *identity) error {
	if !i.anew && !i.follows(s.identity) {
		return s.broken("cluster %q at level %d with objects %v becomes %q at level %d with %v",
			s.identity.cluster, s.identity.level, s.identity.sums, i.cluster, i.level, i.sums)
	}
	s.identity = &identity{level: i.level, cluster: i.cluster, sums: i.sums}
	return nil
}

// anewFlag is in the level of an entry that a repair has written.
const anewFlag = 1 << 15

func (i *identity) append(p []byte) []byte {
	level := uint16(i.level)
	if i.anew {
		level |= anewFlag
	}
	p = binary.BigEndian.AppendUint16(p, level)
	p = appendString(p, i.cluster)
	p = binary.BigEndian.AppendUint16(p, uint16(len(i.sums)))
	for _, s := range i.sums {
		p = appendString(p, s.key)
		p = binary.BigEndian.AppendUint32(p, s.crc)
	}
	return p
}

// identity is the inverse of append.
func (d *decoder) identity() *identity {
	level := d.u16()
	i := &identity{anew: level&anewFlag != 0, level: int(level &^ anewFlag), cluster: d.text()}
	n := d.count(uint32(d.u16()), 2+4)
	for range n {
		i.sums = append(i.sums, sum{d.text(), d.u32()})
	}
	for k := range i.sums {
		d.bad = d.bad || i.sums[k].key == "" || k > 0 && i.sums[k].key <= i.sums[k-1].key
	}
	d.bad = d.bad || i.level < 1 || i.cluster == ""
	return i
}

func encodeIdentity(i *identity) []byte { return i.append([]byte{bodyVersion}) }

func decodeIdentity(body []byte) (*identity, error) {
	d, err := newDecoder("identity", body)
	if err != nil {
		return nil, err
	}
	i := d.identity()
	return i, d.end()
}
