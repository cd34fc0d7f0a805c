package upkeep

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strconv"

	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/segment"
)

// Compaction (cleanup.policy=compact): of the records of a partition with the same key,
// the last one stays. It works on pieces, never on slots. A step
//
//  1. reads the dirty pieces, those behind the clean ones, and notes the last
//     offset of each key, up to so many keys;
//  2. reads all pieces up to there, and writes what stays into new ones, which
//     are clean. A piece that is clean already and loses nothing stays as it is.
//
// Transactions (KIP-98): nothing is compacted at or behind the last stable offset, so
// the outcome of every record is known. Records of aborted transactions are removed,
// and do not replace older ones. Commit markers are removed too, as readers do not need
// them. Abort markers stay, since a consumer that knows of the abort waits for its
// marker.
//
// New pieces are installed in the order of offsets, so that at a crash, or at a
// piece that cannot be read, an older record is always gone before the tombstone
// that hides it.
//
// The number of a segment says whether its pieces are clean, so a new owner does not
// read everything again.

// The defaults of Kafka's settings.
const (
	cleanableRatio  = 0.5        // min.cleanable.dirty.ratio
	deleteRetention = 86_400_000 // delete.retention.ms
)

// compacts reports whether the topic keeps the last record of each key only.
func compacts(t *state.TopicData, defaults map[string]string) bool {
	yes, _ := has(t, "compact", defaults)
	return yes
}

// dirty returns the first of pieces that has not been compacted.
func dirty(pieces []state.Piece) int {
	i := slices.IndexFunc(pieces, func(x state.Piece) bool { return !x.Segment.Clean() })
	if i < 0 {
		return len(pieces)
	}
	return i
}

// forgets reports whether some tombstones that compaction has met may be removed now.
func (m *Maintainer) forgets() bool {
	now := m.log.Now().UnixMilli()
	for _, horizon := range m.horizons {
		if horizon <= now {
			return true
		}
	}
	return false
}

// compact compacts topics, drops what is not needed, and joins small pieces. A pass that becomes due meanwhile
// does not wait for it: see passIfDue.
func (m *Maintainer) compact(*pass) error {
	m.reading, m.compacting = true, true
	err := m.cleanAll()
	if errors.Is(err, errInterrupted) {
		err = nil
	}
	m.reading, m.compacting = false, false
	m.deductOwn()
	return err
}

func (m *Maintainer) cleanAll() error {
	now := m.log.Now().UnixMilli()
	w := &rewriter{m: m, clean: true}
	for _, c := range m.cleanable(now) {
		c.w = w
		horizon, err := c.all()
		if errors.Is(err, errInterrupted) {
			return errors.Join(err, w.finish())
		}
		if err := m.unreadable(c.key, err); err != nil {
			return err
		}
		delete(m.horizons, c.key)
		if horizon != math.MaxInt64 && err == nil {
			m.horizons[c.key] = horizon
		}
	}
	if err := w.finish(); err != nil {
		return err
	}
	if err := m.dropUnneeded(); err != nil {
		return err
	}
	return m.join()
}

// unreadable handles an error of a partition's compaction. If pieces cannot be read, it
// reports that and excludes the partition from compaction, so that others go on. It
// returns other errors.
func (m *Maintainer) unreadable(key state.Place, err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, state.ErrCorrupt) || errors.Is(err, state.ErrFormat) {
		m.log.Logger.Error("records not compacted", "partition", key, "err", err)
		m.skipped[key] = true
		return nil
	}
	return err
}

// cleanable lists the partitions of which enough is dirty, and those with tombstones
// that may be removed.
func (m *Maintainer) cleanable(now int64) (all []*cleaning) {
	horizons := m.horizons
	m.horizons = make(map[state.Place]int64) // without those that are gone
	m.log.View(func(s *state.State) {
		defaults := m.log.Defaults()
		for _, t := range s.Topics {
			if compacts(t, defaults) {
				all = append(all, m.cleanableOf(t, now, horizons, defaults)...)
			}
		}
	})
	return all
}

// cleanableOf does that with the partitions of a topic.
func (m *Maintainer) cleanableOf(t *state.TopicData, now int64, horizons map[state.Place]int64, defaults map[string]string) (all []*cleaning) {
	value, _ := setting(t, "min.cleanable.dirty.ratio", defaults)
	ratio, err := strconv.ParseFloat(value, 64)
	if err != nil {
		ratio = cleanableRatio
	}
	retention := limit(t, "delete.retention.ms", defaults)
	if retention < 0 {
		retention = deleteRetention
	}
	retention = min(retention, math.MaxInt64-now)
	for _, p := range t.Parts {
		if m.skipped[p.Key] {
			continue
		}
		horizon, tombstones := horizons[p.Key]
		if tombstones {
			m.horizons[p.Key] = horizon
		}
		if forgets := tombstones && horizon <= now; forgets || dirtier(p, ratio) {
			all = append(all, &cleaning{m: m, key: p.Key, now: now, retention: retention, forgets: forgets})
		}
	}
	return all
}

