package state

// EncodeEpoch returns the body of an entry KindEpoch: a new owner of the shard began. What
// waits and may have been delivered by the one before has one more delivery.
func EncodeEpoch() []byte { return []byte{bodyVersion} }

func (s *State) applyEpoch(d *decoder) error {
	if !d.Done() {
		return ErrCorrupt
	}
	for _, v := range s.vhosts {
		for _, q := range v.ids {
			q.begin()
		}
	}
	return nil
}

// begin begins an epoch: nothing has been delivered in it.
func (q *Queue) begin() {
	lent := min(q.lent, q.Vhost.end-1)
	q.lent = -1
	if first, ok := q.First(); !ok || first > lent {
		return
	}
	i := 0
	for i < len(q.marks) && q.marks[i].id < lent {
		i++
	}
	if i < len(q.marks) && q.marks[i].id == lent {
		q.marks[i].epochs++
		return
	}
	q.marks = append(q.marks, mark{})
	copy(q.marks[i+1:], q.marks[i:])
	q.marks[i] = mark{lent, 1}
}
