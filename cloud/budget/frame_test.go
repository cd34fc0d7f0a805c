package budget

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/storage/freelist"
)

// frame reads a frame of so many bytes from what send writes.
func frame(t *testing.T, f Frame, p *Pool, size int, send func(net.Conn)) ([]byte, *Claim, error) {
	t.Helper()
	here, there := net.Pipe()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer here.Close()
	wg.Go(func() { send(there) })
	claim := p.Peer("").Claim(int64(size))
	got, err := f.Read(t.Context(), here.SetReadDeadline, here, claim, size)
	return got, claim, err
}

func large(t *testing.T) *Pool {
	return pool(t, PoolOptions{Name: "frames", Bytes: 4 << 20, Reserve: 1 << 20, Largest: 1 << 20})
}

func TestFrameIsReadAndPaidFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want := bytes.Repeat([]byte("weir"), 100_000)
		f := Frame{Buffers: freelist.New(8 << 20)}
		got, claim, err := frame(t, f, large(t), len(want), func(c net.Conn) {
			for p := want; len(p) > 0; time.Sleep(time.Millisecond) {
				n := min(7_777, len(p))
				c.Write(p[:n])
				p = p[n:]
			}
		})
		if err != nil || !bytes.Equal(got, want) || claim.Held() != int64(len(want)) {
			t.Errorf("%v, %d bytes, %d paid", err, len(got), claim.Held())
		}
		f.Buffers.Put(got)
		if again := f.Buffers.Get(len(want)); len(again) != 0 || cap(again) != cap(got) {
			t.Errorf("%d of %d bytes", len(again), cap(again))
		}
	})
}

// Naming a length costs the server one piece, and the peer its connection.
func TestFrameThatIsOnlyAnnounced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := large(t)
		began := time.Now()
		got, claim, err := frame(t, Frame{}, p, 1<<20, func(c net.Conn) { c.Write(make([]byte, 10)) })
		if !errors.Is(err, ErrSlow) || cap(got) > Piece || claim.Held() > Piece {
			t.Errorf("%v: %d bytes allocated, %d paid", err, cap(got), claim.Held())
		}
		if d := time.Since(began); d < 5*time.Second || d > 10*time.Second {
			t.Errorf("it stood still for %v", d)
		}
		claim.Release()
		if p.Used() != 0 {
			t.Errorf("%d bytes stay", p.Used())
		}
	})
}

// A peer that sends a byte now and then is cut off too: by the floor, or by the end.
func TestFrameThatTrickles(t *testing.T) {
	trickle := func(bytes int) func(net.Conn) {
		return func(c net.Conn) {
			for {
				if _, err := c.Write(make([]byte, bytes)); err != nil {
					return
				}
				time.Sleep(100 * time.Millisecond)
			}
		}
	}
	for _, c := range []struct {
		bytes int // each tenth of a second
		ends  time.Duration
	}{{1, 8 * time.Second}, {800, 8 * time.Second}, {1_000, 30 * time.Second}} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			_, _, err := frame(t, Frame{}, large(t), 1<<20, trickle(c.bytes))
			if d := time.Since(began).Round(time.Second); !errors.Is(err, ErrSlow) || d != c.ends {
				t.Errorf("%d bytes at a time: %v after %v", c.bytes, err, d)
			}
		})
	}
}

// When others wait for the memory, a peer that sends nothing has a second.
func TestFrameGivesWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pool(t, PoolOptions{Bytes: 300 << 10, Reserve: 1 << 10, Largest: 150 << 10})
		results := make(chan error, 3)
		for range 3 { // of which two do not fit beside the one that is completed
			go func() {
				_, claim, err := frame(t, Frame{}, p, 150<<10, func(c net.Conn) { c.Write(make([]byte, Piece+1)) })
				claim.Release()
				results <- err
			}()
		}
		began := time.Now()
		time.Sleep(10 * time.Millisecond)
		want := make([]byte, 150<<10)
		_, _, err := frame(t, Frame{}, p, len(want), func(c net.Conn) { c.Write(want) })
		if d := time.Since(began); err != nil || d > 3*time.Second {
			t.Errorf("after %v: %v", d, err)
		}
		for range 3 {
			if err := <-results; !errors.Is(err, ErrSlow) {
				t.Error(err)
			}
		}
	})
}

func TestFrameThatEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			sent int
			want error
		}{{0, io.EOF}, {1, io.ErrUnexpectedEOF}, {Piece - 1, io.ErrUnexpectedEOF}} {
			_, _, err := frame(t, Frame{}, large(t), 2*Piece, func(n net.Conn) {
				n.Write(make([]byte, c.sent))
				n.Close()
			})
			if !errors.Is(err, c.want) {
				t.Errorf("after %d bytes: %v", c.sent, err)
			}
		}
	})
}

func TestFrameStopsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := large(t)
		take(t, p.Peer(""), 1<<20)
		take(t, p.Peer(""), 1<<20)
		take(t, p.Peer(""), 1<<20)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour) // the peer does not pay for the wait
		defer cancel()
		here, _ := net.Pipe()
		if _, err := (Frame{}).Read(ctx, here.SetReadDeadline, here, p.Peer("").Claim(1<<20), 1<<20); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}
