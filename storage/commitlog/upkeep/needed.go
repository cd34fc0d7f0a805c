package upkeep

import (
	"time"

	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/record"
)

// Records that are not needed. Who uses a partition may know of each record whether it is
// still needed, as the work queues do. What lies before the first such record is trimmed
// (Log.DeleteRecords). This does the rest: one old message must not hold all that came
// after it. Pieces of which at least half of the records are not needed are rewritten
// without these, and a piece of which none is needed becomes an empty one, without being
// read. So the records that are not needed take no more space than the others, but for
// the pieces at both ends and what is not worth a segment yet; and for each byte that is
// written again one goes.
//
// A crash leaves what any compaction leaves. A record that is not needed never is again:
// the entry that says so lies before the one that installs the piece without it.

// Needed says which records of a partition are needed. It need not follow the log: it
// says what was needed when it was made, and since then records have only ceased to be.
type Needed struct {
	Before int64                         // records at this offset or behind it count as needed
	Count  func(first, next int64) int64 // returns how many of the offsets from first to next-1 are needed; each of these has a record
	Has    func(offset int64) bool       // reports whether the record at an offset is needed
}

// neededEvery is how often the upkeep asks what is needed.
const neededEvery = time.Minute

// dropUnneeded drops records that are not needed.
func (m *Maintainer) dropUnneeded() error {
	now := m.log.Now()
	if m.log.Needed == nil || m.asked.Load() == 0 && now.Sub(m.neededAt) < neededEvery {
		return nil
	}
	m.neededAt = now
	var all []state.Place
	m.log.View(func(s *state.State) {
		for _, t := range s.Topics {
			for _, p := range t.Parts {
				if len(p.Pieces) > 2 && !m.skipped[p.Key] {
					all = append(all, p.Key)
				}
			}
		}
	})
	w := &rewriter{m: m}
	for _, key := range all {
		needed := m.log.Needed(key)
		if needed == nil {
			continue
		}
		pieces, _ := m.decided(key)
		c := &cleaning{m: m, key: key, needed: needed}
		for _, row := range needed.rows(pieces, int64(m.o.Segment)/2) {
			if err := m.unreadable(key, c.rewrite(w, row)); err != nil {
				return err
			}
		}
	}
	return w.finish()
}

// rows finds pieces in a row that are worth to be rewritten: none if worth bytes or more
// do not go. The first piece with a needed record is not among them, because it may soon
// be trimmed, and the last one is not, so that the end of the partition has a record.
func (n *Needed) rows(pieces []state.Piece, worth int64) (rows [][]state.Piece) {
	first := 0
	for first < len(pieces) && n.Count(pieces[first].Base, pieces[first].Next) == 0 {
		first++
	}
	gone, from := int64(0), first+1
	for i := first + 1; i < len(pieces); i++ {
		if x := &pieces[i]; i+1 < len(pieces) && x.Next <= n.Before && x.Records > 0 {
			if needed := n.Count(x.Base, x.Next); 2*needed <= int64(x.Records) {
				gone += x.Data() * (int64(x.Records) - needed) / int64(x.Records)
				continue
			}
		}
		if i > from {
			rows = append(rows, pieces[from:i])
		}
		from = i + 1
	}
	if gone < worth {
		return nil
	}
	return rows
}

// needless reports whether a range of offsets has no record that is needed.
func (c *cleaning) needless(first, next int64) bool {
	return c.needed != nil && c.needed.Count(first, next) == 0
}

// onlyNeeded returns what stays of a batch, nil if nothing does.
func (c *cleaning) onlyNeeded(b record.Batch) (record.Batch, error) {
	n := c.needed.Count(b.BaseOffset(), b.NextOffset())
	if b.Control() || b.NextOffset() > c.needed.Before || n == int64(b.Count()) {
		return b, nil
	}
	c.changed = true
	if n == 0 {
		return nil, nil
	}
	return record.Filter(b, func(r *record.Record) bool { return c.needed.Has(r.Offset) }, state.MaxInflated)
}
