package journal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/storagetest"
)

var handed = [16]byte{1, 2, 3}

// openAt is open at a format level, through way.
func openAt(t *testing.T, way storage.Bucket, level int, s State, m mutations) *Journal {
	t.Helper()
	j, err := Open(t.Context(), Options{Bucket: way, Node: "n", Level: level, Depth: 3, Window: 3, mutations: m}, s)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func expect(t *testing.T, j *Journal, nonce [16]byte) {
	t.Helper()
	if err := j.Expect(t.Context(), nonce); err != nil {
		t.Fatal(err)
	}
}

// TestHandOver: the owner writes and confirms under the claim of its successor, yields
// while slots are in flight, and all of them are acknowledged.
func TestHandOver(t *testing.T) {
	for level := 1; level <= 2; level++ {
		synctest.Test(t, func(t *testing.T) {
			b, s1, s2 := mem.New(), &book{}, &book{}
			way := storagetest.NewFaults(b, 1)
			j1 := openAt(t, way, level, s1, mutations{})
			write(t, j1, "a")
			synctest.Wait()
			c := prepare(t, b, s2)
			expect(t, j1, handed)
			claim(t, c, 2, handed)
			write(t, j1, "b")
			synctest.Wait()
			for range 2 {
				if err := j1.Confirm(t.Context()); err != nil {
					t.Error(err)
				}
			}
			follow(t, c)
			way.Plan(held(time.Second, Position{1, 3}))
			write(t, j1, "c")
			write(t, j1, "d")
			end, err := j1.Yield(t.Context())
			if end != (Position{1, 5}) || err != nil {
				t.Errorf("yielded at %v: %v", end, err)
			}
			if _, err := j1.Write(entries("e")); !errors.Is(err, ErrYielded) {
				t.Error(err)
			}
			if err := j1.Confirm(t.Context()); !errors.Is(err, ErrYielded) {
				t.Error(err)
			}
			if err := j1.Checkpoint(t.Context(), end, s1.saved()); !errors.Is(err, ErrYielded) {
				t.Error(err)
			}
			if end2, err := j1.Yield(t.Context()); end2 != end || err != nil {
				t.Errorf("yielded again at %v: %v", end2, err)
			}
			closeClean(t, j1)
			s1.has(t, "1/1:a", "1/2:b", "1/3:c", "1/4:d")
			author := uint64(2)
			if level == 2 {
				o, err := decode(read(t, b, SlotKey(0, end)))
				if author = 1; err != nil || o.typ != typeSeal || o.author != author {
					t.Errorf("at the end lies a %v by %d: %v", o.typ, o.author, err)
				}
			}
			j2 := take(t, c)
			write(t, j2, "f")
			closeClean(t, j2)
			s2.has(t, "1/1:a", "1/2:b", "1/3:c", "1/4:d", "2/1:f")
			if o, err := decode(read(t, b, SlotKey(0, end))); err != nil || o.typ != typeSeal || o.author != author {
				t.Errorf("epoch 1 ends with a %v by %d: %v", o.typ, o.author, err)
			}
			final := &book{}
			closeClean(t, open(t, b, final))
			final.has(t, s2.got...)
		})
	}
}

// TestExpect: upkeep waits while a claim is expected. A claim with another nonce fences,
// and so do one above the expected one, and the expected one when it is expected no more.
func TestExpect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, s := mem.New(), &book{}
		j := openAt(t, b, 2, s, mutations{})
		write(t, j, "a")
		synctest.Wait()
		expect(t, j, [16]byte{9})
		expect(t, j, handed)
		done := make(chan error, 1)
		go func() { done <- j.Checkpoint(t.Context(), Position{1, 2}, s.saved()) }()
		synctest.Wait()
		select {
		case err := <-done:
			t.Errorf("a checkpoint under an expected claim: %v", err)
		default:
		}
		expect(t, j, [16]byte{})
		if err := <-done; err != nil {
			t.Error(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		j.upkeep <- struct{}{}
		if err := j.Expect(ctx, handed); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		<-j.upkeep
		expect(t, j, handed)
		closeClean(t, j)
		if err := j.Expect(t.Context(), handed); !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	})
	for name, test := range map[string]struct {
		claims  [][16]byte
		forgets bool
		want    error
	}{
		"None":     {},
		"Expected": {claims: [][16]byte{handed}},
		"Other":    {claims: [][16]byte{{9}}, want: ErrFenced},
		"Above":    {claims: [][16]byte{handed, {9}}, want: ErrFenced},
		"Forgot":   {claims: [][16]byte{handed}, forgets: true, want: ErrFenced},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := mem.New()
				j := open(t, b, &book{})
				expect(t, j, handed)
				for _, nonce := range test.claims {
					claim(t, prepare(t, b, &book{}), 0, nonce)
				}
				if test.forgets {
					expect(t, j, [16]byte{})
				}
				if err := j.Confirm(t.Context()); !errors.Is(err, test.want) || (err == nil) != (test.want == nil) {
					t.Error(err)
				}
				_ = j.Close()
			})
		})
	}
}

