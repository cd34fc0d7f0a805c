package state

import (
	"cmp"
	"encoding/binary"
	"slices"
)

// Identity is what the log says of the objects beside it. They are created once and
// never change. With it, a log is never led without these objects, or with others.
type Identity struct {
	Anew    bool   // in an entry of a repair: it holds whatever earlier entries say
	Level   int    // the format level of the bucket
	Cluster string // its id
	Sums    []Sum  // keys ascending
}

// Sum is the checksum of an object.
type Sum struct {
	Key string
	CRC uint32 // CRC-32C
}

// Find returns the checksum of an object.
func (i *Identity) Find(key string) (crc uint32, found bool) {
	if i == nil {
		return 0, false
	}
	n, found := slices.BinarySearchFunc(i.Sums, key, func(s Sum, key string) int { return cmp.Compare(s.Key, key) })
	if !found {
		return 0, false
	}
	return i.Sums[n].CRC, true
}

// follows reports whether a log that has said old may say i.
func (i *Identity) follows(old *Identity) bool {
	if old == nil {
		return true
	}
	for _, s := range old.Sums {
		if crc, found := i.Find(s.Key); !found || crc != s.CRC {
			return false
		}
	}
	return i.Cluster == old.Cluster && i.Level >= old.Level
}

// identify applies an entry about the objects beside the log.
func (s *State) identify(i *Identity) error {
	if !i.Anew && !i.follows(s.Identity) {
		return s.broken("cluster %q at level %d with objects %v becomes %q at level %d with %v",
			s.Identity.Cluster, s.Identity.Level, s.Identity.Sums, i.Cluster, i.Level, i.Sums)
	}
	s.Identity = &Identity{Level: i.Level, Cluster: i.Cluster, Sums: i.Sums}
	return nil
}

// anewFlag is in the level of an entry that a repair has written.
const anewFlag = 1 << 15

func (i *Identity) append(p []byte) []byte {
	level := uint16(i.Level)
	if i.Anew {
		level |= anewFlag
	}
	p = binary.BigEndian.AppendUint16(p, level)
	p = appendString(p, i.Cluster)
	p = binary.BigEndian.AppendUint16(p, uint16(len(i.Sums)))
	for _, s := range i.Sums {
		p = appendString(p, s.Key)
		p = binary.BigEndian.AppendUint32(p, s.CRC)
	}
	return p
}

// identity is the inverse of append.
func (d *decoder) identity() *Identity {
	level := d.Uint16()
	i := &Identity{Anew: level&anewFlag != 0, Level: int(level &^ anewFlag), Cluster: d.text()}
	n := d.count(uint32(d.Uint16()), 2+4)
	for range n {
		i.Sums = append(i.Sums, Sum{d.text(), d.Uint32()})
	}
	for k := range i.Sums {
		if i.Sums[k].Key == "" || k > 0 && i.Sums[k].Key <= i.Sums[k-1].Key {
			d.Fail()
		}
	}
	if i.Level < 1 || i.Cluster == "" {
		d.Fail()
	}
	return i
}

// EncodeIdentity says what lies beside the log.
func EncodeIdentity(i *Identity) []byte { return i.append([]byte{bodyVersion}) }

func decodeIdentity(body []byte) (*Identity, error) {
	d, err := newDecoder("identity", body)
	if err != nil {
		return nil, err
	}
	i := d.identity()
	return i, d.end()
}
