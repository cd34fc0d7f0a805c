package mqtt

import (
	"bytes"
	"io"
	"net"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// FuzzDoor sends bytes into a connection, with and without a CONNECT before
// them. The server must not panic, must not allocate what a header promises
// (64 MiB are allowed, 8 MiB are room for the test itself), and must serve the
// next client.
func FuzzDoor(f *testing.F) {
	will := withWillOf(connectPacket(5, "w", false), 3)
	f.Add(byte(0), encode(will))
	f.Add(byte(0), encode(connectPacket(3, "c", true)))
	all := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, ProtocolVersion: 5, PacketID: 1}
	all.Filters = packets.Subscriptions{filter("a/+", 2), filter("$share/g/#", 1)}
	unsub := all
	unsub.FixedHeader.Type = packets.Unsubscribe
	retained := publishPacket("a/b", "x", 2, 3)
	retained.FixedHeader.Retain = true
	retained.ProtocolVersion = 5
	retained.Properties = packets.Properties{
		TopicAlias: 1, TopicAliasFlag: true, ContentType: "t", MessageExpiryInterval: 1,
		User: []packets.UserProperty{{Key: "k", Val: "v"}},
	}
	f.Add(byte(5), append(append(encode(all), encode(retained)...), encode(unsub)...))
	f.Add(byte(4), encode(publishPacket("a", "x", 1, 1)))
	f.Add(byte(4), []byte{0x82, 6, 0, 1, 0, 1, 'a', 1, 0xe0, 0})
	f.Add(byte(5), []byte{0x62, 2, 0, 3, 0x40, 2, 0, 1, 0x50, 3, 0, 1, 0x92, 0x70, 2, 0, 1, 0xc0, 0, 0xe0, 1, 4})
	f.Add(byte(5), []byte{0x30, 0xff, 0xff, 0x3f, 0, 1, 'a'})
	f.Add(byte(5), []byte{0x82, 6, 0, 1, 0, 0, 1, 'a'})
	f.Fuzz(func(t *testing.T, version byte, p []byte) {
		l := newPipes()
		s := start(t, Options{Listeners: []net.Listener{l}, MaxPacketSize: 64 << 20, ConnectTimeout: 100 * time.Millisecond})
		c := dial(t, s)
		if version == 4 || version == 5 {
			c.version = version
			c.send(connectPacket(version, "fuzz", false))
			c.expect(packets.Connack)
		}
		go io.Copy(io.Discard, c.nc)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		c.nc.SetWriteDeadline(time.Now().Add(time.Second))
		c.nc.Write(p)
		c.nc.Close()
		join(t, s, 5, "next", true).publish("a", "x", 1, 1)
		runtime.ReadMemStats(&after)
		if spent := after.TotalAlloc - before.TotalAlloc; spent > uint64(8<<20+200*len(p)) {
			t.Fatalf("%d bytes allocated for %d", spent, len(p))
		}
	})
}

// wire is a connection from which bytes come, and then nothing.
type wire struct {
	net.Conn
	r io.Reader
}

func (w *wire) Read(p []byte) (int, error)      { return w.r.Read(p) }
func (*wire) SetDeadline(time.Time) error       { return nil }
func (*wire) SetReadDeadline(t time.Time) error { return nil }
func (*wire) RemoteAddr() net.Addr              { return pipeAddr{} }

// frames returns a connection that has logged in, and of which p is read.
func frames(t testing.TB, p []byte, limit int) *conn {
	s, err := New(Options{Backend: newBackend(), Store: new(memStore), MaxPacketSize: limit, Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	c := newConn(s, &wire{r: bytes.NewReader(p)})
	c.session, c.budget = new(session), s.arriving.Peer("")
	return c
}

// FuzzFrame: whatever a header promises, what is read is what was there, and
// is paid for.
func FuzzFrame(f *testing.F) {
	f.Add(encode(publishPacket("a", "x", 1, 1)))
	f.Add(encode(publishPacket("a", string(make([]byte, 3*readBuffer)), 1, 1)))
	f.Add([]byte{0x30, 0xff, 0xff, 0xff, 0x7f, 1, 2})
	f.Add([]byte{0x30, 0x80, 0x80, 0x80, 0x80, 1})
	f.Fuzz(func(t *testing.T, p []byte) {
		c := frames(t, p, maxFrame)
		h, body, claim, err := c.packet(maxFrame)
		if err == nil && (len(body) != h.Remaining || !bytes.Contains(p, body)) {
			t.Fatalf("%+v: %d bytes", h, len(body))
		}
		if err == nil && len(body) > readBuffer && claim.Held() < int64(len(body)) {
			t.Fatalf("%d bytes are paid for, of %d", claim.Held(), len(body))
		}
		release(claim)
		if n := c.s.arriving.Used(); n != 0 {
			t.Fatalf("%d bytes are held for ever", n)
		}
	})
}

// TestOversized: a header that promises the maximum makes the server allocate
// nothing before a buffer full of it has come, and then a chunk, not a packet.
func TestOversized(t *testing.T) {
	const chunk = 32 << 10
	header := []byte{0x30, 0xff, 0xff, 0xff, 0x7f}
	for _, test := range []struct {
		limit, sent, most int
		want              error
	}{
		{1000, 100, chunk, packets.ErrPacketTooLarge},
		{maxFrame, 100, chunk, io.ErrUnexpectedEOF},
		{maxFrame, 2 * readBuffer, 3 * chunk, io.ErrUnexpectedEOF},
	} {
		c := frames(t, append(slices.Clone(header), make([]byte, test.sent)...), maxFrame)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, _, _, err := c.packet(test.limit); err != test.want {
			t.Fatalf("%+v: %v", test, err)
		}
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > uint64(test.most) {
			t.Errorf("%+v: %d bytes allocated", test, n)
		}
	}
}
