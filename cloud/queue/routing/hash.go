package routing

import (
	"sort"
	"strconv"
)

// maxWeight bounds the weight of a binding, so that a sum of weights stays an int64.
const maxWeight = 1<<31 - 1

// weightOf reads the binding key of an x-consistent-hash exchange.
func weightOf(key string) (int32, bool) {
	n, err := strconv.ParseInt(key, 10, 64)
	return int32(n), err == nil && n >= 1 && n <= maxWeight
}

// ring is the destinations of an x-consistent-hash exchange with their weights, in the
// order in which they were bound: a new one takes over its share of the messages, and
// moves no others. A destination that is bound twice counts with its first binding.
type ring struct {
	items []*binding
	ends  []int64 // the sum of the weights up to each of items
}

// build makes r of the bindings of an exchange.
func (r *ring) build(bindings []*binding) {
	*r = ring{}
	seen, sum := make(map[*destination]bool), int64(0)
	for _, b := range bindings {
		if !seen[b.to] {
			seen[b.to] = true
			weight, _ := weightOf(b.key) // Bind has checked it
			sum += int64(weight)
			r.items, r.ends = append(r.items, b), append(r.ends, sum)
		}
	}
}

// pick returns the binding that a hash belongs to, nil if there is none.
func (r *ring) pick(hash uint64) *binding {
	if len(r.items) == 0 {
		return nil
	}
	at := jump(hash, r.ends[len(r.ends)-1])
	return r.items[sort.Search(len(r.ends), func(i int) bool { return r.ends[i] > at })]
}

// jump is Lamping and Veach's jump consistent hash: a bucket below n, which is n-1 or what
// it is with one bucket fewer. Integer arithmetic makes it the same on every processor.
func jump(hash uint64, n int64) int64 {
	b, j := int64(-1), int64(0)
	for j < n {
		b = j
		hash = hash*2862933555777941757 + 1
		d := int64(hash>>33) + 1
		if b+1 > (1<<62)/(1<<31) { // beyond it the product does not fit
			break
		}
		j = (b + 1) * (1 << 31) / d
	}
	return b
}

// hashOf returns what an x-consistent-hash exchange sends a message by.
func (x *exchange) hashOf(m *Message) uint64 {
	v := TextValue(m.Key)
	switch {
	case x.HashHeader != "":
		v = Value{}
		i := sort.Search(len(m.Headers), func(i int) bool { return m.Headers[i].Name >= x.HashHeader })
		if i < len(m.Headers) && m.Headers[i].Name == x.HashHeader {
			v = m.Headers[i].Value
		}
	case x.HashProperty == "correlation_id":
		v = TextValue(m.CorrelationID)
	case x.HashProperty == "message_id":
		v = TextValue(m.MessageID)
	case x.HashProperty == "timestamp":
		v = TextValue(m.Timestamp)
	}
	return hashValue(v)
}

// hashValue is FNV-1a of a value, in one form for equal integers and strings.
func hashValue(v Value) uint64 {
	const prime = 1099511628211
	h := uint64(14695981039346656037)
	h = (h ^ uint64(v.Kind)) * prime
	for i := 0; i < 64; i += 8 {
		h = (h ^ v.Bits>>i&0xff) * prime
	}
	for i := range len(v.Text) {
		h = (h ^ uint64(v.Text[i])) * prime
	}
	return h
}
