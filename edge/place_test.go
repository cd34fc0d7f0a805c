package edge

import (
	"testing"

	"github.com/weirmq/weir/edge/mqtt"
	"github.com/weirmq/weir/storage/weir"
)

// TestPlace: the bytes of a place are those of edge/mqtt/FORMAT.md.
func TestPlace(t *testing.T) {
	p := place{buffer: weir.BufferID{1, 2, 11: 3}, lane: 2, seq: 1 << 40}
	const want mqtt.Place = "\x01\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x03\x02\x00\x00\x01\x00\x00\x00\x00\x00"
	if got := p.encode(); got != want {
		t.Errorf("%x, want %x", got, want)
	}
	if back, ok := decodePlace(want); !ok || back != p {
		t.Errorf("%+v %v", back, ok)
	}
	if stays.encode() != staysPlace {
		t.Errorf("%x", stays.encode())
	}
	for _, bad := range []mqtt.Place{"", want[1:], want + "x"} {
		if _, ok := decodePlace(bad); ok {
			t.Errorf("%x is a place", bad)
		}
	}
}
