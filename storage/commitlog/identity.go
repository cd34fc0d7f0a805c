package commitlog

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"slices"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/journal"
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

// text takes a string of any length.
func (d *decoder) text() string {
	n := int(d.u16())
	if d.bad || n > len(d.p) {
		d.bad = true
		return ""
	}
	return string(d.take(n))
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

// objectsBeside reads the checksums of the objects beside the log that are there.
func objectsBeside(ctx context.Context, b storage.Bucket, keys []string) (sums []sum, err error) {
	for _, key := range keys {
		var raw []byte
		err := insist(ctx, func() (err error) {
			raw, err = b.Get(ctx, key, 0, -1)
			return err
		}, fs.ErrNotExist)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read object %s: %w", key, err)
		}
		sums = append(sums, sum{key, crc32.Checksum(raw, castagnoli)})
	}
	slices.SortFunc(sums, func(a, b sum) int { return cmp.Compare(a.key, b.key) })
	return sums, nil
}

// differs returns an error for each object beside the log that is not what the log
// says of it. there are the checksums of those that were found.
func (i *identity) differs(c Cluster, there []sum) (problems []error) {
	if i == nil {
		return nil
	}
	if c.Format < i.level {
		problems = append(problems, journal.Missing(upgradeKey(i.level), fmt.Sprintf("the log was written at format level %d, and the bucket is at %d", i.level, c.Format)))
	}
	found := identity{sums: there}
	for _, s := range i.sums {
		switch crc, ok := found.find(s.key); {
		case !ok:
			problems = append(problems, journal.Missing(s.key, "the log has its checksum"))
		case crc != s.crc:
			problems = append(problems, fmt.Errorf("%w: object %s has checksum %08x, and the log says %08x", ErrCorrupt, s.key, crc, s.crc))
		}
	}
	if len(problems) == 0 && c.ID != i.cluster {
		problems = append(problems, fmt.Errorf("%w: object %s says cluster %q, and the log says %q", ErrCorrupt, clusterKey, c.ID, i.cluster))
	}
	return problems
}

// recognize compares the objects beside the log with what the log says of them, and
// finds out what it does not say yet. That goes into the first slot of this owner.
func (l *Log) recognize(ctx context.Context) error {
	keys := append([]string{clusterKey}, l.beside...)
	known := l.state.identity
	if known != nil {
		for _, s := range known.sums {
			if !slices.Contains(keys, s.key) {
				keys = append(keys, s.key)
			}
		}
	}
	there, err := objectsBeside(ctx, l.bucket, keys)
	if err != nil {
		return err
	}
	problems := known.differs(l.cluster, there)
	if len(problems) > 0 && l.lost == nil {
		return errors.Join(problems...)
	}
	for _, problem := range problems {
		l.lost(problem.Error())
	}
	says := &identity{anew: len(problems) > 0, level: l.cluster.Format, cluster: l.cluster.ID, sums: there}
	if l.Level() >= 2 && (known == nil || says.anew || says.level != known.level || !slices.Equal(says.sums, known.sums)) {
		l.unsaid = says
	}
	return nil
}

// Began reports whether a log was ever begun in the bucket. What is made once, before
// the log begins, is missing if it is not there then: it must not be made again.
func Began(ctx context.Context, b storage.Bucket) (bool, error) {
	keys, err := b.List(ctx, "0000/", "", 1)
	if err != nil {
		return false, fmt.Errorf("look for a log: %w", err)
	}
	return len(keys) > 0, nil
}
