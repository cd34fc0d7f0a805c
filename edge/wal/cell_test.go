package wal

import (
	"os"
	"path/filepath"
	"testing"
)

// TestCellIsClean: whether a later value than the one that is read may have been
// lost.
func TestCellIsClean(t *testing.T) {
	spoil := func(gen int) func([]byte) []byte {
		return func(p []byte) []byte {
			p[gen%2*slotStride+17] ^= 1
			return p
		}
	}
	same := func(p []byte) []byte { return p }
	for name, c := range map[string]struct {
		values int
		hurt   func([]byte) []byte
		want   byte // the value; 0: none
		clean  bool
	}{
		"new":                        {0, same, 0, false},
		"one value":                  {1, same, 1, true},
		"one value, spoiled":         {1, spoil(1), 0, false},
		"one value, and a torn one":  {1, spoil(0), 1, false},
		"many":                       {5, same, 5, true},
		"the newest spoiled":         {5, spoil(5), 4, false},
		"the one before it spoiled":  {5, spoil(4), 5, false},
		"cut behind the first slot":  {5, func(p []byte) []byte { return p[:slotSize] }, 4, false},
		"the newest blank":           {5, func(p []byte) []byte { clear(p[slotStride:]); return p }, 4, false},
		"the one before it blank":    {5, func(p []byte) []byte { clear(p[:slotStride]); return p }, 5, false},
		"emptied":                    {5, func([]byte) []byte { return nil }, 0, false},
		"the newest is an old block": {5, nil, 4, false},
	} {
		t.Run(name, func(t *testing.T) {
			o := small(t.TempDir())
			o.disk.defaults()
			path := filepath.Join(o.Dir, "cell")
			cell, _, err := openCell(&o.disk, path, 7)
			if err != nil {
				t.Fatal(err)
			}
			var old []byte
			for i := range c.values {
				value := make([]byte, cellPayload)
				value[0] = byte(i + 1)
				if err := cell.write(value); err != nil {
					t.Fatal(err)
				}
				if i == 0 {
					old, _ = os.ReadFile(path)
				}
			}
			cell.close()
			p, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if c.hurt != nil {
				p = c.hurt(p)
			} else {
				copy(p[slotStride:], old[slotStride:])
			}
			if err := os.WriteFile(path, p, 0o600); err != nil {
				t.Fatal(err)
			}
			value, clean := readCell(path, 7)
			var got byte
			if value != nil {
				got = value[0]
			}
			if got != c.want || clean != c.clean {
				t.Errorf("value %d, clean %v; want %d, %v", got, clean, c.want, c.clean)
			}
		})
	}
}

// TestCellMoves: a cell that cannot be overwritten in place is replaced by a new file, and
// continues there.
func TestCellMoves(t *testing.T) {
	o := small(t.TempDir())
	refuse := true
	o.disk.do = func(s step, _ string, f func() error) error {
		if s == stepCellSync && refuse {
			return errInjected
		}
		return f()
	}
	o.disk.defaults()
	path := filepath.Join(o.Dir, "cell")
	cell, _, err := openCell(&o.disk, path, 7)
	if err != nil {
		t.Fatal(err)
	}
	defer cell.close()
	for i := range byte(6) {
		refuse = i%2 == 0
		value := make([]byte, cellPayload)
		value[0] = i + 1
		if err := cell.set(value); err != nil {
			t.Fatal(err)
		}
		if got, clean := readCell(path, 7); got == nil || got[0] != i+1 || !clean {
			t.Fatalf("after %d: %v, clean %v", i+1, got, clean)
		}
	}
}
