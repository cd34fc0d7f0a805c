package state

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/weirmq/weir/storage/weir"
)

// TestRestoreRefuses: snapshots of what Apply does not make.
func TestRestoreRefuses(t *testing.T) {
	for name, spoil := range map[string]func(v *Vhost, a, b *Queue){
		"a vhost without a name":         func(v *Vhost, _, _ *Queue) { v.Name = "" },
		"a topic of two vhosts":          func(v *Vhost, _, _ *Queue) { v.Topic = weir.TopicID{5} },
		"a vhost named like another":     func(v *Vhost, _, _ *Queue) { v.Name = "other" },
		"a queue that is not routed to":  func(v *Vhost, a, _ *Queue) { v.Table.QueueDeleted("a") },
		"a queue that is only routed to": func(v *Vhost, _, _ *Queue) { v.Table.QueueDeclared("d") },
		"an id to come":                  func(v *Vhost, _, _ *Queue) { v.next = 2 },
		"two queues of a name":           func(_ *Vhost, _, b *Queue) { b.Name = "a" },
		"two queues of an id":            func(_ *Vhost, _, b *Queue) { b.ID = 1 },
		"messages to come":               func(v *Vhost, _, _ *Queue) { v.delayed, v.end = delayed{}, v.end-2 },
		"a delayed message to come":      func(v *Vhost, _, _ *Queue) { v.end-- },
		"a message of two priorities":    func(_ *Vhost, _, b *Queue) { b.waiting[3].add(1<<32, 1<<32) },
		"a count of nothing":             func(_ *Vhost, a, _ *Queue) { a.counts[0].add(5, 5) },
		"counts without bits":            func(_ *Vhost, a, _ *Queue) { a.counts = append(a.counts, set{}) },
		"a mark below all":               func(_ *Vhost, a, _ *Queue) { a.marks[0].id = 5 },
		"marks out of order":             func(_ *Vhost, a, _ *Queue) { a.marks[0], a.marks[1] = a.marks[1], a.marks[0] },
		"a mark of no epoch":             func(_ *Vhost, a, _ *Queue) { a.marks[0].epochs = 0 },
		"a mark to come":                 func(v *Vhost, a, _ *Queue) { a.marks[1].id = v.end },
		"bytes of nothing":               func(v *Vhost, a, _ *Queue) { a.waiting[0], a.counts, a.marks, a.bytes = set{}, nil, nil, 1 },
		"nothing expires": func(v *Vhost, a, _ *Queue) {
			a.waiting[0], a.counts, a.marks, a.bytes, a.expires = set{}, nil, nil, 0, true
		},
		"a mark in an empty queue":  func(v *Vhost, a, _ *Queue) { a.waiting[0], a.counts, a.bytes = set{}, nil, 0 },
		"a count in an empty queue": func(v *Vhost, a, _ *Queue) { a.waiting[0], a.marks, a.bytes = set{}, nil, 0 },
		"an hour of nothing":        func(v *Vhost, _, _ *Queue) { v.delayed.hours = append(v.delayed.hours, newHour(1<<20)) },
		"an hour after all":         func(v *Vhost, _, _ *Queue) { v.delayed.hours[0].number = maxMillis },
		"hours out of order":        func(v *Vhost, _, _ *Queue) { v.delayed.hours = append(v.delayed.hours, v.delayed.hours[0]) },
		"runs that could be one": func(v *Vhost, _, _ *Queue) {
			h := v.delayed.hours[0]
			h.flush()
			h.last.First, h.last.Last = h.end, h.end
			v.end = h.end + 1
		},
		"a reader without partitions": func(v *Vhost, _, _ *Queue) { v.readers["x"] = nil },
		"no position":                 func(v *Vhost, _, _ *Queue) { v.readers["r"][Partition{}] = -1 },
	} {
		s := sample(t)
		v := s.Vhost("v")
		spoil(v, v.ids[1], v.ids[2])
		body := s.Snapshot()
		r := New()
		if err := r.Restore(body); !errors.Is(err, ErrCorrupt) || len(r.Vhosts()) > 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// u16 writes numbers as bitmaps have them.
func u16(all ...int) (b []byte) {
	for _, x := range all {
		b = binary.LittleEndian.AppendUint16(b, uint16(x))
	}
	return b
}

// runsBitmap is a bitmap with a container of runs.
func runsBitmap(count int, all ...int) []byte {
	b := append(u16(cookieRuns, 0), 1)
	return append(append(b, u16(7, count-1, len(all)/2)...), u16(all...)...)
}

// plainBitmap is a bitmap without runs.
func plainBitmap(containers int, heads []int, data []byte) []byte {
	b := append(u16(cookiePlain, 0, containers, 0), u16(heads...)...)
	return append(append(b, make([]byte, 4*containers)...), data...)
}

// TestBitmap: what is no bitmap although nearly one.
func TestBitmap(t *testing.T) {
	dense := make([]byte, 8192)
	r := rand.New(rand.NewPCG(1, 1))
	for i := range dense {
		dense[i] = byte(r.Uint32())
	}
	m := roaring.New()
	for i := range 1 << 16 {
		if dense[i/8]&(1<<(i%8)) != 0 {
			m.Add(uint32(i))
		}
	}
	count := int(m.GetCardinality())
	for name, x := range map[string]struct {
		body []byte
		is   bool
	}{
		"runs":                      {runsBitmap(5, 3, 1, 10, 2), true},
		"runs to the end":           {runsBitmap(4, 3, 1, 65534, 1), true},
		"runs beyond the end":       {runsBitmap(5, 3, 1, 65534, 2), false},
		"runs that touch":           {runsBitmap(5, 3, 1, 5, 2), false},
		"runs that overlap":         {runsBitmap(5, 3, 1, 4, 2), false},
		"runs out of order":         {runsBitmap(5, 10, 2, 3, 1), false},
		"more in runs":              {runsBitmap(4, 3, 1, 10, 2), false},
		"no runs":                   {runsBitmap(1), false},
		"an array":                  {plainBitmap(1, []int{7, 1}, u16(3, 9)), true},
		"an array out of order":     {plainBitmap(1, []int{7, 1}, u16(9, 3)), false},
		"an array with twins":       {plainBitmap(1, []int{7, 1}, u16(3, 3)), false},
		"less than an array":        {plainBitmap(1, []int{7, 2}, u16(3, 9)), false},
		"more than an array":        {plainBitmap(1, []int{7, 0}, u16(3, 9)), false},
		"two arrays":                {plainBitmap(2, []int{7, 0, 8, 0}, u16(3, 9)), true},
		"two arrays of a key":       {plainBitmap(2, []int{7, 0, 7, 0}, u16(3, 9)), false},
		"nothing":                   {plainBitmap(0, nil, nil), false},
		"bits":                      {plainBitmap(1, []int{7, count - 1}, dense), true},
		"more in bits":              {plainBitmap(1, []int{7, count - 2}, dense), false},
		"fewer bits":                {plainBitmap(1, []int{7, count - 1}, dense[1:]), false},
		"another cookie":            {append(u16(cookiePlain+2, 0), plainBitmap(1, []int{7, 1}, u16(3, 9))[4:]...), false},
		"a cookie of many":          {u16(cookieRuns, 0xffff, 0, 0), false},
		"containers by the billion": {u16(cookiePlain, 0, 0xffff, 0xffff), false},
	} {
		if isBitmap(x.body) != x.is {
			t.Errorf("%s: %t", name, !x.is)
		}
		for n := range x.body {
			if x.is && isBitmap(x.body[:n]) {
				t.Errorf("%s: the first %d bytes are one", name, n)
			}
		}
	}
}
