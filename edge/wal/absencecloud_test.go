package wal

import (
	"fmt"
	"io"
	"maps"
	"testing"

	"github.com/weirmq/weir/storage/weir"
)

// miniCloud is a minimal sender and cloud: the records of a lane go to one partition, whose
// mark shows duplicates.
type miniCloud struct {
	delivered map[stream]map[uint64]int  // record numbers by sequence
	exact     map[stream]map[uint64]bool // reported for sure
	perhaps   map[stream][]seqRange      // reported as what may be missing
	mark      map[stream]uint64
	retired   map[weir.BufferID]bool
	problems  []string
}

func newMiniCloud() *miniCloud {
	return &miniCloud{delivered: map[stream]map[uint64]int{}, exact: map[stream]map[uint64]bool{},
		perhaps: map[stream][]seqRange{}, mark: map[stream]uint64{}, retired: map[weir.BufferID]bool{}}
}

func (c *miniCloud) clone() *miniCloud {
	d := newMiniCloud()
	for s, m := range c.delivered {
		d.delivered[s] = maps.Clone(m)
	}
	for s, m := range c.exact {
		d.exact[s] = maps.Clone(m)
	}
	for s, p := range c.perhaps {
		d.perhaps[s] = append([]seqRange(nil), p...)
	}
	d.mark, d.retired = maps.Clone(c.mark), maps.Clone(c.retired)
	return d
}

// told reports whether a sequence was reported, for sure or perhaps.
func (c *miniCloud) told(s stream, seq uint64) bool {
	for _, p := range c.perhaps[s] {
		if p.first <= seq && seq <= p.last {
			return true
		}
	}
	return c.exact[s][seq]
}

// drain delivers all buffers but the current one, and retires them. It also delivers the
// current one if that is wanted.
func (c *miniCloud) drain(t testing.TB, l *Log, current bool) {
	t.Helper()
	for _, info := range l.Buffers() {
		if info.Current && !current {
			continue
		}
		for ln, b := range info.Lanes {
			if !c.retired[info.ID] {
				c.deliver(t, l, info.ID, weir.Lane(ln), b.Last)
			}
			if err := l.Trim(info.ID, weir.Lane(ln), b.Last); err != nil {
				t.Fatal(err)
			}
		}
		if info.Current {
			continue
		}
		if err := l.Retire(info.ID); err != nil {
			t.Fatal(err)
		}
		c.retired[info.ID] = true
	}
}

// deliver delivers a lane up to a sequence, and trims it.
func (c *miniCloud) deliver(t testing.TB, l *Log, id weir.BufferID, ln weir.Lane, through uint64) {
	t.Helper()
	for from := uint64(1); from <= through; {
		items, err := l.Read(id, ln, from)
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, it := range items {
			if it.Seq <= through {
				c.take(stream{id, ln}, it, l.Last(id, ln))
				from = it.Seq + 1
			} else {
				from = through + 1
			}
		}
	}
	if err := l.Trim(id, ln, through); err != nil {
		t.Fatal(err)
	}
}

func (c *miniCloud) take(s stream, it Item, last uint64) {
	mark := c.mark[s]
	c.mark[s] = max(mark, it.Seq)
	if it.Gap != nil {
		c.report(s, *it.Gap, mark, last)
		return
	}
	if it.Seq <= mark {
		return // a duplicate
	}
	var n int
	if _, err := fmt.Sscanf(string(it.Record.Value), "reading %d", &n); err != nil {
		c.problems = append(c.problems, fmt.Sprintf("%v: at %d lies %q", s, it.Seq, it.Record.Value))
	}
	if c.delivered[s] == nil {
		c.delivered[s] = map[uint64]int{}
	}
	c.delivered[s][it.Seq] = n
}

// report notes a gap. What lies up to the mark may have been delivered before it
// was damaged. A guess at the end of a lane says that there may have been more.
func (c *miniCloud) report(s stream, g weir.Gap, mark, last uint64) {
	switch {
	case !g.Exact && g.Last == last:
		c.perhaps[s] = append(c.perhaps[s], seqRange{g.First, never})
	case !g.Exact || g.Last <= mark:
		c.perhaps[s] = append(c.perhaps[s], seqRange{g.First, g.Last})
	default:
		if g.First <= mark {
			c.perhaps[s] = append(c.perhaps[s], seqRange{g.First, mark})
		}
		if c.exact[s] == nil {
			c.exact[s] = map[uint64]bool{}
		}
		for seq := max(g.First, mark+1); seq <= g.Last; seq++ {
			c.exact[s][seq] = true
		}
	}
}
