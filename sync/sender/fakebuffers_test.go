package sender_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/sender"
)

// fakeBuffers is a gateway's disk: it survives the sender.
type fakeBuffers struct {
	mu      sync.Mutex
	buffers []*fakeBuffer
	notify  chan struct{}
	opened  uint32
	random  uint64
	dead    map[string]int // by place: how often AddDead named it
	trims   int
	reads   int
	frame   int // items per Read
}

type fakeBuffer struct {
	id    weir.BufferID
	lanes [weir.Lanes]fakeLane
	rows  []weir.MapRow
}

type fakeLane struct {
	items   []sender.Item
	trimmed uint64
	last    uint64
}

func newFakeBuffers() *fakeBuffers {
	b := &fakeBuffers{notify: make(chan struct{}, 1), dead: map[string]int{}, frame: 7}
	b.open()
	return b
}

// open is a start of the process: a new buffer, nothing is appended to old ones.
func (b *fakeBuffers) open() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.opened++
	b.random++
	var id weir.BufferID
	binary.BigEndian.PutUint32(id[:], b.opened)
	binary.BigEndian.PutUint64(id[4:], b.random)
	b.buffers = append(b.buffers, &fakeBuffer{id: id})
	b.wakeUp()
}

// image is what a card holds at this moment.
func (b *fakeBuffers) image() []*fakeBuffer {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []*fakeBuffer
	for _, x := range b.buffers {
		c := *x
		for i := range c.lanes {
			c.lanes[i].items = slices.Clone(c.lanes[i].items)
		}
		c.rows = slices.Clone(c.rows)
		all = append(all, &c)
	}
	return all
}

// restore puts an image back into the gateway, which is off.
func (b *fakeBuffers) restore(image []*fakeBuffer) {
	b.mu.Lock()
	b.buffers = image
	b.mu.Unlock()
	b.open()
}

func (b *fakeBuffers) wakeUp() {
	select {
	case b.notify <- struct{}{}:
	default:
	}
}

// put stores a record durably and returns its place.
func (b *fakeBuffers) put(lane weir.Lane, topic string, r record.Record) (weir.BufferID, uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	cur := b.buffers[len(b.buffers)-1]
	l := &cur.lanes[lane]
	l.last++
	l.items = append(l.items, sender.Item{Seq: l.last, Topic: topic, Record: r})
	b.wakeUp()
	return cur.id, l.last
}

// damage turns what is left of the records first to last of the current buffer
// into a gap, as a repair would.
func (b *fakeBuffers) damage(lane weir.Lane, first, last uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := &b.buffers[len(b.buffers)-1].lanes[lane]
	first = max(first, l.trimmed+1)
	if first > last || last > l.last {
		return
	}
	var out []sender.Item
	for _, it := range l.items {
		if it.Seq < first || it.Seq > last {
			out = append(out, it)
		} else if it.Seq == last {
			out = append(out, sender.Item{Seq: last, Gap: &weir.Gap{First: first, Last: last, Reason: "damaged", Exact: true}})
		}
	}
	l.items = out
}

func (b *fakeBuffers) find(id weir.BufferID) *fakeBuffer {
	for _, x := range b.buffers {
		if x.id == id {
			return x
		}
	}
	return nil
}

func (b *fakeBuffers) List() ([]weir.Buffer, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []weir.Buffer
	for i, x := range b.buffers {
		v := weir.Buffer{ID: x.id, Current: i == len(b.buffers)-1}
		for l := range x.lanes {
			v.Lanes[l] = weir.Bounds{First: x.lanes[l].trimmed + 1, Last: x.lanes[l].last}
		}
		out = append(out, v)
	}
	return out, nil
}

func (b *fakeBuffers) Read(id weir.BufferID, lane weir.Lane, from uint64) ([]sender.Item, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reads++
	x := b.find(id)
	if x == nil {
		return nil, fmt.Errorf("no buffer %s", id)
	}
	items := x.lanes[lane].items
	i, _ := slices.BinarySearchFunc(items, from, func(it sender.Item, seq uint64) int { return int(it.Seq) - int(seq) })
	if i == len(items) {
		return nil, io.EOF
	}
	return slices.Clone(items[i:min(i+b.frame, len(items))]), nil
}

func (b *fakeBuffers) Trim(id weir.BufferID, lane weir.Lane, through uint64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.trims++
	l := &b.find(id).lanes[lane]
	if through < l.trimmed || through > l.last {
		return fmt.Errorf("trim to %d of %d to %d", through, l.trimmed, l.last)
	}
	l.trimmed = through
	for len(l.items) > 0 && l.items[0].Seq <= through {
		l.items = l.items[1:]
	}
	return nil
}

func (b *fakeBuffers) Retire(id weir.BufferID) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	x := b.find(id)
	if x == nil || x == b.buffers[len(b.buffers)-1] {
		return fmt.Errorf("retire buffer %s: unknown or current", id)
	}
	for _, l := range x.lanes {
		if l.trimmed != l.last {
			return fmt.Errorf("retire buffer %s: trimmed to %d of %d", id, l.trimmed, l.last)
		}
	}
	b.buffers = slices.DeleteFunc(b.buffers, func(x *fakeBuffer) bool { return x.id == id })
	return nil
}

func (b *fakeBuffers) Notify() <-chan struct{} { return b.notify }

func (b *fakeBuffers) Rows(id weir.BufferID) ([]weir.MapRow, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.find(id).rows), nil
}

func (b *fakeBuffers) AddRow(row weir.MapRow) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	x := b.find(row.Buffer)
	x.rows = append(x.rows, row)
	return nil
}

func (b *fakeBuffers) AddDead(id weir.BufferID, lane weir.Lane, items []sender.Item, reason string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, it := range items {
		if it.Record.Value == nil {
			return fmt.Errorf("empty dead letter at %d", it.Seq)
		}
		b.dead[place(id.String(), lane.String(), it.Seq)]++
	}
	return nil
}

func place(buffer, lane string, seq uint64) string {
	return fmt.Sprintf("%s/%s/%d", buffer, lane, seq)
}

// left counts the items that are not trimmed and the buffers.
func (b *fakeBuffers) left() (items, buffers int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, x := range b.buffers {
		for _, l := range x.lanes {
			items += len(l.items)
		}
	}
	return items, len(b.buffers)
}
