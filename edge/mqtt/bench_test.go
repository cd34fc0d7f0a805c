package mqtt

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
)

// BenchmarkPublish is QoS 1 ingest of 200-byte messages over loopback, ack by
// ack: this server with a backend in memory, and mochi as it comes, without
// any log. Compare the msg/s of one run.
func BenchmarkPublish(b *testing.B) {
	loads := []struct{ clients, inFlight int }{{1, 100}, {200, 1}}
	servers := []struct {
		name  string
		start func(testing.TB) (addr string)
	}{
		{"weir", func(t testing.TB) string { return start(t, Options{Backend: nullBackend{}}).addr }},
		{"mochi", startMochi},
	}
	for _, load := range loads {
		for _, server := range servers {
			b.Run(fmt.Sprintf("%dx%d/%s", load.clients, load.inFlight, server.name), func(b *testing.B) {
				addr := server.start(b)
				benchPublish(b, addr, load.clients, load.inFlight)
			})
		}
	}
}

// BenchmarkPublishOffline is durable QoS 1 ingest while sessions without
// connection are owed every message: each batch is synced once for the Backend,
// and beside it once for what they are owed. Compare the msg/s of one run.
func BenchmarkPublishOffline(b *testing.B) {
	for _, load := range []struct{ clients, inFlight int }{{1, 100}, {200, 1}} {
		for _, sessions := range []int{0, 1, 100} {
			b.Run(fmt.Sprintf("%dx%d/%d offline", load.clients, load.inFlight, sessions), func(b *testing.B) {
				dir := b.TempDir()
				file, err := os.Create(filepath.Join(dir, "log"))
				if err != nil {
					b.Fatal(err)
				}
				defer file.Close()
				owed, err := OpenOwed(filepath.Join(dir, "owed"), 1<<30, quiet())
				if err != nil {
					b.Fatal(err)
				}
				s := start(b, Options{Backend: fileBackend{file}, Store: openStore(b, filepath.Join(dir, "state")), Owed: owed})
				for i := range sessions {
					c := join(b, s, 4, fmt.Sprint("offline", i), false)
					c.subscribe(filter("sensors/#", 1))
					c.disconnect()
				}
				benchPublish(b, s.addr, load.clients, load.inFlight)
			})
		}
	}
}

// fileBackend writes each batch to a file and syncs it.
type fileBackend struct{ f *os.File }

func (fileBackend) Accept(*Batch)     {}
func (fileBackend) Stored(Place) bool { return false }

func (b fileBackend) Store(batch *Batch, done func(error)) bool {
	var p []byte
	for _, m := range batch.Messages {
		p = appendMessage(p, m)
	}
	_, err := b.f.Write(p)
	if err == nil {
		err = b.f.Sync()
	}
	done(err)
	return true
}

// nullBackend stores at once and keeps nothing.
type nullBackend struct{}

func (nullBackend) Accept(*Batch)     {}
func (nullBackend) Stored(Place) bool { return false }

func (nullBackend) Store(_ *Batch, done func(error)) bool {
	done(nil)
	return true
}

func startMochi(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := mochi.NewDefaultServerCapabilities()
	c.MaximumClientWritesPending = 1024
	s := mochi.New(&mochi.Options{Capabilities: c, Logger: slog.New(slog.DiscardHandler)})
	s.AddHook(new(allowAll), nil)
	if err := s.AddListener(listeners.NewNet("bench", l)); err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return l.Addr().String()
}

type allowAll struct{ mochi.HookBase }

func (*allowAll) ID() string { return "all" }
func (*allowAll) Provides(b byte) bool {
	return b == mochi.OnConnectAuthenticate || b == mochi.OnACLCheck
}
func (*allowAll) OnConnectAuthenticate(*mochi.Client, packets.Packet) bool { return true }
func (*allowAll) OnACLCheck(*mochi.Client, string, bool) bool              { return true }

// benchPublish shares b.N messages among the clients, each of which keeps
// inFlight of them unacknowledged.
func benchPublish(b *testing.B, addr string, clients, inFlight int) {
	conns := make([]*testClient, clients)
	for i := range conns {
		conns[i] = joinTCP(b, addr, fmt.Sprintf("bench-%d", i))
		conns[i].nc.SetDeadline(time.Time{})
	}
	payload := string(make([]byte, 200))
	b.ReportAllocs()
	b.ResetTimer()
	var wg sync.WaitGroup
	for i, c := range conns {
		n := b.N / clients
		if i < b.N%clients {
			n++
		}
		wg.Go(func() {
			frame := encode(publishPacket(fmt.Sprintf("sensors/%d/telemetry", i), payload, 1, 1))
			id := 5 + int(frame[4]) // header, two bytes of length, two of topic length, topic
			tokens := make(chan struct{}, inFlight)
			go func() {
				w := bufio.NewWriterSize(c.nc, 16<<10)
				for j := range n {
					select {
					case tokens <- struct{}{}:
					default:
						w.Flush()
						tokens <- struct{}{}
					}
					pid := uint16(j%65000 + 1)
					frame[id], frame[id+1] = byte(pid>>8), byte(pid)
					w.Write(frame)
				}
				w.Flush()
			}()
			var ack [4]byte
			for range n {
				if _, err := io.ReadFull(c.r, ack[:]); err != nil {
					b.Error(err)
					return
				}
				<-tokens
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
	for _, c := range conns {
		c.nc.Close()
	}
}

// joinTCP connects to any server with MQTT 3.1.1.
func joinTCP(t testing.TB, addr, id string) *testClient {
	nc := dialTCP(t, addr)
	c := &testClient{t: t, nc: nc, r: bufio.NewReader(nc), version: 4}
	c.send(connectPacket(4, id, true))
	c.expect(packets.Connack)
	return c
}
