package state

import (
	"encoding/binary"
	"sort"
)

// Hash stands for the value by which duplicates of a message are known.
type Hash [16]byte

// How many hashes are remembered: by an exchange, whatever its x-cache-size, and by a
// queue. The oldest ones are forgotten.
const (
	mostCached = 1_000_000

	// MostCached is how many all exchanges of a vhost may be declared to remember.
	MostCached = 4_000_000

	mostHeld  = 100_000
	spareHash = 64 // hashes that are in a list and are not remembered, besides as many as are
)

// window is the hashes that an exchange has seen, each until a time.
type window struct {
	order []seen         // the oldest one first; those whose time is not in until were replaced
	until map[Hash]int64 // ms since 1970; 0: for ever
}

type seen struct {
	hash  Hash
	until int64
}

func newWindow() *window { return &window{until: make(map[Hash]int64)} }

// has reports whether a hash was seen, and its time is not over.
func (w *window) has(h Hash, now int64) bool {
	until, ok := w.until[h]
	return ok && (until == 0 || until > now)
}

// add remembers a hash that has reports false for until a time to come, and at most size
// of them.
func (w *window) add(h Hash, now, until int64, size int) {
	for len(w.order) > 0 && (w.stale(0) || w.order[0].until != 0 && w.order[0].until <= now) {
		w.forget()
	}
	w.order = append(w.order, seen{h, until})
	w.until[h] = until
	for len(w.until) > size {
		w.forget()
	}
	if len(w.order) > 2*len(w.until)+spareHash {
		w.order = w.live()
	}
}

// stale reports whether an element of order was replaced.
func (w *window) stale(i int) bool {
	until, ok := w.until[w.order[i].hash]
	return !ok || until != w.order[i].until
}

// forget forgets the oldest hash, or drops one that was replaced.
func (w *window) forget() {
	if !w.stale(0) {
		delete(w.until, w.order[0].hash)
	}
	w.order = w.order[1:]
}

// live returns what is remembered, the oldest one first.
func (w *window) live() []seen {
	all := make([]seen, 0, len(w.until)+spareHash)
	for i := range w.order {
		if !w.stale(i) {
			all = append(all, w.order[i])
		}
	}
	return all
}

func (w *window) append(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(w.until)))
	for _, x := range w.live() {
		b = binary.AppendUvarint(append(b, x.hash[:]...), uint64(x.until))
	}
	return b
}

// window reads a window of at most size hashes.
func (d *decoder) window(size int) *window {
	w := newWindow()
	for range d.Count(len(Hash{}) + 1) {
		x := seen{d.hash(), int64(d.UpTo(maxMillis))}
		if _, twice := w.until[x.hash]; twice {
			d.Fail()
		}
		w.until[x.hash] = x.until
		w.order = append(w.order, x)
	}
	if n := len(w.until); n == 0 || n > size {
		d.Fail()
	}
	return w
}

func (d *decoder) hash() Hash { return d.ID() }

// held is the hashes of messages that wait in a queue.
type held struct {
	order []heldHash // by id; some are gone
	ids   map[Hash]int64
}

type heldHash struct {
	hash Hash
	id   int64
	gone bool
}

// has reports whether a message with that hash waits.
func (x *held) has(h Hash) bool {
	_, ok := x.ids[h]
	return ok
}

// add remembers the hash of a message behind all others.
func (x *held) add(h Hash, id int64) {
	if x.ids == nil {
		x.ids = make(map[Hash]int64)
	}
	x.order = append(x.order, heldHash{hash: h, id: id})
	x.ids[h] = id
	if len(x.ids) > mostHeld {
		x.drop(0)
		x.trim()
	}
}

// remove forgets messages that are gone.
func (x *held) remove(first, last int64) {
	if len(x.ids) == 0 {
		return
	}
	for i := sort.Search(len(x.order), func(i int) bool { return x.order[i].id >= first }); i < len(x.order) && x.order[i].id <= last; i++ {
		x.drop(i)
	}
	x.trim()
}

func (x *held) drop(i int) {
	if o := &x.order[i]; !o.gone {
		o.gone = true
		delete(x.ids, o.hash)
	}
}

// trim leaves out what is gone: in front, or if it is much, everywhere. The first element
// is one that is not gone.
func (x *held) trim() {
	for len(x.order) > 0 && x.order[0].gone {
		x.order = x.order[1:]
	}
	if len(x.order) > 2*len(x.ids)+spareHash {
		x.order = x.live()
	}
}

func (x *held) live() []heldHash {
	all := make([]heldHash, 0, len(x.ids)+spareHash)
	for _, o := range x.order {
		if !o.gone {
			all = append(all, o)
		}
	}
	return all
}

func (x *held) append(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(x.ids)))
	next := int64(0)
	for _, o := range x.live() {
		b = binary.AppendUvarint(append(b, o.hash[:]...), uint64(o.id-next))
		next = o.id + 1
	}
	return b
}

// held reads the hashes of messages that wait in a queue.
func (d *decoder) held(q *Queue) (x held) {
	next := int64(0)
	for range d.Count(len(Hash{}) + 1) {
		h := d.hash()
		id := next + d.offset()
		if d.Bad() || !q.Has(id) || x.has(h) || len(x.ids) == mostHeld {
			d.Fail()
			return x
		}
		x.add(h, id)
		next = id + 1
	}
	return x
}
