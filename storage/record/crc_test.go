package record

import (
	"math/rand/v2"
	"testing"

	"github.com/weirmq/weir/storage/crc"
)

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
			got := ExtendCRC(crc.Sum([]byte(head)), batch)
			if want := crc.Sum(append([]byte(head), batch...)); got != want {
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
			crc.Update(1, p)
		}
	})
}
