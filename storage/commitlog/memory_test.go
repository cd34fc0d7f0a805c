package commitlog

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/weirmq/weir/storage/freelist"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record/recordtest"
	"github.com/weirmq/weir/storage/storagetest"
)

// keptSlots counts the buffers of a size class that the log has ready for slots, by taking
// them.
func (l *Log) keptSlots(size int) (n int) {
	var all [][]byte
	for p := l.slots.Kept(size); p != nil; p = l.slots.Kept(size) {
		all = append(all, p)
	}
	for _, p := range all {
		l.slots.Put(p)
	}
	return len(all)
}

// TestSlotMemory: the memory of slots is used again once the tail cache and all readers
// are done with it, not before. (Memory that is used again is overwritten at once: see
// freelist.)
func TestSlotMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 100 << 10
		l := open(t, mem.New(), func(o *Options) { o.TailBytes = 400 << 10; o.Upkeep.Off = true }) // 300 KiB: two runs
		topic := createTopic(t, l, "t", 1)
		one := func(i int) {
			t.Helper()
			appended(t, l, Append{Topic: topic.ID, Batch: recordtest.Batch(fmt.Sprint(i) + strings.Repeat("x", size))})
		}
		read := func(offset int64) (Fetched, []byte) {
			t.Helper()
			f, err := l.Fetch(context.Background(), topic.ID, 0, offset, 1)
			if err != nil || len(f.Batches) != 1 {
				t.Fatalf("%d batches: %v", len(f.Batches), err)
			}
			return f, slices.Clone(f.Batches[0])
		}
		one(0)
		first, want := read(0)
		second, _ := read(0)
		forgotten, _ := read(0)
		for i := 1; i < 4; i++ {
			one(i)
		}
		if n := l.keptSlots(size); n != 1 { // that of offset 1; offset 0 is held
			t.Errorf("%d slots can be used again, want 1", n)
		}
		second.Lease.Release()
		second.Lease.Release() // counts once
		second.Lease.Release()
		for i := 4; i < 8; i++ {
			one(i)
		}
		if n := l.keptSlots(size); n != 1 {
			t.Errorf("%d slots can be used again, want 1", n)
		}
		if !bytes.Equal(first.Batches[0], want) || !bytes.Equal(forgotten.Batches[0], want) {
			t.Error("the memory of a reader was overwritten")
		}
		first.Lease.Release()
		if n := l.keptSlots(size); n != 1 {
			t.Errorf("%d slots can be used again, want 1: one reader has not released its lease", n)
		}
		forgotten.Lease.Release()
		if n := l.keptSlots(size); n != 2 {
			t.Errorf("%d slots can be used again, want 2", n)
		}
		var none *Lease
		none.Release()
	})
}

// TestSlotMemoryKept: the memory of a slot that may still be on its way to the bucket, or
// in which a Machine's entry lies, is not used again.
func TestSlotMemoryKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 100 << 10
		f := storagetest.NewFaults(mem.New(), 1)
		machine := &recorder{kinds: []uint16{150}}
		l := open(t, f, func(o *Options) {
			o.TailBytes, o.Upkeep.Off = 150<<10, true // 112 KiB: one run
			o.Machines = append(o.Machines, machine)
		})
		topic := createTopic(t, l, "t", 1)
		value := strings.Repeat("x", size)
		f.Plan(storagetest.Nth(f.Calls()+1, storagetest.Outcome{Fate: storagetest.Late}))
		for range 2 {
			appended(t, l, Append{Topic: topic.ID, Batch: recordtest.Batch(value)})
		}
		if n := l.keptSlots(size); n != 0 {
			t.Error("the memory of a slot of which an attempt was lost is used again")
		}
		appended(t, l, Append{Topic: topic.ID, Batch: recordtest.Batch(value)})
		if n := l.keptSlots(size); n != 1 {
			t.Errorf("%d slots can be used again, want 1", n)
		}
		if err := l.Propose(context.Background(), 150, []byte(value)); err != nil {
			t.Fatal(err)
		}
		if n := l.keptSlots(size); n != 0 {
			t.Error("the memory of a Machine's entry is used again")
		}
	})
}

// TestSmallSlots: a slot takes little more memory than its bytes, as long as the tail cache
// holds it.
func TestSmallSlots(t *testing.T) {
	for _, size := range []int{1, 100, 1_200, 5_000, 9_000, 50_000, 100_000, 1_000_100, 5_000_000} {
		m := newMemory(freelist.New(keptSlots), size)
		if got := cap(m.laid.Bytes); got < size || got > size+size/3 {
			t.Errorf("a slot of %d bytes has %d", size, got)
		}
		m.drop()
	}
}
