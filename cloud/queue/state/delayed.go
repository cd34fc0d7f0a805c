package state

import "slices"

// delayed is the delayed messages of a vhost, by the second in which they are due.
type delayed struct {
	seconds []int64 // ascending
	due     map[int64]*set
}

func (x *delayed) add(id, ms int64) {
	second := ms / 1000
	of := x.due[second]
	if of == nil {
		if x.due == nil {
			x.due = make(map[int64]*set)
		}
		of = new(set)
		x.due[second] = of
		i, _ := slices.BinarySearch(x.seconds, second)
		x.seconds = slices.Insert(x.seconds, i, second)
	}
	of.add(id, id)
}

func (x *delayed) remove(id int64) {
	for i, second := range x.seconds {
		of := x.due[second]
		if of.remove(id, id) == 0 {
			continue
		}
		if of.n == 0 {
			delete(x.due, second)
			x.seconds = slices.Delete(x.seconds, i, i+1)
		}
		return
	}
}

// floor returns the least offset that is delayed, or end.
func (x *delayed) floor(end int64) int64 {
	for _, of := range x.due {
		id, _ := of.next(0)
		end = min(end, id)
	}
	return end
}

// DelayedUntil returns the beginning of the earliest second in which a delayed message is
// due (ms since 1970), false if none is.
func (v *Vhost) DelayedUntil() (ms int64, ok bool) {
	if len(v.delayed.seconds) == 0 {
		return 0, false
	}
	return v.delayed.seconds[0] * 1000, true
}

// DelayedIn returns up to most of the messages that are due in seconds which began at or
// before ms, by second and offset.
func (v *Vhost) DelayedIn(ms int64, most int) []int64 {
	var all []int64
	for _, second := range v.delayed.seconds {
		if second*1000 > ms {
			break
		}
		of := v.delayed.due[second]
		for r := range of.runs(0, maxOffset) {
			for id := r.First; id <= r.Last; id++ {
				if len(all) == most {
					return all
				}
				all = append(all, id)
			}
		}
	}
	return all
}

// Delayed returns how many messages are delayed.
func (v *Vhost) Delayed() int64 {
	n := int64(0)
	for _, of := range v.delayed.due {
		n += of.n
	}
	return n
}