// stale reports whether an owner that expects a claim believes that it still owns the
// shard, when the holder of that claim has become the owner and deleted its header. A
// slot of the first owner is in flight.
func stale(t *testing.T, m mutations) (stale bool) {
	synctest.Test(t, func(t *testing.T) {
		b, s2 := mem.New(), &book{}
		way := storagetest.NewFaults(b, 1)
		way.Plan(held(time.Hour, Position{1, 2}, Position{1, 3}))
		j1 := openAt(t, way, 2, &book{}, m)
		write(t, j1, "a")
		synctest.Wait()
		write(t, j1, "b")
		write(t, j1, "c")
		c := prepare(t, b, s2)
		expect(t, j1, handed)
		claim(t, c, 0, handed)
		before := j1.Confirm(t.Context())
		j2 := take(t, c)
		truncate(t, j2, Position{}, saved(t, j2, s2, "d"))
		err := j1.Confirm(t.Context())
		if stale = before == nil && err == nil; !stale && !errors.Is(err, ErrFenced) {
			t.Errorf("confirmed: %v, then %v", before, err)
		}
		closeClean(t, j2)
		_ = j1.Close()
	})
	return stale
}

// TestConfirmMeetsHandOver: a Confirm that is under way when the successor claims, or when
// the owner yields, does not fence the owner.
func TestConfirmMeetsHandOver(t *testing.T) {
	const ms = time.Millisecond
	for name, c := range map[string]struct {
		expects, claims, yields time.Duration // after Confirm began
		want                    error
	}{
		"claim after the question":     {expects: 0, claims: 1500 * ms, yields: time.Hour},
		"claim during the question":    {expects: 200 * ms, claims: 500 * ms, yields: time.Hour},
		"claim that was not expected":  {expects: time.Hour, claims: 500 * ms, yields: time.Hour, want: ErrFenced},
		"SEAL of its own in its epoch": {expects: 0, claims: 500 * ms, yields: 1500 * ms},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := mem.New()
				way := storagetest.NewFaults(b, 1)
				j := openAt(t, way, 2, &book{}, mutations{})
				successor := prepare(t, b, &book{})
				way.Plan(func(c storagetest.Call) storagetest.Outcome {
					if c.Verb == storagetest.Get {
						return storagetest.Outcome{Before: time.Second}
					}
					return storagetest.Outcome{}
				})
				confirmed := make(chan error, 1)
				go func() { confirmed <- j.Confirm(t.Context()) }()
				for at, step := range map[time.Duration]func(){
					c.expects: func() { expect(t, j, handed) },
					c.claims:  func() { claim(t, successor, 2, handed) },
					c.yields: func() {
						if _, err := j.Yield(t.Context()); err != nil {
							t.Error(err)
						}
					},
				} {
					if at < time.Hour {
						time.AfterFunc(at, step)
					}
				}
				if err := <-confirmed; !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
					t.Errorf("confirmed: %v, want %v", err, c.want)
				}
				time.Sleep(time.Minute)
				closed := j.Close()
				if (closed == nil) != (c.want == nil) {
					t.Errorf("closed: %v", closed)
				}
			})
		})
	}
}

// TestConfirmUnderExpectedClaim: an owner notices that its successor has taken over,
// whatever the successor has deleted since.
func TestConfirmUnderExpectedClaim(t *testing.T) {
	if stale(t, mutations{}) {
		t.Error("an owner believes that it owns the shard after its successor has taken over")
	}
}

// yieldLoses reports whether an owner acknowledges what is lost, when a claimant seals the
// place of a slot in flight while the owner yields.
func yieldLoses(t *testing.T, m mutations) (loses bool) {
	synctest.Test(t, func(t *testing.T) {
		b, s1, s2 := mem.New(), &book{}, &book{}
		way := storagetest.NewFaults(b, 1)
		way.Plan(held(10*time.Second, Position{1, 2}))
		j1 := openAt(t, way, 2, s1, m)
		write(t, j1, "a")
		write(t, j1, "b")
		write(t, j1, "c")
		synctest.Wait() // both are on their way
		done := make(chan error, 1)
		go func() {
			_, err := j1.Yield(t.Context())
			done <- err
		}()
		synctest.Wait()
		j2 := open(t, b, s2)
		if err := <-done; !yieldUnacked(m) && !errors.Is(err, ErrFenced) {
			t.Errorf("yielded: %v", err)
		}
		loses = !slices.Equal(s1.got, s2.got)
		closeClean(t, j2)
		_ = j1.Close()
	})
	return loses
}

func TestYieldFenced(t *testing.T) {
	if yieldLoses(t, mutations{}) {
		t.Error("what was acknowledged is lost")
	}
}

