package cluster

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestPatience: it doubles with each takeover that is not long past, and a
// refused connection is believed once in ten minutes.
func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHistory()
		want := func(when string, alive, dead time.Duration) {
			t.Helper()
			if a, d := h.patience(time.Second, false, "x"), h.patience(time.Second, true, "x"); a != alive*time.Second || d != dead*time.Second {
				t.Errorf("%s: %v, and %v if refused; want %d s and %d s", when, a, d, alive, dead)
			}
		}
		want("at first", 1, 1)
		h.sees(1)
		h.sees(1)
		want("after a takeover", 2, 1)
		h.takes(2, true, "x")
		want("after a refused one was believed", 4, 4)
		if d := h.patience(time.Second, true, "y"); d != time.Second {
			t.Errorf("another process is refused: %v", d)
		}
		h.takes(3, true, "x")
		time.Sleep(5 * time.Minute)
		h.takes(4, false, "x")
		want("five minutes later", 16, 16)
		time.Sleep(5 * time.Minute)
		want("ten minutes later", 2, 1)
		for epoch := range uint64(20) {
			h.takes(10+epoch, false, "x")
		}
		want("after many", 64, 1)
	})
}

// TestHistoryInClaims: a node that has just started knows of takeovers by the
// claim, whatever its clock says, and its own claim tells of them too.
func TestHistoryInClaims(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHistory()
		h.takes(7, true, "x")
		time.Sleep(2 * time.Minute)
		h.takes(8, true, "x")
		claimed := h.claimant(Node{Name: "a", Addresses: Addresses{}})
		body, err := claimed.Info(AddressesLevel)
		if err != nil {
			t.Fatal(err)
		}
		read, err := ReadInfo(body)
		if err != nil || !reflect.DeepEqual(read, claimed) || len(read.Takeovers) != 2 {
			t.Fatalf("%+v, %v; want %+v", read, err, claimed)
		}
		if !read.Takeovers[0].Refused || read.Takeovers[0].Boot != "x" || read.Takeovers[1].Refused {
			t.Errorf("both refused connections were believed, or none: %+v", read.Takeovers)
		}
		if !read.Moved(memory) || read.Moved(0) || (Node{}).Moved(memory) {
			t.Error("Moved is wrong")
		}
		time.Sleep(time.Minute)
		next := newHistory()
		next.learn(read.Takeovers)
		if x, y := next.patience(1, true, "x"), next.patience(1, true, "y"); x != 4 || y != 1 {
			t.Errorf("patience %d, and %d with another process, want 4 and 1", x, y)
		}
		earlier := newHistory()
		earlier.learn([]Takeover{{Epoch: 7, At: time.Now().Unix(), Refused: true}}) // of a version that does not say whose connection
		if y := earlier.patience(1, true, "y"); y != 2 {
			t.Errorf("patience %d, want 2", y)
		}
		time.Sleep(7 * time.Minute)
		if alive, dead := next.patience(1, false, "x"), next.patience(1, true, "x"); alive != 2 || dead != 1 {
			t.Errorf("ten minutes after the first: patience %d, and %d if refused; want 2 and 1", alive, dead)
		}
		next.learn([]Takeover{{Epoch: 9, At: time.Now().Add(24 * time.Hour).Unix()}, {Epoch: 1, At: 1}})
		if got := next.patience(1, false, "x"); got != 4 {
			t.Errorf("a clock that is ahead: patience %d, want 4", got)
		}
		time.Sleep(memory)
		if got := next.claimant(Node{}); got.Takeovers != nil {
			t.Errorf("much later the claim tells of %+v", got.Takeovers)
		}
	})
}

// TestTakeoverIsToldInTheClaim: who takes over says so; who restarts passes on
// what it finds.
func TestTakeoverIsToldInTheClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene()
		s.alive = func(context.Context, Node) error { return errors.Join(ErrRefused, errGone) }
		claim(t, s.bucket, ownerA)
		stop := s.start(t.Context())
		time.Sleep(time.Minute)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if got := s.claimed.Takeovers; len(got) != 1 || got[0].Epoch != 1 || !got[0].Refused {
			t.Fatalf("the claim tells of %+v", got)
		}
		claim(t, s.bucket, s.claimed)
		again := newScene()
		again.bucket = s.bucket
		stop = again.start(t.Context())
		time.Sleep(time.Second)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(again.claimed.Takeovers, s.claimed.Takeovers) {
			t.Errorf("after a restart the claim tells of %+v", again.claimed.Takeovers)
		}
	})
}

// TestPatientStandby: after a takeover a standby waits longer, and says so once.
func TestPatientStandby(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene()
		s.alive = func(context.Context, Node) error { return errGone }
		owner := ownerA
		owner.Takeovers = []Takeover{{Epoch: 1, At: time.Now().Unix()}, {Epoch: 2, At: time.Now().Unix()}}
		claim(t, s.bucket, owner)
		began := time.Now()
		stop := s.start(t.Context())
		time.Sleep(time.Minute)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if took := s.led.Sub(began); took < 4*DefaultTakeover-time.Second || took > 4*DefaultTakeover+time.Second {
			t.Errorf("it led after %v, want about four times %v", took, DefaultTakeover)
		}
		if n := s.counters.WithheldPatience.Load(); n != 1 {
			t.Errorf("%d takeovers withheld, want 1", n)
		}
	})
}

