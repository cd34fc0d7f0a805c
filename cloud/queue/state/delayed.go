package state

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/weirmq/weir/storage/coding"
)

// delayed is the delayed messages of a vhost.
type delayed struct {
	all   set
	hours []*hour // ascending; each has a message that is in all
}

// hour is what is due in an hour. It lists messages in the order of their offsets, which
// takes a few bytes for each or for many in a row; those that are not in delayed.all were
// there. Once they are asked for by their time, it has them by second as well.
type hour struct {
	number  int64 // since 1970
	runs    []byte
	count   int   // of runs
	end     int64 // after the last offset of runs
	last    run   // is not in runs yet
	n       int64 // messages that are in delayed.all
	listed  int64 // messages in runs and last
	first   int   // no message is due in an earlier second
	seconds []set // nil: not asked for
}

// run is messages in a row that are due in the same second of an hour.
type run struct {
	Range
	second int
}

func (r run) some() bool { return r.First <= r.Last }

func newHour(number int64) *hour {
	return &hour{number: number, first: hourSeconds, last: run{Range: Range{0, -1}}}
}

const (
	hourSeconds = 3600
	longestRun  = 1 << 16 // messages, so that a few bytes do not stand for any number of them
	mostGone    = 1 << 12 // messages that an hour lists and that are gone, besides as many as are there
)

// add adds a message, whose offset is higher than all before.
func (x *delayed) add(id, ms int64) {
	number, second := ms/1000/hourSeconds, int(ms/1000%hourSeconds)
	i, ok := slices.BinarySearchFunc(x.hours, number, func(h *hour, number int64) int { return int(min(max(h.number-number, -1), 1)) })
	if !ok {
		x.hours = slices.Insert(x.hours, i, newHour(number))
	}
	x.hours[i].add(run{Range{id, id}, second})
	x.all.add(id, id)
}

func (h *hour) add(r run) {
	n := r.Last - r.First + 1
	if h.seconds != nil {
		h.seconds[r.second].add(r.First, r.Last)
	}
	if h.last.some() && h.last.second == r.second && h.last.Last+1 == r.First {
		h.last.Last = min(r.Last, h.last.First+longestRun-1)
		r.First = h.last.Last + 1
	}
	h.listed, h.n, h.first = h.listed+n, h.n+n, min(h.first, r.second)
	for r.First <= r.Last {
		h.flush()
		h.last = run{Range{r.First, min(r.Last, r.First+longestRun-1)}, r.second}
		r.First = h.last.Last + 1
	}
}

// flush puts the last run behind the others.
func (h *hour) flush() {
	if !h.last.some() {
		return
	}
	h.runs = binary.AppendUvarint(h.runs, uint64(h.last.First-h.end))
	h.runs = binary.AppendUvarint(h.runs, uint64(h.last.Last-h.last.First))
	h.runs = binary.AppendUvarint(h.runs, uint64(h.last.second))
	h.end = h.last.Last + 1
	h.count++
}

// each calls f with the runs, in order.
func (h *hour) each(f func(run)) {
	d := decoder{coding.NewDecoder(h.runs)}
	for next := int64(0); d.Len() > 0; {
		r := d.run(next)
		f(r)
		next = r.Last + 1
	}
	if h.last.some() {
		f(h.last)
	}
}

// run reads a run that begins at or after an offset.
func (d *decoder) run(from int64) run {
	first := from + d.offset()
	r := run{Range{first, first + int64(d.UpTo(longestRun-1))}, int(d.UpTo(hourSeconds - 1))}
	if r.Last > maxOffset {
		d.Fail()
	}
	return r
}

// tidy leaves out of the list what is delayed no longer.
func (h *hour) tidy(all *set) {
	if h.n == h.listed {
		return
	}
	fresh := newHour(h.number)
	h.each(func(r run) {
		for x := range all.runs(r.First, r.Last) {
			fresh.add(run{x, r.second})
		}
	})
	fresh.seconds = h.seconds
	*h = *fresh
}

// open lists the messages by second.
func (h *hour) open(all *set) {
	if h.seconds != nil {
		return
	}
	h.seconds = make([]set, hourSeconds)
	h.each(func(r run) {
		for x := range all.runs(r.First, r.Last) {
			h.seconds[r.second].add(x.First, x.Last)
		}
	})
}

