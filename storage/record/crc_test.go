package record

import (
	"hash/crc32"
	"math/rand/v2"
	"testing"
)

// TestJoinCRC: the sum of two stretches is that of their bytes, whatever their sizes.
func TestJoinCRC(t *testing.T) {
	random := rand.NewChaCha8([32]byte{1})
	p := make([]byte, 1<<17)
	random.Read(p)
	for _, size := range []int{0, 1, 2, 3, 7, 8, 255, 256, 4095, 65_537, 1<<17 - 1, 1 << 17} {
		for _, second := range []int{0, 1, 5, 64, size / 2, size} {
			if second > size {
				continue
			}
			at := size - second
			got := JoinCRC(crc32.Checksum(p[:at], castagnoli), crc32.Checksum(p[at:size], castagnoli), second)
			if want := crc32.Checksum(p[:size], castagnoli); got != want {
				t.Errorf("%d bytes behind %d: %08x, want %08x", second, at, got, want)
			}
		}
	}
}

// TestExtendCRC: small and large batches, behind something and behind nothing.
func TestExtendCRC(t *testing.T) {
	for _, size := range []int{10, worth, 100_000} {
		var b Builder
		value := make([]byte, size)
		rand.NewChaCha8([32]byte{2}).Read(value)
		if err := b.Append(&Record{Value: value}); err != nil {
			t.Fatal(err)
		}
		batch, err := b.Build()
		if err != nil {
			t.Fatal(err)
		}
		for _, head := range []string{"", "what lies before it"} {
			got := ExtendCRC(crc32.Checksum([]byte(head), castagnoli), batch)
			if want := crc32.Checksum(append([]byte(head), batch...), castagnoli); got != want {
				t.Errorf("%d bytes behind %q: %08x, want %08x", len(batch), head, got, want)
			}
		}
	}
}

func BenchmarkExtendCRC(b *testing.B) {
	p := make(Batch, 64<<10)
	b.Run("joined", func(b *testing.B) {
		b.SetBytes(int64(len(p)))
		for b.Loop() {
			ExtendCRC(1, p)
		}
	})
	b.Run("read again", func(b *testing.B) {
		b.SetBytes(int64(len(p)))
		for b.Loop() {
			crc32.Update(1, castagnoli, p)
		}
	})
}
