package state

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/RoaringBitmap/roaring/v2"
)

// Bitmaps of 32 bits at rest, in the Roaring format
// (https://github.com/RoaringBitmap/RoaringFormatSpec).

// appendBitmap appends a bitmap, and leaves it in its smallest form.
func appendBitmap(b []byte, m *roaring.Bitmap) []byte {
	m.RunOptimize()
	b = binary.AppendUvarint(b, m.GetSerializedSizeInBytes())
	w := bytes.NewBuffer(b)
	if _, err := m.WriteTo(w); err != nil {
		panic(fmt.Sprintf("write a bitmap to memory: %v", err))
	}
	return w.Bytes()
}

// bitmap reads a bitmap that is not empty. The library would take what is none, and its
// own check takes time that grows with the square of the runs: so the bytes are checked
// before it reads them.
func (d *decoder) bitmap() *roaring.Bitmap {
	body := d.Bytes()
	if d.Bad() || !isBitmap(body) {
		d.Fail()
		return nil
	}
	m := roaring.New()
	if n, err := m.ReadFrom(bytes.NewReader(body)); err != nil || n != int64(len(body)) {
		d.Fail()
		return nil
	}
	return m
}

const (
	cookieRuns  = 12347 // with the number of containers, less 1, above it
	cookiePlain = 12346
	fewest      = 4    // containers from which on there are offsets beside runs
	mostInArray = 4096 // offsets in an array
)

// isBitmap reports whether p is a bitmap that is not empty.
func isBitmap(p []byte) bool {
	if len(p) < 8 {
		return false
	}
	cookie := binary.LittleEndian.Uint32(p)
	n := uint64(binary.LittleEndian.Uint32(p[4:]))
	var runs []byte
	if p = p[4:]; cookie&0xffff == cookieRuns {
		n = uint64(cookie>>16) + 1
		if runs, p = cut(p, (n+7)/8); runs == nil {
			return false
		}
	} else if p = p[4:]; cookie != cookiePlain || n == 0 {
		return false
	}
	heads, p := cut(p, 4*n)
	if heads == nil {
		return false
	}
	if runs == nil || n >= fewest {
		var offsets []byte
		if offsets, p = cut(p, 4*n); offsets == nil {
			return false
		}
	}
	last := -1
	for i := range n {
		key, count := int(binary.LittleEndian.Uint16(heads[4*i:])), int(binary.LittleEndian.Uint16(heads[4*i+2:]))+1
		var ok bool
		switch {
		case runs != nil && runs[i/8]&(1<<(i%8)) != 0:
			p, ok = checkRuns(p, count)
		case count > mostInArray:
			p, ok = checkBits(p, count)
		default:
			p, ok = checkArray(p, count)
		}
		if !ok || key <= last {
			return false
		}
		last = key
	}
	return len(p) == 0
}

// cut returns the first n bytes, which are nil if there are fewer, and the rest.
func cut(p []byte, n uint64) (first, rest []byte) {
	if n > uint64(len(p)) {
		return nil, nil
	}
	return p[:n], p[n:]
}

// checkRuns reports whether p begins with a container of runs with count offsets, and
// returns what follows. So do the others.
func checkRuns(p []byte, count int) ([]byte, bool) {
	head, p := cut(p, 2)
	if head == nil {
		return nil, false
	}
	all, p := cut(p, 4*uint64(binary.LittleEndian.Uint16(head)))
	if all == nil {
		return nil, false
	}
	next := 0
	for ; len(all) > 0; all = all[4:] {
		first, more := int(binary.LittleEndian.Uint16(all)), int(binary.LittleEndian.Uint16(all[2:]))
		if first < next || first+more > 0xffff {
			return nil, false
		}
		next = first + more + 2 // runs that touch are one
		count -= more + 1
	}
	return p, count == 0
}

func checkBits(p []byte, count int) ([]byte, bool) {
	all, p := cut(p, 1<<16/8)
	if all == nil {
		return nil, false
	}
	for ; len(all) > 0; all = all[8:] {
		count -= bits.OnesCount64(binary.LittleEndian.Uint64(all))
	}
	return p, count == 0
}

func checkArray(p []byte, count int) ([]byte, bool) {
	all, p := cut(p, 2*uint64(count))
	if all == nil {
		return nil, false
	}
	for last := -1; len(all) > 0; all = all[2:] {
		x := int(binary.LittleEndian.Uint16(all))
		if x <= last {
			return nil, false
		}
		last = x
	}
	return p, true
}