// dirtier reports whether at least ratio of the pieces' bytes is dirty.
func dirtier(p *state.Partition, ratio float64) bool {
	all, unclean, pieces := int64(0), int64(0), decided(p)
	first := dirty(pieces)
	for i := range pieces {
		all += pieces[i].Data()
		if i >= first {
			unclean += pieces[i].Data()
		}
	}
	return unclean > 0 && float64(unclean) >= ratio*float64(all)
}

// cleaning is the compaction of one partition.
type cleaning struct {
	m         *Maintainer
	w         *rewriter // of clean pieces
	key       state.Place
	now       int64 // ms since 1970, as the next three
	retention int64
	forgets   bool // there are tombstones that may be removed

	needed  *Needed // if set, records that are not needed go, and nothing else does
	aborted transactions
	offsets map[digest]int64 // the last offset of each key
	rounds  uint32           // in which the keys are taken
	round   uint32
	last    int64 // offset of the last record in pieces, which is always kept
	final   bool  // the last round: the pieces that it writes are clean
	moves   bool  // pieces are written even if they stay as they are
	horizon int64 // the earliest delete horizon of the tombstones that stay

	keep    []bool // of the batch at hand
	changed bool   // the piece at hand has lost something
}

// digest is a hash of a key. No two keys have the same one, even if they are chosen to
// collide.
type digest [16]byte

func digestOf(key []byte) digest {
	sum := sha256.Sum256(key)
	return digest(sum[:16])
}

// all compacts until nothing is dirty. It returns the earliest horizon of the
// tombstones that are left, math.MaxInt64 if there are none.
func (c *cleaning) all() (horizon int64, err error) {
	c.horizon = math.MaxInt64
	for {
		pieces, aborted := c.m.decided(c.key)
		if first := dirty(pieces); first == len(pieces) && (!c.forgets || first == 0) {
			return c.horizon, nil
		}
		c.forgets, c.aborted = false, byProducer(aborted)
		end := pieces[len(pieces)-1].Next
		limit, err := c.step(pieces)
		if err != nil || limit == end {
			return c.horizon, err
		}
		if err := c.w.finish(); err != nil {
			return c.horizon, err
		}
	}
}

// step compacts as many dirty pieces as the memory for keys allows, at least one. A
// piece that may have more keys than that is compacted in rounds, each for a part of
// the keys.
func (c *cleaning) step(pieces []state.Piece) (limit int64, err error) {
	c.offsets, c.horizon = make(map[digest]int64), math.MaxInt64
	c.last = pieces[len(pieces)-1].Next - 1
	limit = pieces[len(pieces)-1].Next
	from := limit
	c.rounds = 1
	if first := dirty(pieces); first < len(pieces) {
		from = pieces[first].Base
		if n := int64(pieces[first].Records) / int64(c.m.o.Keys); n > 0 {
			c.rounds, limit = uint32(n)+1, pieces[first].Next
		}
	}
	for c.round = range c.rounds {
		if c.final = c.round == c.rounds-1; c.round > 0 {
			clear(c.offsets)
			pieces, _ = c.m.decided(c.key)
		}
		if limit, err = c.index(pieces, from, limit); err != nil {
			return limit, err
		}
		w := c.w
		if !c.final {
			w = &rewriter{m: c.m}
		}
		n, _ := slices.BinarySearchFunc(pieces, limit, func(x state.Piece, limit int64) int { return int(min(max(x.Base-limit, -1), 1)) })
		if err := c.rewrite(w, pieces[:n]); err != nil {
			return limit, err
		}
		if !c.final {
			if err := w.finish(); err != nil {
				return limit, err
			}
		}
	}
	return limit, nil
}

// index notes the last offset of each key in the pieces between from and limit, or up
// to where the memory for keys is full. It returns where it ended.
func (c *cleaning) index(pieces []state.Piece, from, limit int64) (int64, error) {
	for i := range pieces {
		x := &pieces[i]
		if err := c.m.passIfDue(); err != nil {
			return limit, err
		}
		switch {
		case x.Next <= from:
			continue
		case x.Base >= limit:
			return limit, nil
		case len(c.offsets) > 0 && c.rounds == 1 && int64(len(c.offsets))+int64(x.Records) > int64(c.m.o.Keys):
			return x.Base, nil
		}
		err := c.m.Scan(c.m.ctx, c.key, x, func(b record.Batch) error {
			if b.Control() || c.drops(b) {
				return nil
			}
			return b.Each(state.MaxInflated, func(r *record.Record) error {
				if r.Key == nil || r.Offset < from {
					return nil
				}
				if d := digestOf(r.Key); binary.BigEndian.Uint32(d[:])%c.rounds == c.round {
					c.offsets[d] = r.Offset
				}
				return nil
			})
		})
		if err != nil {
			return limit, err
		}
	}
	return limit, nil
}