// TestResume: the successor dies before its claim, after it, or after a SEAL. The owner
// that has yielded, or was fenced, goes on from its own state, and reads no slot again.
func TestResume(t *testing.T) {
	for _, test := range []struct{ claims, seals, waits bool }{{}, {claims: true}, {claims: true, seals: true}, {waits: true}} {
		t.Run(fmt.Sprintf("%+v", test), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, s := mem.New(), &book{}
				way := storagetest.NewFaults(b, 1)
				j1 := openAt(t, way, 2, s, mutations{})
				if _, err := j1.Resume(Options{Bucket: b}, s); err == nil {
					t.Error("an owner has resumed")
				}
				write(t, j1, "a")
				saved(t, j1, s, "b")
				truncate(t, j1, Position{}, Position{1, 2})
				write(t, j1, "c")
				synctest.Wait()
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				want := ErrYielded
				if test.waits { // the last slot lands, and its answer does not come
					way.Plan(func(c storagetest.Call) storagetest.Outcome {
						if c.Verb == storagetest.Create && c.Keys[0] == SlotKey(0, Position{1, 4}) {
							return storagetest.Outcome{After: time.Hour}
						}
						return storagetest.Outcome{}
					})
					write(t, j1, "d")
					want = ErrClosed
				}
				if test.claims {
					expect(t, j1, handed)
					c := prepare(t, b, &book{})
					claim(t, c, 2, handed)
					if test.seals {
						c.o.Verify = func(context.Context, Recovered) error { return errors.ErrUnsupported }
						if _, err := c.Take(t.Context()); !errors.Is(err, errors.ErrUnsupported) {
							t.Error(err)
						}
						want = ErrFenced
					}
				}
				if _, err := j1.Yield(ctx); (err == nil) != (want == ErrYielded) {
					t.Errorf("yielded: %v", err)
				}
				_ = j1.Close()
				if err := j1.Err(); !errors.Is(err, want) {
					t.Errorf("ended with %v, not with %v", err, want)
				}
				s.has(t, "1/1:a", "1/2:b", "1/3:c")
				var first Position
				way.Plan(func(c storagetest.Call) storagetest.Outcome {
					if pos, err := parseSlot(0, c.Keys[0]); err == nil && c.Verb == storagetest.Get && first.IsZero() {
						first = pos
					}
					return storagetest.Outcome{}
				})
				c, err := j1.Resume(Options{Bucket: way, Node: "n", Level: 2, Window: 1}, s)
				if err != nil {
					t.Fatal(err)
				}
				claim(t, c, 0, [16]byte{})
				j2 := take(t, c)
				if first != (Position{1, 4}) || s.restored > 0 || j2.Checkpointed() != (Position{1, 3}) {
					t.Errorf("reads from %v on, restored %d times, checkpoint %v", first, s.restored, j2.Checkpointed())
				}
				truncate(t, j2, Position{}, saved(t, j2, s, "e"))
				closeClean(t, j2)
				log := []string{"1/1:a", "1/2:b", "1/3:c"}
				if test.waits {
					log = append(log, "1/4:d")
				}
				log = append(log, fmt.Sprintf("%d/1:e", j2.Epoch()))
				s.has(t, log...)
				final := &book{}
				closeClean(t, open(t, b, final))
				final.has(t, log...)
			})
		})
	}
}

// TestYieldMatrix gives the SEAL of an owner that yields, and each call of its successor,
// each fate, with late writes that land soon, at the end, or never.
func TestYieldMatrix(t *testing.T) {
	play := func(t *testing.T, n int, fate storagetest.Fate, times int, land time.Duration) (calls int) {
		synctest.Test(t, func(t *testing.T) {
			b, s1, s2 := mem.New(), &book{}, &book{}
			way := storagetest.NewFaults(b, 1)
			j1 := openAt(t, way, 2, s1, mutations{})
			write(t, j1, "a")
			synctest.Wait()
			way.Plan(func(c storagetest.Call) storagetest.Outcome {
				calls++
				if c.N >= n && c.N < n+times {
					return storagetest.Outcome{Fate: fate}
				}
				return storagetest.Outcome{}
			})
			if land > 0 {
				time.AfterFunc(land, func() { way.Land() })
			}
			c, err := Prepare(t.Context(), Options{Bucket: way, Level: 2, Window: 1}, s2)
			if err != nil {
				t.Fatal(err)
			}
			expect(t, j1, handed)
			claim(t, c, 2, handed)
			write(t, j1, "b")
			synctest.Wait()
			if end, err := j1.Yield(t.Context()); end != (Position{1, 3}) || err != nil {
				t.Errorf("yielded at %v: %v", end, err)
			}
			closeClean(t, j1)
			j2 := take(t, c)
			write(t, j2, "c")
			closeClean(t, j2)
			time.Sleep(time.Hour)
			way.Land()
			s1.has(t, "1/1:a", "1/2:b")
			s2.has(t, "1/1:a", "1/2:b", "2/1:c")
			final := &book{}
			closeClean(t, open(t, b, final))
			final.has(t, s2.got...)
		})
		return calls
	}
	first := 6 // the calls before are those of Open and of the first slot
	calls, rows := play(t, 1<<30, 0, 0, 0), 0
	for n := first; n <= first+calls; n++ {
		for _, fate := range storagetest.Fates() {
			for _, times := range []int{1, 3} {
				for _, land := range []time.Duration{time.Millisecond, time.Minute, 0} {
					play(t, n, fate, times, land)
					rows++
				}
			}
		}
	}
	t.Logf("%d calls, %d rows", calls, rows)
}
