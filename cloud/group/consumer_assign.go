package group

import (
	"cmp"
	"slices"
)

// The names of the assignors, as in Kafka.
const (
	uniformAssignor = "uniform"
	rangeAssignor   = "range"
)

// readers is a topic and the members that subscribe to it, in order of arrival.
type readers struct {
	topic
	members []*consumer
}

// assignor assigns each partition to one of its topic's readers. before is the
// previous assignment, without members that have left.
type assignor func(members []*consumer, of []readers, before map[Partition]*consumer) map[Partition]*consumer

func assignors(name string) (assignor, bool) {
	switch name {
	case uniformAssignor:
		return assignUniform, true
	case rangeAssignor:
		return assignRange, true
	default:
		return nil, false
	}
}

// assignRange gives each member adjacent partitions of each topic. Topics with the
// same number of partitions and the same readers are divided at the same places: the
// member that reads partition 3 of one also reads partition 3 of the other.
func assignRange(_ []*consumer, of []readers, _ map[Partition]*consumer) map[Partition]*consumer {
	after := make(map[Partition]*consumer)
	for _, t := range of {
		ms := slices.SortedFunc(slices.Values(t.members), func(a, b *consumer) int {
			return cmp.Or(cmp.Compare(cmp.Or(a.instance, a.id), cmp.Or(b.instance, b.id)), cmp.Compare(a.arrival, b.arrival))
		})
		for p := range t.partitions {
			// Of n members the first partitions%n have one more.
			n := int32(len(ms))
			size, more := t.partitions/n, t.partitions%n
			i := p / (size + 1)
			if i >= more {
				i = (p - more) / max(size, 1)
			}
			after[Partition{t.id, p}] = ms[i]
		}
	}
	return after
}

// assignUniform gives all members equally many partitions, and moves as few as
// possible.
func assignUniform(members []*consumer, of []readers, before map[Partition]*consumer) map[Partition]*consumer {
	for _, t := range of {
		if len(t.members) < len(members) {
			return assignUneven(of, before)
		}
	}
	return assignEven(members, of, before)
}

// assignEven is for members with the same subscription: their numbers of partitions
// differ by one at most.
func assignEven(members []*consumer, of []readers, before map[Partition]*consumer) map[Partition]*consumer {
	total := 0
	for _, t := range of {
		total += int(t.partitions)
	}
	if total == 0 {
		return map[Partition]*consumer{}
	}
	share, more := total/len(members), total%len(members)
	after := make(map[Partition]*consumer, total)
	load := make(map[*consumer]int, len(members))
	var free []Partition
	for _, t := range of {
		for i := range t.partitions {
			p := Partition{t.id, i}
			m, ok := before[p]
			switch {
			case ok && load[m] < share:
			case ok && load[m] == share && more > 0:
				more--
			default:
				free = append(free, p)
				continue
			}
			after[p] = m
			load[m]++
		}
	}
	// In turn, so that the partitions of one topic are spread over the members.
	give := func(to []*consumer, n int) {
		for len(free) > 0 && len(to) > 0 {
			to = slices.DeleteFunc(to, func(m *consumer) bool { return load[m] >= n })
			for _, m := range to[:min(len(to), len(free))] {
				after[free[0]] = m
				load[m]++
				free = free[1:]
			}
		}
	}
	give(slices.Clone(members), share)
	give(slices.Clone(members), share+1)
	return after
}

// assignUneven is for members with different subscriptions. As long as a member has
// at least two partitions more than another that could read one of them, that one
// moves.
func assignUneven(of []readers, before map[Partition]*consumer) map[Partition]*consumer {
	after := make(map[Partition]*consumer)
	load := make(map[*consumer]int)
	idle := func(t readers) *consumer {
		return slices.MinFunc(t.members, func(a, b *consumer) int { return cmp.Compare(load[a], load[b]) })
	}
	for _, t := range of {
		here := make(map[*consumer]bool, len(t.members))
		for _, m := range t.members {
			here[m] = true
		}
		for i := range t.partitions {
			if m, ok := before[Partition{t.id, i}]; ok && here[m] {
				after[Partition{t.id, i}] = m
				load[m]++
			}
		}
	}
	for _, t := range of {
		for i := range t.partitions {
			if p := (Partition{t.id, i}); after[p] == nil {
				m := idle(t)
				after[p] = m
				load[m]++
			}
		}
	}
	// Each move lowers the sum of the squares of the loads, so there is an end.
	for moved := true; moved; {
		moved = false
		for _, t := range of {
			to := idle(t)
			for i := range t.partitions {
				p := Partition{t.id, i}
				if from := after[p]; load[from]-load[to] > 1 {
					after[p] = to
					load[from]--
					load[to]++
					to, moved = idle(t), true
				}
			}
		}
	}
	return after
}
