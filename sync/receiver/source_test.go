package receiver_test

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/receiver"
	"github.com/weirmq/weir/sync/wire"
)

// from is a batch of records that say that they are of a gateway.
func from(t *testing.T, codec record.Codec, gateway string, values ...string) record.Batch {
	b := record.NewBuilder(codec)
	for _, v := range values {
		r := record.Record{Value: []byte(v), Headers: []record.Header{{Key: "weir.gateway", Value: []byte(gateway)}}}
		if err := b.Append(&r); err != nil {
			t.Fatal(err)
		}
	}
	out, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// A batch whose records name another gateway is refused where looking is cheap.
func TestWrongGateway(t *testing.T) {
	noise := make([]byte, 8<<10) // does not compress
	for i, x := 0, uint32(1); i < len(noise); i++ {
		x = x*1664525 + 1013904223
		noise[i] = byte(x >> 24)
	}
	for name, x := range map[string]struct {
		batch record.Batch
		taken bool
	}{
		"its own":               {from(t, record.None, "gw-1", "v"), true},
		"its own, packed":       {from(t, record.Zstd, "gw-1", "v"), true},
		"no header":             {batch(t, "v"), true},
		"another's":             {from(t, record.None, "gw-2", "v"), false},
		"another's, packed":     {from(t, record.Zstd, "gw-2", "v"), false},
		"another's, large":      {from(t, record.None, "gw-2", strings.Repeat("v", 100<<10)), false},
		"another's, not cheap":  {from(t, record.Zstd, "gw-2", strings.Repeat("v", 2000)+string(noise)), true},
		"another's, huge":       {from(t, record.Zstd, "gw-2", strings.Repeat("v", 100<<10)), true},
		"a prefix of its name":  {from(t, record.None, "gw-", "v"), false},
		"what does not inflate": {append(from(t, record.Zstd, "gw-2", "v")[:record.HeaderSize:record.HeaderSize], "junk"...), true},
	} {
		bubble(t, func(t *testing.T) {
			p := newPeer(t, receiver.Options{})
			defer p.recv.Close()
			p.hello()
			lane := p.open(wire.Preface{Kind: wire.StreamLane, Lane: weir.Live})
			a := live(t, 0, 1, 1)
			a.Batch = x.batch
			if name == "what does not inflate" {
				fixLength(a.Batch)
			}
			p.send(lane, a)
			synctest.Wait()
			if n := p.log.count(); (n == 1) != x.taken {
				t.Errorf("%s: the log saw %d batches", name, n)
			} else if n == 1 {
				p.log.answer(0, nil)
			}
			f := p.read(lane)
			if r, refused := f.(*wire.Refused); refused == x.taken || refused && (r.Reason != wire.ReasonNotAllowed || !strings.Contains(r.Text, "gw-")) {
				t.Errorf("%s: %+v", name, f)
			}
		})
	}
}

// fixLength writes the length of a batch that was cut.
func fixLength(b []byte) {
	n := uint32(len(b) - 12)
	b[8], b[9], b[10], b[11] = byte(n>>24), byte(n>>16), byte(n>>8), byte(n)
}
