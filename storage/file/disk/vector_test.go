package disk

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// TestVectors writes pieces of many sizes, empty ones among them, and compares with what
// one write makes.
func TestVectors(t *testing.T) {
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 0))
		var pieces [][]byte
		for range rng.IntN(3000) {
			size := rng.IntN(200)
			if rng.IntN(100) == 0 {
				size = rng.IntN(3 * stride)
			}
			pieces = append(pieces, bytes.Repeat([]byte{byte(rng.Uint32())}, size))
		}
		if seed == 0 {
			pieces = [][]byte{make([]byte, stride), {}, make([]byte, stride-1), {1}, {2}}
		}
		want := append([]byte("head"), bytes.Join(pieces, nil)...)
		f, err := os.Create(filepath.Join(t.TempDir(), fmt.Sprint(seed)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString("head"); err != nil {
			t.Fatal(err)
		}
		if err := WriteVectorsAt(f, pieces, 4); err != nil {
			t.Error(err)
		}
		if got, err := os.ReadFile(f.Name()); err != nil || !bytes.Equal(got, want) {
			t.Errorf("seed %d: %d bytes instead of %d, %v", seed, len(got), len(want), err)
		}
		f.Close()
	}
	if f, err := os.Open(os.DevNull); err != nil || WriteVectorsAt(f, [][]byte{{1}}, 0) == nil {
		t.Error("a file that cannot be written takes bytes", err)
	}
}

// TestBehind: after a short write the rest follows.
func TestBehind(t *testing.T) {
	for n := range 8 {
		pieces := [][]byte{[]byte("ab"), nil, []byte("cde"), []byte("fg")}
		if got := string(bytes.Join(behind(pieces, n), nil)); got != "abcdefg"[n:] {
			t.Errorf("behind %d: %q", n, got)
		}
	}
}
