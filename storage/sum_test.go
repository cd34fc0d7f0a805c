package storage

import (
	"context"
	"testing"

	"github.com/weirmq/weir/storage/crc"
)

// TestSum: what is said of a body counts for its memory alone.
func TestSum(t *testing.T) {
	body := []byte("some bytes")
	want := crc.Sum(body)
	if got := Sum(t.Context(), body); got != want {
		t.Errorf("Sum: %08x, want %08x", got, want)
	}
	ctx := context.WithValue(t.Context(), sumKey{}, summed{body, 7})
	if got := Sum(ctx, body); got != 7 {
		t.Errorf("Sum of the body that was summed: %08x", got)
	}
	copied := append([]byte(nil), body...)
	for name, other := range map[string][]byte{"a copy": copied, "a part": body[:4], "nothing": nil} {
		if got, want := Sum(ctx, other), crc.Sum(other); got != want {
			t.Errorf("Sum of %s: %08x, want %08x", name, got, want)
		}
	}
}
