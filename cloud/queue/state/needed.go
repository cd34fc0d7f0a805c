package state

// Needed is which messages of a vhost were needed when it was made: those that a queue has,
// and those that are delayed.
type Needed struct{ all set }

// Needed returns which messages are needed now. A message that is not needed never is again.
func (v *Vhost) Needed() *Needed {
	n := new(Needed)
	for _, q := range v.ids {
		for i := range q.waiting {
			n.all.addAll(&q.waiting[i])
		}
	}
	n.all.addAll(&v.delayed.all)
	return n
}

// Has reports whether a message is needed.
func (n *Needed) Has(id int64) bool { return n.all.has(id) }

// Count returns how many of the messages from first to next-1 are needed.
func (n *Needed) Count(first, next int64) int64 { return n.all.count(first, next-1) }
