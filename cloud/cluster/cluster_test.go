package cluster

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/mem"
)

// claim makes a node the owner of shard 0, and lets the journal go: a claim
// stays for ever.
func claim(t *testing.T, b storage.Bucket, n Node) {
	t.Helper()
	info, err := n.Info(1)
	if err != nil {
		t.Fatal(err)
	}
	j, err := journal.Open(t.Context(), journal.Options{Bucket: b, Node: n.Name, Info: info}, nothing{})
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}

// flaky is a bucket that cannot be listed while broken.
type flaky struct {
	storage.Bucket
	broken atomic.Bool
}

var errBroken = errors.New("bucket is away")

func (f *flaky) List(ctx context.Context, prefix, after string, max int) ([]string, error) {
	if f.broken.Load() {
		return nil, errBroken
	}
	return f.Bucket.List(ctx, prefix, after, max)
}

// scene is one standby called b, in a bubble.
type scene struct {
	bucket   *flaky
	self     Node
	followed []string
	asked    atomic.Int64
	alive    func(ctx context.Context, owner Node) error
	led      time.Time // when Lead was called
	lead     func() error
	claimed  Node // what Lead was to claim with
	epoch    uint64
	fit      func() error
	counters Counters
}

func newScene() *scene {
	return &scene{bucket: &flaky{Bucket: mem.New()}, self: Node{Name: "b", Host: "here"},
		alive: func(context.Context, Node) error { return nil },
		fit:   func() error { return nil },
		lead:  func() error { return nil }}
}

// start runs the standby; stop ends it and returns what Run returned.
func (s *scene) start(ctx context.Context) (stop func() error) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() {
		done <- New(ManagerOptions{
			Bucket: s.bucket, Self: s.self, Log: slog.New(slog.DiscardHandler), Shards: func() uint32 { return 1 },
			Ask: func(ctx context.Context, to Node, _ Report) (Report, error) {
				s.asked.Add(1)
				if err := s.alive(ctx, to); err != nil {
					return Report{}, err
				}
				return Report{Node: Node{Name: to.Name}, Shards: []ShardReport{{State: Owning}}}, nil
			},
			Fit:      func(context.Context) error { return s.fit() },
			Counters: &s.counters,
			Follow:   func(_ context.Context, _ uint32, owner Node, _ uint64) { s.followed = append(s.followed, owner.Name) },
			Progress: func(uint32) (State, journal.Position) { return Owning, journal.Position{} },
			Lead: func(ctx context.Context, _ uint32, self Node, epoch uint64, _ Candidate) error {
				s.led, s.claimed, s.epoch = time.Now(), self, epoch
				if err := s.lead(); err != nil {
					return err
				}
				<-ctx.Done()
				return nil
			},
		}).Run(ctx)
	}()
	return func() error {
		cancel()
		return <-done
	}
}

var (
	errGone = errors.New("connection refused")
	ownerA  = Node{Name: "a", Addresses: Addresses{HTTP: {"": "a.example:8080"}}}
	ownerC  = Node{Name: "c", Addresses: Addresses{HTTP: {"": "c.example:8080"}}}
)

// TestTakesOver: what makes a standby lead, and when.
func TestTakesOver(t *testing.T) {
	for name, c := range map[string]struct {
		owners []Node
		alive  error
		want   time.Duration // until it leads; 0: at once, -1: never
	}{
		"nobody claimed":                    {nil, nil, 0},
		"its own claim":                     {[]Node{{Name: "b"}}, nil, 0},
		"an owner that answers":             {[]Node{ownerA}, nil, -1},
		"an owner that does not":            {[]Node{ownerA}, errGone, DefaultTakeover},
		"an owner that nobody can ask":      {[]Node{{Name: "a"}}, errGone, -1},
		"loopback of this machine":          {[]Node{{Name: "a", Addresses: Addresses{HTTP: {"": "127.0.0.1:8080"}}, Host: "here"}}, errGone, DefaultTakeover},
		"loopback of another machine":       {[]Node{{Name: "a", Addresses: Addresses{HTTP: {"": "127.0.0.1:8080"}}, Host: "there"}}, errGone, -1},
		"loopback of another machine, IPv6": {[]Node{{Name: "a", Addresses: Addresses{HTTP: {"": "[::1]:8080"}}, Host: "there"}}, errGone, -1},
		"the newest claim counts":           {[]Node{{Name: "b"}, ownerA}, nil, -1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScene()
				s.alive = func(context.Context, Node) error { return c.alive }
				for _, o := range c.owners {
					claim(t, s.bucket, o)
				}
				began := time.Now()
				stop := s.start(t.Context())
				time.Sleep(time.Hour)
				synctest.Wait()
				if err := stop(); err != nil {
					t.Fatal(err)
				}
				took := s.led.Sub(began)
				switch slack := DefaultTakeover / 3; {
				case c.want < 0 && !s.led.IsZero():
					t.Errorf("it led after %v", took)
				case c.want >= 0 && (s.led.IsZero() || took < c.want-slack || took > c.want+slack):
					t.Errorf("it led after %v, want about %v", took, c.want)
				case c.want >= 0 && s.epoch != uint64(len(c.owners)+1):
					t.Errorf("it claims epoch %d after %d claims", s.epoch, len(c.owners))
				}
			})
		})
	}
}