// TestSilenceCountsFromTheClaim: an owner that has just claimed has the whole
// takeover time, however long the one before it was silent.
func TestSilenceCountsFromTheClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene()
		claimed := time.Now().Add(DefaultTakeover) // when the standby looks for claims again, below
		s.alive = func(_ context.Context, owner Node) error {
			if owner.Name == "c" && time.Since(claimed) > DefaultTakeover*8/10 {
				return nil
			}
			return errGone
		}
		claim(t, s.bucket, ownerA)
		stop := s.start(t.Context())
		time.Sleep(DefaultTakeover / 2)
		claim(t, s.bucket, ownerC)
		time.Sleep(time.Hour)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if !s.led.IsZero() {
			t.Errorf("it took over %v after the claim", s.led.Sub(claimed))
		}
	})
}

// TestFit: a node whose doors do not answer does not lead, unless nobody else
// does for long.
func TestFit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene()
		var broken atomic.Bool
		broken.Store(true)
		s.fit = func() error {
			if broken.Load() {
				return ErrDoors
			}
			return nil
		}
		began := time.Now()
		stop := s.start(t.Context())
		time.Sleep(DefaultTakeover)
		synctest.Wait()
		if !s.led.IsZero() {
			t.Error("it leads although its doors do not answer")
		}
		broken.Store(false)
		time.Sleep(DefaultTakeover)
		synctest.Wait()
		if took := s.led.Sub(began); took < DefaultTakeover || took > 2*DefaultTakeover {
			t.Errorf("it led after %v", took)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}

		alone := newScene()
		alone.fit = func() error { return ErrDoors }
		began = time.Now()
		stop = alone.start(t.Context())
		time.Sleep(time.Minute)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if took := alone.led.Sub(began); took < 4*DefaultTakeover || took > 5*DefaultTakeover {
			t.Errorf("alone it led after %v", took)
		}

		other := newScene()
		other.fit = func() error { return ErrDoors }
		claim(t, other.bucket, Node{Name: "b"})
		stop = other.start(t.Context())
		time.Sleep(DefaultTakeover)
		claim(t, other.bucket, ownerC) // another node can
		time.Sleep(time.Hour)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if !other.led.IsZero() {
			t.Error("it leads although another node does")
		}
	})
}

// TestDoorWatch: an owner stops when a door of its own has not answered for the
// takeover time, if that helps, and not because it was itself frozen.
func TestDoorWatch(t *testing.T) {
	const T = DefaultTakeover
	errHangs := errors.New("hangs")
	hangs := func(ctx context.Context, _ time.Duration) error { <-ctx.Done(); return ctx.Err() }
	for name, c := range map[string]struct {
		ask     func(ctx context.Context, since time.Duration) error
		may     bool
		want    time.Duration // 0: never
		control func(ctx context.Context) error
	}{
		"hangs, the machine is busy": {hangs, true, 0, func(context.Context) error { time.Sleep(T / 20); return nil }},
		"hangs, the machine is not":  {hangs, true, T, func(context.Context) error { time.Sleep(T / 100); return nil }},
		"hangs, without control":     {hangs, true, T, func(context.Context) error { return errHangs }},
		"answers, the control does not matter": {func(context.Context, time.Duration) error { return nil }, true, 0, func(context.Context) error {
			t.Error("the control was asked although the door answers")
			return nil
		}},
		"hangs":              {hangs, true, T, nil},
		"hangs, nobody else": {hangs, false, 0, nil},
		"refuses":            {func(context.Context, time.Duration) error { return errHangs }, true, T, nil},
		"hangs for a while": {func(_ context.Context, since time.Duration) error {
			return map[bool]error{true: errHangs}[since%T < T*3/4]
		}, true, 0, nil},
		"hangs after a while": {func(_ context.Context, since time.Duration) error { return map[bool]error{true: errHangs}[since > 4*T] }, true, 5 * T, nil},
		"the process is frozen": {func(ctx context.Context, since time.Duration) error {
			if since > T && since < 2*T {
				time.Sleep(time.Hour)
				return context.DeadlineExceeded
			}
			return nil
		}, true, 0, nil},
		"the process is slow all the time": {func(ctx context.Context, _ time.Duration) error { time.Sleep(T); return context.DeadlineExceeded }, true, 0, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
				defer cancel()
				began := time.Now()
				well := Door{"well", func(context.Context) error { return nil }}
				w := DoorWatch{Takeover: T, May: func() bool { return c.may }, Log: slog.New(slog.DiscardHandler), Control: c.control,
					Doors: []Door{well, {"ill", func(ctx context.Context) error { return c.ask(ctx, time.Since(began)) }}}}
				err := w.Run(ctx)
				took := time.Since(began)
				if c.want == 0 && err != nil {
					t.Errorf("it stopped after %v: %v", took, err)
				}
				if c.want > 0 && (!errors.Is(err, ErrDoors) || took < c.want || took > c.want+T/2) {
					t.Errorf("it stopped after %v: %v; want %v", took, err, c.want)
				}
			})
		})
	}
}
