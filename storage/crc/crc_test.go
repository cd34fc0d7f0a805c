package crc

import (
	"math/rand/v2"
	"testing"
)

// TestCRC32C: the check value of the polynomial, in one piece and in two.
func TestCRC32C(t *testing.T) {
	const want uint32 = 0xe3069283
	p := []byte("123456789")
	h := New()
	h.Write(p)
	if Sum(p) != want || Update(Sum(p[:4]), p[4:]) != want || h.Sum32() != want {
		t.Errorf("%08x, %08x, %08x, want %08x", Sum(p), Update(Sum(p[:4]), p[4:]), h.Sum32(), want)
	}
}

// TestJoin: the sum of two stretches is that of their bytes, whatever their sizes.
func TestJoin(t *testing.T) {
	random := rand.NewChaCha8([32]byte{1})
	p := make([]byte, 1<<17)
	random.Read(p)
	for _, size := range []int{0, 1, 2, 3, 7, 8, 255, 256, 4095, 65_537, 1<<17 - 1, 1 << 17} {
		for _, second := range []int{0, 1, 5, 64, size / 2, size} {
			if second > size {
				continue
			}
			at := size - second
			got := Join(Sum(p[:at]), Sum(p[at:size]), second)
			if want := Sum(p[:size]); got != want {
				t.Errorf("%d bytes behind %d: %08x, want %08x", second, at, got, want)
			}
		}
	}
}
