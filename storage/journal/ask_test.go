package journal

import (
	"errors"
	"slices"
	"testing"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/storagetest"
)

// asks lists the questions that lie in a bucket.
func asks(t *testing.T, b storage.Bucket) []string {
	t.Helper()
	keys, err := b.List(t.Context(), askPrefix(0), "", 100)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// TestAsk: an owner sees each question once, whoever asked, and leaves the
// newest behind, by which the next one gets its number.
func TestAsk(t *testing.T) {
	b := mem.New()
	j := open(t, b, &book{})
	defer j.Close()
	look := func(want bool, wantWho string) {
		t.Helper()
		who, asked, err := j.Asked(t.Context())
		if err != nil || asked != want || who != wantWho {
			t.Errorf("asked %v by %q, %v; want %v by %q", asked, who, err, want, wantWho)
		}
	}
	question := func(who string) {
		t.Helper()
		if err := Ask(t.Context(), b, 0, 1, who); err != nil {
			t.Fatal(err)
		}
	}
	look(false, "")
	question("b")
	look(true, "b")
	look(false, "")
	question("b")
	question("c")
	look(true, "c")
	if got := asks(t, b); !slices.Equal(got, []string{askKey(0, Position{1, 3})}) {
		t.Errorf("there are %v", got)
	}
	question("b") // by a process that has not asked before
	look(true, "b")
	look(false, "")
	if err := b.Create(t.Context(), askKey(0, Position{1, 5}), []byte("rubbish")); err != nil {
		t.Fatal(err)
	}
	look(true, "")
}

// TestAskOfEarlierOwner: questions to those before are no questions to this
// one, and go.
func TestAskOfEarlierOwner(t *testing.T) {
	b := mem.New()
	closeClean(t, open(t, b, &book{}))
	for range 3 {
		if err := Ask(t.Context(), b, 0, 1, "b"); err != nil {
			t.Fatal(err)
		}
	}
	j := open(t, b, &book{})
	defer j.Close()
	if _, asked, err := j.Asked(t.Context()); asked || err != nil {
		t.Errorf("asked %v, %v", asked, err)
	}
	if got := asks(t, b); len(got) > 0 {
		t.Errorf("there are %v", got)
	}
	if err := Ask(t.Context(), b, 0, 2, "b"); err != nil {
		t.Fatal(err)
	}
	if who, asked, err := j.Asked(t.Context()); who != "b" || !asked || err != nil {
		t.Errorf("asked %v by %q, %v", asked, who, err)
	}
}

// TestAskFaults: whatever fails, a question that was seen is told, once, and
// one that is asked again gets through.
func TestAskFaults(t *testing.T) {
	for _, fate := range storagetest.Fates() {
		for fails := range 8 {
			way := storagetest.NewFaults(mem.New(), 1)
			j := open(t, way, &book{})
			n := 0
			way.Plan(func(storagetest.Call) storagetest.Outcome {
				if n++; n == fails+1 {
					return storagetest.Outcome{Fate: fate}
				}
				return storagetest.Outcome{}
			})
			seen := 0
			for range 3 {
				if err := Ask(t.Context(), way, 0, 1, "b"); err != nil {
					_ = Ask(t.Context(), way, 0, 1, "b") // the one that counts
				}
				for range 2 {
					if _, asked, _ := j.Asked(t.Context()); asked {
						seen++
					}
				}
			}
			if seen != 3 {
				t.Errorf("call %d fails (%v): %d of 3 questions seen", fails, fate, seen)
			}
			if got := asks(t, way); len(got) != 1 {
				t.Errorf("call %d fails (%v): there are %v", fails, fate, got)
			}
			j.Close()
		}
	}
}

// TestNextSlot: who looks on sees the log grow.
func TestNextSlot(t *testing.T) {
	b := mem.New()
	from := Position{Epoch: 1}
	if next, err := NextSlot(t.Context(), b, 0, from); next != from || err != nil {
		t.Errorf("in an empty bucket %v, %v", next, err)
	}
	s := &book{}
	j := open(t, b, s)
	for _, e := range []string{"a", "b", "c"} {
		write(t, j, e)
	}
	closeClean(t, j)
	for at, want := range map[uint64]uint64{0: 4, 2: 4, 4: 4, 9: 9} {
		next, err := NextSlot(t.Context(), b, 0, Position{1, at})
		if err != nil || next != (Position{1, want}) {
			t.Errorf("from slot %d: %v, %v", at, next, err)
		}
		grown, err := HasSlot(t.Context(), b, 0, Position{1, at})
		if err != nil || grown != (at < 4) {
			t.Errorf("slot %d is there: %v, %v", at, grown, err)
		}
	}
	closeClean(t, open(t, b, &book{})) // it seals epoch 1
	if raw, err := b.Get(t.Context(), SlotKey(0, Position{1, 4}), 0, fixedSize); err != nil || !isSeal(raw) {
		t.Fatalf("no SEAL at 1/4: %v", err)
	}
	if grown, err := HasSlot(t.Context(), b, 0, Position{1, 4}); err != nil || grown {
		t.Errorf("a SEAL is a sign of life: %v", err)
	}
	way := storagetest.NewFaults(b, 1)
	way.Plan(func(storagetest.Call) storagetest.Outcome { return storagetest.Outcome{Fate: storagetest.Fail} })
	if _, err := NextSlot(t.Context(), way, 0, from); !errors.Is(err, storagetest.ErrInjected) {
		t.Error(err)
	}
	if _, err := HasSlot(t.Context(), way, 0, from); !errors.Is(err, storagetest.ErrInjected) {
		t.Error(err)
	}
}
