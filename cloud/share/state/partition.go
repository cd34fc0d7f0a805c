package state

import (
	"slices"
	"sort"

	"github.com/weirmq/weir/storage/weir"
)

// ID names a share partition of a shard. It never repeats: what is written for a share
// partition that was deleted, or begun again, does not apply to the next one.
type ID uint64

// Place is a partition as a group shares it.
type Place struct {
	Group     string
	Topic     weir.TopicID
	Partition int32
}

// Partition is what a group has done with the records of a partition.
type Partition struct {
	ID    ID
	Place Place
	Start int64 // all records before it are done, and no record at it is
	Lent  int64 // records after it were never delivered; at least Start-1
	Runs  []Run // of records from Start to Lent, in order; neighbours differ
}

// Run is a row of records that are alike: they are done, or Count deliveries of each
// have ended, at least one. Last is in it.
type Run struct {
	First, Last int64
	Done        bool
	Count       int // 0 if they are done
}

// At returns the run that holds an offset, or the run of records without deliveries
// that holds it. Done also holds for offsets before the start.
func (p *Partition) At(offset int64) Run {
	if offset < p.Start {
		return Run{First: 0, Last: p.Start - 1, Done: true}
	}
	i := p.holding(offset)
	if i < len(p.Runs) && p.Runs[i].First <= offset {
		return p.Runs[i]
	}
	r := Run{First: p.Start, Last: maxOffset}
	if i > 0 {
		r.First = p.Runs[i-1].Last + 1
	}
	if i < len(p.Runs) {
		r.Last = p.Runs[i].First - 1
	}
	return r
}

// maxOffset is above all offsets.
const maxOffset = 1<<63 - 2

// holding returns the index of the first run that ends at or after an offset.
func (p *Partition) holding(offset int64) int {
	return sort.Search(len(p.Runs), func(i int) bool { return p.Runs[i].Last >= offset })
}

// Records returns how many records from Start up to end, which is not in it, are not
// done.
func (p *Partition) Records(end int64) int64 {
	n := max(end-p.Start, 0)
	for _, r := range p.Runs {
		if r.Done {
			n -= max(min(r.Last+1, end)-r.First, 0)
		}
	}
	return n
}

// change replaces the records from first to last, or those of them that are not before
// the start, run by run. Those without deliveries are a run, too.
func (p *Partition) change(first, last int64, to func(Run) Run) {
	if first = max(first, p.Start); first > last {
		return
	}
	i, j := p.holding(first), p.holding(last+1)
	if j < len(p.Runs) && p.Runs[j].First == last+1 { // may become one with what is before it
		j++
	}
	for j < len(p.Runs) && p.Runs[j].First <= last {
		j++
	}
	if i > 0 && p.Runs[i-1].Last == first-1 {
		i--
	}
	var into []Run
	put := func(r Run) {
		n := len(into)
		switch {
		case r.First > r.Last || !r.Done && r.Count == 0:
		case n > 0 && into[n-1].Last == r.First-1 && into[n-1].Done == r.Done && into[n-1].Count == r.Count:
			into[n-1].Last = r.Last
		default:
			into = append(into, r)
		}
	}
	at := first
	for _, r := range p.Runs[i:j] {
		before, within, after := r, r, r
		before.Last = min(r.Last, first-1)
		within.First, within.Last = max(r.First, first), min(r.Last, last)
		after.First = max(r.First, last+1)
		put(before)
		if within.First <= within.Last {
			if at < within.First {
				put(to(Run{First: at, Last: within.First - 1}))
			}
			put(to(within))
			at = within.Last + 1
		}
		if after.First <= after.Last && at <= last {
			put(to(Run{First: at, Last: last}))
			at = last + 1
		}
		put(after)
	}
	if at <= last {
		put(to(Run{First: at, Last: last}))
	}
	p.Runs = slices.Replace(p.Runs, i, j, into...)
	p.advance()
}

// advance moves the start over records that are done.
func (p *Partition) advance() {
	if len(p.Runs) > 0 && p.Runs[0].Done && p.Runs[0].First <= p.Start {
		p.Start = p.Runs[0].Last + 1
		p.Runs = slices.Delete(p.Runs, 0, 1)
	}
	p.Lent = max(p.Lent, p.Start-1)
}

// begin moves the start up to at least start: the records before it are gone.
func (p *Partition) begin(start int64) {
	if start <= p.Start {
		return
	}
	p.change(p.Start, start-1, func(r Run) Run { return Run{First: r.First, Last: r.Last, Done: true} })
}
