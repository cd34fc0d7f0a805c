package budget

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func pool(t *testing.T, o PoolOptions) *Pool {
	t.Helper()
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	p, err := NewPool(o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// taken is a Take, or a Grow, in a goroutine of its own.
func taken(do func() error) func() bool {
	done := make(chan error, 1)
	go func() { done <- do() }()
	return func() bool {
		synctest.Wait()
		select {
		case err := <-done:
			done <- err
			return err == nil
		default:
			return false
		}
	}
}

func take(t *testing.T, peer *Peer, n int64) *Claim {
	t.Helper()
	c := peer.TryTake(n)
	if c == nil {
		t.Fatalf("%d bytes are not there", n)
	}
	return c
}

func TestPoolChecksItsOptions(t *testing.T) {
	for _, o := range []PoolOptions{{}, {Bytes: 10, Largest: 10}, {Bytes: 10, Reserve: 11}, {Bytes: 10, Reserve: -1}} {
		if _, err := NewPool(o); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
}

// Requests are served in order, even when a later one would fit.
func TestPoolIsFair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pool(t, PoolOptions{Bytes: 100, Reserve: 1, Small: 1, Largest: 90, Peer: 100})
		first := take(t, p.Peer(""), 60)
		large := taken(func() error { _, err := p.Peer("").Take(t.Context(), 90); return err })
		synctest.Wait()
		small := taken(func() error { _, err := p.Peer("").Take(t.Context(), 5); return err })
		if large() || small() {
			t.Fatal("there is not so much, and who waits is overtaken")
		}
		if p.Waiting() != 2 || p.Used() != 60 {
			t.Errorf("%d wait, %d bytes are used", p.Waiting(), p.Used())
		}
		first.Release()
		first.Release() // counts once
		if !large() || !small() {
			t.Error("what was given back is not given on")
		}
		if p.Used() != 95 {
			t.Errorf("%d bytes are used", p.Used())
		}
	})
}

// A small request finds room when large ones hold all they may, and wait for more.
func TestPoolHasAReserve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pool(t, PoolOptions{Bytes: 100, Reserve: 10, Small: 4, Largest: 90, Peer: 100})
		take(t, p.Peer(""), 90)
		large := taken(func() error { _, err := p.Peer("").Take(t.Context(), 5); return err })
		if large() {
			t.Fatal("a large request is in the reserve")
		}
		a, b := take(t, p.Peer(""), 4), take(t, p.Peer(""), 4)
		small := taken(func() error { _, err := p.Peer("").Take(t.Context(), 4); return err })
		if small() {
			t.Fatal("the reserve has no end")
		}
		a.Release()
		if !small() {
			t.Error("the reserve is not given back")
		}
		// What has not arrived is not small, whatever it says.
		b.Release()
		arriving := taken(func() error { return p.Peer("").Claim(4).Grow(t.Context(), 4) })
		if arriving() || large() {
			t.Error("a request that has not arrived is in the reserve")
		}
	})
}

// One peer's greed is his own trouble.
func TestPoolLimitsAPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pool(t, PoolOptions{Bytes: 100, Reserve: 10, Small: 1, Largest: 30, Peer: 30})
		greedy, again := p.Peer("10.0.0.1"), p.Peer("10.0.0.1")
		if greedy != again {
			t.Fatal("one address is two peers")
		}
		c := take(t, greedy, 30)
		more := taken(func() error { _, err := again.Take(t.Context(), 2); return err })
		if more() {
			t.Fatal("a peer holds more than it may")
		}
		take(t, p.Peer("10.0.0.2"), 30)
		if other := taken(func() error { _, err := p.Peer("").Take(t.Context(), 30); return err }); !other() {
			t.Error("who waits for his own memory keeps another waiting")
		}
		c.Release()
		if !more() {
			t.Error("what the peer gave back it does not get")
		}
		greedy.Close()
		again.Close()
		if p.Peer("10.0.0.1") == greedy {
			t.Error("a peer that has gone is kept")
		}
	})
}

// Requests that have arrived by half do not wait for each other.
func TestPoolCompletesWhatArrives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pool(t, PoolOptions{Bytes: 110, Reserve: 10, Small: 1, Largest: 50, Peer: 50})
		var claims []*Claim
		for range 5 { // they may hold 50, the rest is for one that is completed
			c := p.Peer("").Claim(50)
			if err := c.Grow(t.Context(), 10); err != nil {
				t.Fatal(err)
			}
			claims = append(claims, c)
		}
		var grown []func() bool
		for _, c := range claims {
			grown = append(grown, taken(func() error { return c.Grow(t.Context(), 40) }))
			synctest.Wait()
		}
		if !grown[0]() || grown[1]() {
			t.Fatal("not the first one of them is completed")
		}
		if !claims[1].pressed() {
			t.Error("nobody is told that others wait")
		}
		// Whole requests need not wait for it: 10 are free.
		whole := take(t, p.Peer(""), 10)
		claims[0].Arrived()
		if grown[1]() {
			t.Fatal("more is held than there is")
		}
		whole.Release()
		claims[0].Release()
		for i := 1; i < len(claims); i++ {
			if !grown[i]() {
				t.Fatalf("request %d is not completed", i)
			}
			claims[i].Arrived()
			claims[i].Release()
		}
		if p.Used() != 0 || p.arriving != 0 || p.completed != nil {
			t.Errorf("%d bytes are used, %d by what arrives", p.Used(), p.arriving)
		}
	})
}

