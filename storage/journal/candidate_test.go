package journal

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/storagetest"
)

func prepare(t *testing.T, b storage.Bucket, s State) *Candidate {
	t.Helper()
	c, err := Prepare(t.Context(), Options{Bucket: b, Node: "c", Window: 3}, s)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func follow(t *testing.T, c *Candidate) {
	t.Helper()
	if err := c.Follow(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func claim(t *testing.T, c *Candidate, epoch uint64, nonce [16]byte) {
	t.Helper()
	if err := c.Claim(t.Context(), epoch, nonce); err != nil {
		t.Fatal(err)
	}
}

func take(t *testing.T, c *Candidate) *Journal {
	t.Helper()
	j, err := c.Take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// TestCandidate: what a candidate has read before its claim it does not read again, and
// checkpoints that it has passed it does not load. The owner goes on until Take.
func TestCandidate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, s1, s := mem.New(), &book{}, &book{}
		c := prepare(t, b, s)
		if c.Position() != (Position{1, 0}) {
			t.Errorf("a candidate of an unused shard is at %v", c.Position())
		}
		j1 := open(t, b, s1)
		write(t, j1, "a")
		write(t, j1, "b")
		synctest.Wait()
		follow(t, c)
		s.has(t, "1/1:a", "1/2:b")
		truncate(t, j1, Position{}, saved(t, j1, s1))
		write(t, j1, "c")
		write(t, j1, "d")
		synctest.Wait()
		follow(t, c)
		s.has(t, "1/1:a", "1/2:b", "1/3:c", "1/4:d")
		truncate(t, j1, Position{}, saved(t, j1, s1))
		write(t, j1, "e")
		synctest.Wait()
		follow(t, c)
		claim(t, c, 2, [16]byte{7})
		write(t, j1, "f")
		synctest.Wait()
		follow(t, c)
		s.has(t, "1/1:a", "1/2:b", "1/3:c", "1/4:d", "1/5:e", "1/6:f")

		way := storagetest.NewFaults(b, 1)
		var mu sync.Mutex // some of the calls run at once
		var read []string
		way.Plan(func(call storagetest.Call) storagetest.Outcome {
			mu.Lock()
			defer mu.Unlock()
			if call.Verb == storagetest.Get {
				read = append(read, call.Keys[0])
			}
			return storagetest.Outcome{}
		})
		c.w.store.bucket = way
		write(t, j1, "g")
		synctest.Wait()
		j2 := take(t, c)
		if i := slices.IndexFunc(read, func(key string) bool { return key < SlotKey(0, Position{1, 7}) }); i >= 0 {
			t.Errorf("%s is read after the claim", read[i])
		}
		if s.restored > 0 || j2.Epoch() != 2 || j2.Checkpointed() != (Position{1, 5}) {
			t.Errorf("restored %d times, epoch %d, checkpoint %v", s.restored, j2.Epoch(), j2.Checkpointed())
		}
		write(t, j2, "h")
		if err := j1.Confirm(t.Context()); !errors.Is(err, ErrFenced) {
			t.Error(err)
		}
		j1.Close()
		closeClean(t, j2)
		final := &book{}
		closeClean(t, open(t, b, final))
		final.has(t, append(s1.got, "2/1:h")...)
		if !slices.Equal(s.got, final.got) {
			t.Errorf("applied %v, the log is %v", s.got, final.got)
		}
	})
}

// TestCandidateBehind: a candidate below which slots were deleted starts again at a newer
// checkpoint, before its claim and after it.
func TestCandidateBehind(t *testing.T) {
	for _, claimed := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			b, s1, s := mem.New(), &book{}, &book{}
			j1 := open(t, b, s1)
			write(t, j1, "a")
			synctest.Wait()
			c := prepare(t, b, s)
			if claimed {
				claim(t, c, 0, [16]byte{})
			}
			truncate(t, j1, Position{}, saved(t, j1, s1, "b", "c"))
			write(t, j1, "d")
			synctest.Wait()
			follow(t, c)
			s.has(t, "1/1:a", "1/2:b", "1/3:c", "1/4:d")
			if !claimed {
				claim(t, c, 2, [16]byte{})
			}
			write(t, j1, "e")
			synctest.Wait()
			closeClean(t, take(t, c))
			s.has(t, "1/1:a", "1/2:b", "1/3:c", "1/4:d", "1/5:e")
			if s.restored != 1 {
				t.Errorf("restored %d times", s.restored)
			}
			j1.Close()
		})
	}
}

// leftover lets a candidate meet a SEAL in the place of a slot that was deleted while the
// candidate was about to read it: a claimant that looked for it put the SEAL there.
func leftover(t *testing.T, m mutations) (c *Candidate, s, s1 *book, err error) {
	b, s1, s := mem.New(), &book{}, &book{}
	j1 := open(t, b, s1)
	write(t, j1, "a")
	write(t, j1, "b")
	synctest.Wait()
	way := storagetest.NewFaults(b, 1)
	c, err = Prepare(t.Context(), Options{Bucket: way, Window: 1, mutations: m}, s)
	if err != nil {
		t.Fatal(err)
	}
	var once atomic.Bool // some of the calls run at once
	way.Plan(func(call storagetest.Call) storagetest.Outcome {
		if call.Verb == storagetest.Get && strings.HasPrefix(call.Keys[0], logPrefix(0)) && !once.Swap(true) {
			truncate(t, j1, Position{}, saved(t, j1, s1, "c", "d"))
			o := sealObject(0, testClaim(2), Position{1, 3})
			replace(t, b, SlotKey(0, o.pos), o.encode())
			write(t, j1, "e")
			synctest.Wait()
		}
		return storagetest.Outcome{}
	})
	err = c.Follow(t.Context())
	closeClean(t, j1)
	return c, s, s1, err
}

func TestCandidateMeetsLeftover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s, s1, err := leftover(t, mutations{})
		if err != nil || c.Position() != (Position{1, 6}) || !slices.Equal(s.got, s1.got) {
			t.Errorf("at %v, %v, applied %v, acknowledged was %v", c.Position(), err, s.got, s1.got)
		}
	})
}

// TestCandidateFenced: a claim that comes too late, one that a higher one overtakes, and
// none.
func TestCandidateFenced(t *testing.T) {
	b := mem.New()
	c := prepare(t, b, &book{})
	if _, err := c.Take(t.Context()); err == nil {
		t.Error("taken without a claim")
	}
	j := open(t, b, &book{})
	if err := c.Claim(t.Context(), 1, [16]byte{}); !errors.Is(err, ErrFenced) {
		t.Errorf("claimed epoch 1 again: %v", err)
	}
	c = prepare(t, b, &book{})
	claim(t, c, 2, [16]byte{})
	j3 := open(t, b, &book{})
	if _, err := c.Take(t.Context()); !errors.Is(err, ErrFenced) {
		t.Errorf("took over below epoch %d: %v", j3.Epoch(), err)
	}
	closeClean(t, j3)
	j.Close()
}