// has reports whether the hour lists a message that is in delayed.all.
func (h *hour) has(id int64) bool {
	found := false
	h.each(func(r run) { found = found || r.First <= id && id <= r.Last })
	return found
}

// remove takes a message out. It looks first where messages are asked for.
func (x *delayed) remove(id int64) {
	if x.all.remove(id, id) == 0 {
		return
	}
	i := slices.IndexFunc(x.hours, func(h *hour) bool { return h.remove(id) })
	if i < 0 {
		i = slices.IndexFunc(x.hours, func(h *hour) bool { return h.seconds == nil && h.has(id) })
		x.hours[i].n--
		x.hours[i].open(&x.all)
	}
	if h := x.hours[i]; h.n == 0 {
		x.hours = slices.Delete(x.hours, i, i+1)
	} else if h.listed > 2*h.n+mostGone {
		h.tidy(&x.all)
	}
}

// remove takes a message out of its second, and reports whether it was in one.
func (h *hour) remove(id int64) bool {
	for second := h.first; second < len(h.seconds); second++ {
		if h.seconds[second].remove(id, id) > 0 {
			h.n--
			return true
		}
	}
	return false
}

// earliest returns the first second in which a message is due.
func (h *hour) earliest() int64 {
	for h.seconds != nil && h.seconds[h.first].n == 0 {
		h.first++
	}
	return h.number*hourSeconds + int64(h.first)
}

// DelayedUntil returns the beginning of the earliest second in which a delayed message may
// be due (ms since 1970), false if none is delayed.
func (v *Vhost) DelayedUntil() (ms int64, ok bool) {
	if len(v.delayed.hours) == 0 {
		return 0, false
	}
	return v.delayed.hours[0].earliest() * 1000, true
}

// DelayedIn returns up to most of the messages that are due in seconds which began at or
// before ms: those of the earliest seconds, ascending.
func (v *Vhost) DelayedIn(ms int64, most int) []int64 {
	var ids []int64
	for _, h := range v.delayed.hours {
		if h.earliest()*1000 > ms || len(ids) == most {
			break
		}
		h.open(&v.delayed.all)
		for second := h.first; second < hourSeconds && (h.number*hourSeconds+int64(second))*1000 <= ms; second++ {
			for id, ok := h.seconds[second].next(0); ok && len(ids) < most; id, ok = h.seconds[second].next(id + 1) {
				ids = append(ids, id)
			}
		}
	}
	slices.Sort(ids)
	return ids
}

// Delayed returns how many messages are delayed.
func (v *Vhost) Delayed() int64 { return v.delayed.all.n }

// append appends the hours.
func (x *delayed) append(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(x.hours)))
	for _, h := range x.hours {
		h.tidy(&x.all)
		b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(h.number)), uint64(h.count)+1)
		b = append(b, h.runs...)
		last := *h
		last.runs = b
		last.flush()
		b = last.runs
	}
	return b
}

// delayed reads hours. What is not as append writes it is found when it is written again.
func (d *decoder) delayed(end int64) (x delayed) {
	var all []Range
	for range d.Count(5) {
		h := newHour(d.offset())
		if n := len(x.hours); h.number > maxMillis/1000/hourSeconds || n > 0 && x.hours[n-1].number >= h.number {
			d.Fail()
		}
		next := int64(0)
		for range d.Count(3) {
			r := d.run(next)
			if d.Bad() || r.Last >= end {
				d.Fail()
				return delayed{}
			}
			h.add(r)
			all = append(all, r.Range)
			next = r.Last + 1
		}
		if h.n == 0 {
			d.Fail()
			return delayed{}
		}
		x.hours = append(x.hours, h)
	}
	slices.SortFunc(all, func(a, b Range) int { return cmp.Compare(a.First, b.First) })
	last := int64(-1)
	for _, r := range all { // in order, because that is fast
		if r.First <= last {
			d.Fail()
			return delayed{}
		}
		x.all.add(r.First, r.Last)
		last = r.Last
	}
	return x
}