func TestPoolRefusesWhatIsTooLarge(t *testing.T) {
	p := pool(t, PoolOptions{Bytes: 100, Reserve: 10, Largest: 50})
	if _, err := p.Peer("").Take(t.Context(), 51); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
	c := p.Peer("").Claim(20)
	if err := c.Grow(t.Context(), 15); err != nil {
		t.Error(err)
	}
	if err := c.Grow(t.Context(), 6); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
	if p.Peer("").TryTake(51) != nil {
		t.Error("taken")
	}
}

// Whatever comes and goes in whatever order: nobody waits for ever, no limit is
// passed, and nothing stays.
func TestPoolUnderLoad(t *testing.T) {
	for seed := range uint64(40) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 8))
			p := pool(t, PoolOptions{Bytes: 1000, Reserve: 100, Small: 20, Largest: 300, Peer: 350})
			var wg sync.WaitGroup
			for i := range 60 {
				peer := p.Peer(fmt.Sprint("peer ", i%17*random.IntN(2)))
				own := rand.New(rand.NewPCG(seed, uint64(i)))
				wg.Go(func() {
					defer peer.Close()
					for range 10 {
						use(t, p, peer, own)
					}
				})
			}
			wg.Wait()
			if p.Used() != 0 || p.arriving != 0 || p.completed != nil || len(p.peers) != 0 || p.Waiting() != 0 {
				t.Fatalf("seed %d: %d used, %d arriving, completed %v, %d peers, %d wait", seed, p.Used(), p.arriving, p.completed, len(p.peers), p.Waiting())
			}
		})
	}
}

// use is one request of a peer that takes its time, and goes away now and then.
func use(t *testing.T, p *Pool, peer *Peer, random *rand.Rand) {
	ctx := t.Context()
	if random.IntN(5) == 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(random.IntN(50))*time.Millisecond)
		defer cancel()
	}
	pause := func() { time.Sleep(time.Duration(random.IntN(20)) * time.Millisecond) }
	if random.IntN(2) == 0 {
		c, err := peer.Take(ctx, random.Int64N(300)+1)
		if err == nil {
			pause()
		}
		c.Release()
		return
	}
	c := peer.Claim(random.Int64N(300) + 1)
	defer c.Release()
	for c.held < c.most {
		pause()
		if err := c.Grow(ctx, min(random.Int64N(50)+1, c.most-c.held)); err != nil {
			return
		}
		p.mu.Lock()
		if p.used > 900 || p.small > 100 || p.arriving > 600 || p.used < 0 || p.arriving < 0 {
			t.Errorf("%d used, %d of the reserve, %d arriving", p.used, p.small, p.arriving)
		}
		p.mu.Unlock()
	}
	c.Arrived()
	pause()
	c.Shrink(random.Int64N(300))
	pause()
}

// A wait is told to the metrics, and a long one is two lines in the log.
func TestPoolTellsWhenItIsShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		var waited []time.Duration
		p := pool(t, PoolOptions{Name: "requests", Bytes: 100, Reserve: 10, Small: 1, Largest: 90, Log: slog.New(slog.NewTextHandler(&log, nil)),
			Waited: func(d time.Duration) { waited = append(waited, d) }})
		for range 3 {
			c := take(t, p.Peer(""), 90)
			time.AfterFunc(time.Second, c.Release)
			next, err := p.Peer("").Take(t.Context(), 5)
			if err != nil {
				t.Fatal(err)
			}
			next.Release()
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(waited) != 3 || waited[0] != time.Second {
			t.Errorf("waited %v", waited)
		}
		if got := log.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, "is short") || !strings.Contains(got, "pool=requests") ||
			!strings.Contains(got, "lasted=2s count=3") {
			t.Errorf("log:\n%s", got)
		}
	})
}

func TestEpisodeEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		e := NewEpisode(EpisodeOptions{Begin: "it rains", End: "it has stopped", Quiet: time.Minute, Log: slog.New(slog.NewTextHandler(&log, nil))})
		e.End() // of what has not begun
		e.Note("drops", 1)
		time.Sleep(time.Second)
		e.Note("drops", 2)
		if !e.Running() {
			t.Error("it is over")
		}
		e.End("sun", true)
		time.Sleep(time.Hour)
		if got := log.String(); e.Running() || strings.Count(got, "\n") != 2 || !strings.Contains(got, `msg="it rains" drops=1`) ||
			!strings.Contains(got, `msg="it has stopped" lasted=1s count=2 sun=true`) {
			t.Errorf("log:\n%s", got)
		}
	})
}
