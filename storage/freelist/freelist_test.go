package freelist

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

// TestSizes: a buffer has room for what was asked for, and at most a third more.
func TestSizes(t *testing.T) {
	for class := range classes {
		if size := sizeOf(class); classOf(size) != class || class < classes-1 && classOf(size+1) != class+1 {
			t.Errorf("class %d has %d bytes, which is of class %d; one more of %d", class, size, classOf(size), classOf(size+1))
		}
	}
	l := New(1 << 20)
	for _, n := range []int{0, 1, 1200, small, small + 1, 8 << 10, 8<<10 + 1, 1_000_100, 16 << 20, 16<<20 + 1} {
		p := l.Get(n)
		if len(p) != 0 || cap(p) < n || cap(p) > n+n/3 {
			t.Errorf("%d: %d of %d bytes", n, len(p), cap(p))
		}
		l.Put(p)
	}
	l.Put(make([]byte, 0, 9<<10)) // not one of its sizes
	if got := cap(l.Get(9 << 10)); got != 10<<10 {
		t.Errorf("%d bytes", got)
	}
}

// TestKept: what was put back comes again, to those that need a little less too, and no
// more of it is kept than the limit.
func TestKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(3 << 20)
		for range 5 {
			l.Put(make([]byte, 0, 1<<20))
		}
		if l.Kept(600_000) != nil {
			t.Error("a buffer that is much too large was given")
		}
		for range 3 {
			if p := l.Kept(800_000); len(p) != 0 || cap(p) != 1<<20 {
				t.Fatalf("%d of %d bytes", len(p), cap(p))
			}
		}
		if l.Kept(1<<20) != nil {
			t.Error("more is kept than the limit")
		}
		var none *List
		none.Put(none.Get(10))
		if none.Kept(10) != nil {
			t.Error("kept by none")
		}
	})
}

// TestBytes: the count of bytes is that of the buffers.
func TestBytes(t *testing.T) {
	l, r := New(4<<20), rand.New(rand.NewPCG(1, 2))
	var out [][]byte
	for range 2_000 {
		if n := r.IntN(1 << 21); len(out) < 8 && r.IntN(2) == 0 {
			out = append(out, l.Get(n))
		} else if len(out) > 0 {
			i := r.IntN(len(out))
			l.Put(out[i])
			out = append(out[:i], out[i+1:]...)
		}
		l.mu.Lock()
		bytes := 0
		for class, list := range l.kept {
			bytes += len(list) * sizeOf(class)
		}
		if bytes != l.bytes || bytes > 4<<20 {
			t.Fatalf("%d bytes are kept, counted as %d", bytes, l.bytes)
		}
		l.mu.Unlock()
	}
}

// TestTrim: what nobody needs for two pauses is given up, and only that.
func TestTrim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(16 << 20)
		bytes := func() int {
			synctest.Wait()
			l.mu.Lock()
			defer l.mu.Unlock()
			return l.bytes
		}
		for range 5 {
			l.Put(make([]byte, 0, 1<<20))
		}
		l.Put(make([]byte, 0, 2<<20))
		for range 40 { // ten pauses in which two of them are needed at once
			a, b := l.Get(1<<20), l.Get(1<<20)
			l.Put(a)
			l.Put(b)
			time.Sleep(pause / 4)
		}
		if got := bytes(); got != 2<<20 {
			t.Errorf("%d bytes are kept, want 2 MiB", got)
		}
		time.Sleep(2 * pause)
		if got := bytes(); got != 0 || l.trims {
			t.Errorf("%d bytes are kept when nobody needs any", got)
		}
		l.Put(make([]byte, 0, 1<<20))
		if got := bytes(); got != 1<<20 || !l.trims {
			t.Errorf("%d bytes are kept", got)
		}
	})
}