// rewrite writes what stays of pieces into new ones. It joins neighbours until they
// fill a segment.
func (c *cleaning) rewrite(w *rewriter, pieces []state.Piece) error {
	for len(pieces) > 0 {
		n, err := c.group(w, pieces)
		if err != nil {
			return err
		}
		pieces = pieces[n:]
	}
	return nil
}

// group makes one piece of the first ones, and returns how many.
func (c *cleaning) group(w *rewriter, pieces []state.Piece) (n int, err error) {
	size := w.m.o.Segment
	if w.b != nil && (w.b.Size()+int(pieces[0].Size) > 2*size || len(w.placed) >= w.most()) {
		if err := w.finish(); err != nil {
			return 0, err
		}
	}
	w.begin(c.key, pieces[0].Base, 0)
	c.changed = false
	began := w.b.Size()
	for n < len(pieces) {
		if filled := w.b.Size() - began; n > 0 && (filled >= size/2 || filled+int(pieces[n].Size) > 2*size) {
			break
		}
		if err := c.copy(w, &pieces[n]); err != nil {
			w.b.Drop()
			return 0, err
		}
		n++
	}
	if n == 1 && !c.changed && !c.moves && (!c.final || pieces[0].Segment.Clean()) {
		w.b.Drop() // the new piece would be the same
		return n, nil
	}
	w.end(c.key, pieces[n-1].Next)
	if w.b.Size() < size {
		return n, nil
	}
	return n, w.finish()
}

// copy appends what stays of a piece to the one that is open.
func (c *cleaning) copy(w *rewriter, x *state.Piece) error {
	if err := c.m.passIfDue(); err != nil {
		return err
	}
	if c.needless(x.Base, x.Next) {
		c.changed = true
		return nil
	}
	var few []record.Batch
	size := 0
	flush := func() error {
		for _, b := range segment.Merge(few) {
			if err := w.b.Append(b); err != nil {
				return state.Translate(err)
			}
		}
		few, size = few[:0], 0
		return nil
	}
	err := w.m.Scan(w.m.ctx, c.key, x, func(b record.Batch) error {
		b, err := c.filter(b)
		if err != nil || b == nil {
			return err
		}
		few, size = append(few, b), size+len(b)
		if size < segment.BlockSize {
			return nil
		}
		return flush()
	})
	if err != nil {
		return err
	}
	return flush()
}

// filter returns what stays of a batch, nil if nothing does.
//
// Tombstones are removed as in Kafka (KIP-534). The pass that makes a batch clean, when
// nothing older with the keys of its tombstones is left, writes the delete horizon into
// it: now plus delete.retention.ms. A reader that has read an older record finds the
// tombstone if it continues within that time. A later pass removes the tombstones.
func (c *cleaning) filter(b record.Batch) (record.Batch, error) {
	switch {
	case c.needed != nil:
		return c.onlyNeeded(b)
	case c.offsets == nil:
		return b, nil
	case b.Control():
		return c.marker(b)
	}
	horizon, noted := b.DeleteHorizon()
	expired := c.final && noted && horizon <= c.now
	c.keep = c.keep[:0]
	kept, tombstones, dropped := 0, false, c.drops(b)
	err := b.Each(state.MaxInflated, func(r *record.Record) error {
		stays := c.stays(r, expired)
		if dropped {
			stays = r.Offset == c.last
		}
		c.keep = append(c.keep, stays)
		if stays {
			kept++
			tombstones = tombstones || r.Key != nil && r.Value == nil
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%w: batch at offset %d: %w", state.ErrCorrupt, b.BaseOffset(), err)
	}
	if kept < len(c.keep) || kept == 0 {
		c.changed = true
	}
	if kept == 0 {
		return nil, nil
	}
	i := -1
	keep := func(*record.Record) bool { i++; return c.keep[i] }
	if tombstones && c.final && !noted {
		until, err := record.FilterUntil(b, keep, c.now+c.retention, state.MaxInflated)
		if err == nil {
			c.changed, c.horizon = true, min(c.horizon, c.now+c.retention)
			return until, nil
		}
		// The timestamps are too far from the horizon: the tombstones stay for good.
		i = -1
	} else if tombstones && noted && !expired {
		c.horizon = min(c.horizon, horizon)
	}
	if kept == len(c.keep) {
		return b, nil
	}
	return record.Filter(b, keep, state.MaxInflated)
}

// stays reports whether a record is kept. The last one of all pieces always is, even a
// tombstone: a reader must get to the end of the partition.
func (c *cleaning) stays(r *record.Record, expired bool) bool {
	if r.Key == nil || r.Offset == c.last {
		return true
	}
	if expired && r.Value == nil {
		return false
	}
	newest, known := c.offsets[digestOf(r.Key)]
	return !known || newest <= r.Offset
}
