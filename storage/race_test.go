package storage_test

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/storagetest"
)

// site is an endpoint of a store whose sites copy from each other: each keeps its
// promises to those who use it, and what the other one has it sees later.
type site struct {
	*mem.Bucket
	other *site
	lag   time.Duration
}

func sites(lag time.Duration) (a, b *site) {
	a, b = &site{Bucket: mem.New(), lag: lag}, &site{Bucket: mem.New(), lag: lag}
	a.other, b.other = b, a
	return a, b
}

func (s *site) Create(ctx context.Context, key string, body []byte) error {
	err := s.Bucket.Create(ctx, key, body)
	if err == nil {
		time.AfterFunc(s.lag, func() { _ = s.other.Bucket.Create(context.Background(), key, body) })
	}
	return err
}

func (s *site) Delete(ctx context.Context, keys ...string) error {
	time.Sleep(time.Millisecond) // what was created comes first
	err := s.Bucket.Delete(ctx, keys...)
	time.AfterFunc(s.lag, func() { _ = s.other.Bucket.Delete(context.Background(), keys...) })
	return err
}

// careless is an endpoint that looks first and writes then, as a gateway before a
// store without create-if-absent does. Within itself it takes turns.
type careless struct {
	*mem.Bucket
	turn chan struct{}
}

func (c *careless) Create(ctx context.Context, key string, body []byte) error {
	c.turn <- struct{}{}
	defer func() { <-c.turn }()
	if _, err := c.Get(ctx, key, 0, 0); !errors.Is(err, fs.ErrNotExist) {
		return storage.ErrExists
	}
	time.Sleep(time.Millisecond)
	if err := c.Bucket.Delete(ctx, key); err != nil {
		return err
	}
	return c.Bucket.Create(ctx, key, body)
}

// compete lets a node with the endpoint a, which looks for invitations when it is
// asked, and one with b race.
func compete(t *testing.T, a, b storage.Bucket) (raced bool, err error) {
	t.Helper()
	var wg sync.WaitGroup
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	raced, err = storage.Race(ctx, b, func(context.Context) error {
		wg.Go(func() {
			time.Sleep(1500 * time.Millisecond)
			if _, err := storage.JoinRaces(context.Background(), a); err != nil {
				t.Errorf("join: %v", err)
			}
		})
		return nil
	})
	wg.Wait()
	return raced, err
}

// TestRace: two endpoints of which each keeps the promise, and which do not exclude
// each other, are found out when a second node starts; good ones are not accused.
func TestRace(t *testing.T) {
	two := func(b storage.Bucket) (storage.Bucket, storage.Bucket) { return b, b }
	for _, test := range []struct {
		name string
		pair func() (storage.Bucket, storage.Bucket)
		bad  bool
	}{
		{"one store", func() (storage.Bucket, storage.Bucket) { return two(mem.New()) }, false},
		{"one store that is slow", func() (storage.Bucket, storage.Bucket) {
			f := storagetest.NewFaults(mem.New(), 1)
			f.Plan(func(storagetest.Call) storagetest.Outcome {
				return storagetest.Outcome{Before: 30 * time.Millisecond, After: 5 * time.Millisecond}
			})
			return two(f)
		}, false},
		{"sites that copy", func() (storage.Bucket, storage.Bucket) { a, b := sites(20 * time.Millisecond); return a, b }, true},
		{"sites that copy slowly", func() (storage.Bucket, storage.Bucket) { a, b := sites(time.Second); return a, b }, true},
		{"gateways that look first", func() (storage.Bucket, storage.Bucket) {
			b := mem.New()
			return &careless{b, make(chan struct{}, 1)}, &careless{b, make(chan struct{}, 1)}
		}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := test.pair()
				if test.bad {
					for _, one := range []storage.Bucket{a, b} {
						if err := storage.Probe(t.Context(), one); err != nil {
							t.Fatalf("through one endpoint: %v", err)
						}
					}
				}
				began := time.Now()
				raced, err := compete(t, a, b)
				if !raced || errors.Is(err, storage.ErrNoCreate) != test.bad || !test.bad && err != nil {
					t.Errorf("raced %v: %v, want ErrNoCreate %v", raced, err, test.bad)
				}
				if took := time.Since(began); took > time.Minute+30*time.Second {
					t.Errorf("took %v", took)
				}
				time.Sleep(10 * time.Second)
				for _, one := range []storage.Bucket{a, b} {
					if keys, err := one.List(t.Context(), "", "", 10); err != nil || len(keys) > 0 {
						t.Errorf("left behind: %q, %v", keys, err)
					}
				}
			})
		})
	}
}

// TestRaceAlone: nobody comes, or goes away in the middle. That is no verdict, ends,
// and leaves nothing.
func TestRaceAlone(t *testing.T) {
	for _, calls := range []int{0, 1, 3, 10, 60} {
		synctest.Test(t, func(t *testing.T) {
			b := mem.New()
			rival := storagetest.NewFaults(b, 1)
			rival.Plan(func(c storagetest.Call) storagetest.Outcome {
				if c.N > calls {
					return storagetest.Outcome{Fate: storagetest.Fail}
				}
				return storagetest.Outcome{}
			})
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			done := make(chan error, 1)
			raced, err := storage.Race(ctx, b, func(ctx context.Context) error {
				go func() {
					_, err := storage.JoinRaces(ctx, rival)
					done <- err
				}()
				return nil
			})
			if raced || err != nil {
				t.Errorf("rival dies after %d calls: raced %v, %v", calls, raced, err)
			}
			if err := <-done; !errors.Is(err, storagetest.ErrInjected) {
				t.Errorf("rival dies after %d calls: %v", calls, err)
			}
			if keys, err := b.List(t.Context(), "", "", 10); err != nil || len(keys) > 0 {
				t.Errorf("rival dies after %d calls, left behind: %q, %v", calls, keys, err)
			}
		})
	}
}

// TestRaceLeft: when the inviter dies its rival removes what is left. Who was not
// invited does nothing.
func TestRaceLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := mem.New()
		if n, err := storage.JoinRaces(t.Context(), b); n != 0 || err != nil {
			t.Errorf("joined %d races, %v", n, err)
		}
		inviter := storagetest.NewFaults(b, 1)
		inviter.Plan(func(c storagetest.Call) storagetest.Outcome {
			if c.N > 40 {
				return storagetest.Outcome{Fate: storagetest.Fail}
			}
			return storagetest.Outcome{}
		})
		done := make(chan error, 1)
		_, err := storage.Race(t.Context(), inviter, func(ctx context.Context) error {
			go func() {
				_, err := storage.JoinRaces(ctx, b)
				done <- err
			}()
			return nil
		})
		if !errors.Is(err, storagetest.ErrInjected) {
			t.Errorf("Race: %v", err)
		}
		if err := <-done; err != nil {
			t.Errorf("JoinRaces: %v", err)
		}
		keys, err := b.List(t.Context(), "", "", 100)
		if err != nil || len(keys) > 0 {
			t.Errorf("left behind: %s, %v", strings.Join(keys, " "), err)
		}
	})
}
