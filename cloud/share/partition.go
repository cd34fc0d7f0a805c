package share

import (
	"slices"
	"sort"
	"time"

	"github.com/weirmq/weir/cloud/share/state"
)

// partition is a share partition that is in use. Manager.mu guards it.
type partition struct {
	place  Place
	id     state.ID      // 0 until it is open
	opened chan struct{} // closed when it is open, or could not be opened
	turn   chan struct{} // holds a token while records are being acquired

	leases  []lease // in order; they do not overlap
	changed chan struct{}
	timer   *time.Timer
	due     time.Time // when timer fires; zero: it is not set

	accepted, rejected, archived int64 // records, see Usage
	copied, uncopied             int64
}

// count counts the records of a lease that has ended; done reports whether they are.
func (p *partition) count(l *lease, done bool) {
	n := l.last - l.first + 1
	switch {
	case l.verdict == Accept:
		p.accepted += n
	case l.verdict == Reject:
		p.rejected += n
	case l.verdict == Release && done:
		p.archived += n
	}
}

// lease is a row of records that cannot be acquired. last is in it.
type lease struct {
	first, last int64
	count       int    // which delivery it is; 0: there are no records that could be delivered
	member      string // that has acquired them
	until       time.Time
	ending      bool    // an entry that ends the lease is on its way
	verdict     Verdict // with which, if ending; Gap if there was none
}

// end forgets the leases.
func (p *partition) end() {
	p.leases, p.due = nil, time.Time{}
	if p.timer != nil {
		p.timer.Stop()
	}
	p.wake()
}

// wake tells all who wait for records of the partition to look again.
func (p *partition) wake() {
	if p.changed != nil {
		close(p.changed)
		p.changed = nil
	}
}

// watch returns a channel that is closed when a lease has ended.
func (p *partition) watch() <-chan struct{} {
	if p.changed == nil {
		p.changed = make(chan struct{})
	}
	return p.changed
}

// holding returns the index of the first lease that ends at or after an offset.
func (p *partition) holding(offset int64) int {
	return sort.Search(len(p.leases), func(i int) bool { return p.leases[i].last >= offset })
}

// held returns how many records members have acquired.
func (p *partition) held() int {
	n := int64(0)
	for i := range p.leases {
		if p.leases[i].count > 0 {
			n += p.leases[i].last - p.leases[i].first + 1
		}
	}
	return int(n)
}

// next returns the first row of available records at or after an offset, and how many
// deliveries of them have ended. There always is one: behind all that was ever
// delivered.
func (p *partition) next(of *state.Partition, from int64) (first, last int64, count int) {
	for at := max(from, of.Start); ; {
		i := p.holding(at)
		if i < len(p.leases) && p.leases[i].first <= at {
			at = p.leases[i].last + 1
			continue
		}
		r := of.At(at)
		if r.Done {
			at = r.Last + 1
			continue
		}
		if i < len(p.leases) {
			r.Last = min(r.Last, p.leases[i].first-1)
		}
		return at, r.Last, r.Count
	}
}

// add adds a lease of records that are available.
func (p *partition) add(l lease) {
	i := p.holding(l.first)
	if i > 0 {
		if b := &p.leases[i-1]; b.last == l.first-1 && b.alike(&l) {
			b.last = l.last
			return
		}
	}
	p.leases = slices.Insert(p.leases, i, l)
}

func (l *lease) alike(o *lease) bool {
	return l.count == o.count && l.member == o.member && l.until.Equal(o.until) && l.ending == o.ending && l.verdict == o.verdict
}

// change replaces the leases of the records from first to last, row by row; with false
// they end.
func (p *partition) change(first, last int64, to func(lease) (lease, bool)) {
	i := p.holding(first)
	j := i
	var into []lease
	for ; j < len(p.leases) && p.leases[j].first <= last; j++ {
		before, within, after := p.leases[j], p.leases[j], p.leases[j]
		before.last = min(before.last, first-1)
		within.first, within.last = max(within.first, first), min(within.last, last)
		after.first = max(after.first, last+1)
		within, keep := to(within)
		for _, l := range []lease{before, within, after} {
			if l.first > l.last || l == within && !keep {
				continue
			}
			if n := len(into); n > 0 && into[n-1].last == l.first-1 && into[n-1].alike(&l) {
				into[n-1].last = l.last
				continue
			}
			into = append(into, l)
		}
	}
	p.leases = slices.Replace(p.leases, i, j, into...)
}

// rows calls do for each row of leases among the records from first to last.
func (p *partition) rows(first, last int64, do func(lease)) {
	for i := p.holding(first); i < len(p.leases) && p.leases[i].first <= last; i++ {
		l := p.leases[i]
		l.first, l.last = max(l.first, first), min(l.last, last)
		do(l)
	}
}