// TestFollowsTheNextOwner: a standby notices that another node took over,
// whether or not it could ask the one before.
func TestFollowsTheNextOwner(t *testing.T) {
	for name, first := range map[string]Node{"asked": ownerA, "not to be asked": {Name: "a"}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScene()
				s.alive = func(_ context.Context, owner Node) error {
					if owner.Name == "a" {
						return errGone
					}
					return nil
				}
				claim(t, s.bucket, first)
				stop := s.start(t.Context())
				time.Sleep(DefaultTakeover / 2)
				claim(t, s.bucket, ownerC)
				time.Sleep(time.Minute)
				synctest.Wait()
				if err := stop(); err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(s.followed, []string{"a", "c"}) || !s.led.IsZero() {
					t.Errorf("followed %v, led: %v", s.followed, !s.led.IsZero())
				}
			})
		})
	}
}

// TestFrozenStandbyAsksAgain: a node that slept through the takeover time has
// not heard the owner, and must not hold that against it.
func TestFrozenStandbyAsksAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene()
		s.alive = func(ctx context.Context, _ Node) error {
			if s.asked.Load() == 5 { // the clock jumps while this question is under way
				time.Sleep(time.Hour)
				return context.DeadlineExceeded
			}
			return nil
		}
		claim(t, s.bucket, ownerA)
		stop := s.start(t.Context())
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if !s.led.IsZero() {
			t.Error("it took over from an owner that answers")
		}
	})
}

// TestBucketAway: silence from before the bucket went away is not enough to
// take over when it is back.
func TestBucketAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene()
		var cut atomic.Bool // this node is off the network: neither owner nor bucket
		cut.Store(true)
		s.alive = func(context.Context, Node) error {
			if cut.Load() {
				return errGone
			}
			return nil
		}
		claim(t, s.bucket, ownerA)
		stop := s.start(t.Context())
		synctest.Wait()
		s.bucket.broken.Store(true)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		cut.Store(false)
		s.bucket.broken.Store(false)
		time.Sleep(time.Hour)
		synctest.Wait()
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if !s.led.IsZero() {
			t.Error("it took over from an owner that answers")
		}
	})
}

// TestLeadEnds: what Lead returns ends Run, unless it only lost the race.
func TestLeadEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene()
		s.lead = func() error {
			claim(t, s.bucket, ownerC) // another node was faster
			return errors.Join(ErrSuperseded, journal.ErrFenced)
		}
		stop := s.start(t.Context())
		time.Sleep(time.Minute)
		synctest.Wait()
		if err := stop(); err != nil {
			t.Errorf("superseded: %v", err)
		}
		if !slices.Equal(s.followed, []string{"c"}) {
			t.Errorf("followed %v", s.followed)
		}
		lost := newScene()
		lost.lead = func() error { return journal.ErrFenced }
		stop = lost.start(t.Context())
		synctest.Wait()
		if err := stop(); !errors.Is(err, journal.ErrFenced) {
			t.Errorf("fenced: %v", err)
		}
	})
}

// TestClaimThatCannotBeRead: the standby says so instead of guessing.
func TestClaimThatCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene()
		j, err := journal.Open(t.Context(), journal.Options{Bucket: s.bucket, Node: "a", Info: []byte("{")}, nothing{})
		if err != nil {
			t.Fatal(err)
		}
		defer j.Close()
		stop := s.start(t.Context())
		synctest.Wait()
		if err := stop(); err == nil || !strings.Contains(err.Error(), "claim of epoch 1") {
			t.Errorf("got %v", err)
		}
	})
}

// TestAnswerInTime: whenever a question is put, and whenever the log grew last, its
// author sees the log grow after it, or has the answer, within half of the takeover
// time. A log that grows all the time is not looked at.
func TestAnswerInTime(t *testing.T) {
	const takeover, step = 4 * time.Second, 100 * time.Millisecond
	for growth := time.Duration(0); growth < takeover; growth += step {
		for put := growth + step/2; put < growth+takeover; put += step {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				var answered atomic.Int64 // after began
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan struct{})
				go func() {
					defer close(done)
					Answer(ctx, takeover, func() journal.Position {
						if time.Since(began) >= growth {
							return journal.Position{Epoch: 1, Slot: 2}
						}
						return journal.Position{Epoch: 1, Slot: 1}
					}, func(context.Context) (string, bool, error) {
						if time.Since(began) >= put && answered.Load() == 0 {
							answered.Store(int64(time.Since(began)))
						}
						return "", false, nil
					}, nil)
				}()
				time.Sleep(4 * takeover)
				cancel()
				<-done
				if at := time.Duration(answered.Load()); at == 0 || at-put > takeover/2 {
					t.Errorf("the log grew at %v, a question came at %v: it was looked for at %v", growth, put, at)
				}
			})
		}
	}
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		Answer(ctx, takeover, func() journal.Position {
			return journal.Position{Epoch: 1, Slot: uint64(time.Since(began) / (takeover / 8))}
		}, func(context.Context) (string, bool, error) {
			t.Error("a look at a log that grows")
			return "", false, nil
		}, nil)
	})
}

func TestNodeID(t *testing.T) {
	if got := NodeID("a"); got != 0x640c292c { // clients keep it across restarts and versions
		t.Errorf("the id of a is %#x", got)
	}
	for _, name := range []string{"", "a", "node-48a44efd836e"} {
		if NodeID(name) < 0 {
			t.Errorf("id of %q is negative: Kafka has no such node", name)
		}
	}
}
