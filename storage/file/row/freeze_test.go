//go:build weirtest

package row

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/file/disk"
	"github.com/weirmq/weir/storage/storagetest"
)

// story records what several handles were told about one row.
type story struct {
	mu    sync.Mutex
	acked map[uint64]string // guarded by mu: bodies whose Create returned nil
	seen  map[uint64]string // guarded by mu: bodies that a Get returned
	bad   []string          // guarded by mu: contradictions
}

func newStory() *story {
	return &story{acked: make(map[uint64]string), seen: make(map[uint64]string)}
}

func (s *story) errorf(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bad = append(s.bad, fmt.Sprintf(format, args...))
}

func (s *story) good() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.bad) == 0
}

func (s *story) tell(book map[uint64]string, n uint64, text string) {
	s.mu.Lock()
	old, told := book[n]
	book[n] = text
	s.mu.Unlock()
	if told && old != text {
		s.errorf("number %d was %q and is %q", n, old, text)
	}
}

// create reports whether the number is taken now, by any handle.
func (s *story) create(t *testing.T, b *folder, row, n uint64, who string) (mine bool) {
	text := fmt.Sprintf("%d by %s", n, who)
	switch err := b.Create(t.Context(), slot(row, n), []byte(text)); {
	case err == nil:
		s.tell(s.acked, n, text)
		return true
	case errors.Is(err, storage.ErrExists):
		if _, found := s.get(t, b, row, n); !found {
			s.errorf("number %d exists and cannot be read", n)
		}
	default:
		s.errorf("Create of %d by %s: %v", n, who, err)
	}
	return false
}

func (s *story) get(t *testing.T, b *folder, row, n uint64) (text string, found bool) {
	got, err := b.Get(t.Context(), slot(row, n), 0, -1)
	if err == nil {
		s.tell(s.seen, n, string(got))
		return string(got), true
	}
	if !errors.Is(err, fs.ErrNotExist) {
		s.errorf("Get of %d: %v", n, err)
	}
	return "", false
}

// check compares all that was told with what a new handle finds, and the
// listings of all handles with each other.
func (s *story) check(t *testing.T, row, most uint64, handles ...*folder) {
	fresh := small(mustOpen(t, handles[0].disk.Root))
	defer fresh.Close()
	for n := range most {
		text, found := s.get(t, fresh, row, n)
		s.mu.Lock()
		acked, ok := s.acked[n]
		_, seen := s.seen[n]
		s.mu.Unlock()
		switch {
		case (ok || seen) && !found:
			s.errorf("number %d was acknowledged (%v) or seen (%v), and is not there", n, ok, seen)
		case ok && text != acked:
			s.errorf("number %d was acknowledged as %q and is %q", n, acked, text)
		}
	}
	list := func(b *folder) string {
		keys, err := b.List(t.Context(), "", "", 1<<30)
		if err != nil {
			s.errorf("List: %v", err)
		}
		return strings.Join(keys, " ")
	}
	want := list(fresh)
	for i, b := range handles {
		if got := list(b); got != want {
			s.errorf("handle %d lists %s, a new one %s", i, got, want)
		}
	}
	r, err := fresh.row("0000/log/" + formatNumber(row))
	if r == nil || err != nil {
		s.errorf("no row: %v", err)
		return
	}
	for n := range r.index {
		if there, err := disk.Exists(fresh.disk.Path(slot(row, n))); there || err != nil {
			s.errorf("number %d is in a pack and a file (%v)", n, err)
		}
	}
}

// meet lets each of two handles do all its work between any two steps of
// the other, and returns what went wrong.
func meet(t *testing.T, prepare func(*folder)) (bad []string, met int) {
	const row, most = 1, 12
	type side struct{ step, by string }
	for _, at := range []side{
		{"write", "closer"}, {"sync", "closer"}, {"look", "closer"},
		{"write", "reader"}, {"sync", "reader"}, {"look", "reader"},
		{"flag", "appender"}, {"read", "appender"}, {"end", "appender"},
		{"flag", "closer"}, {"read", "closer"}, {"end", "closer"},
		{"flag", "reader"}, {"read", "reader"}, {"end", "reader"},
	} {
		for before := range uint64(4) { // 2 fill a pack, so that some begin another
			dir := t.TempDir()
			s, a, c, third := newStory(), small(mustOpen(t, dir)), small(mustOpen(t, dir)), small(mustOpen(t, dir))
			for i, b := range []*folder{a, c, third} {
				b.SetLevel(1 + (int(before)+i)%2) // each of them has the higher level once: they agree on one version
			}
			prepare(a)
			prepare(c)
			for n := range before + 1 {
				s.create(t, a, row, n, "appender")
			}
			other := map[string]func(){
				"appender": func() { s.create(t, a, row, before+5, "appender"); s.create(t, a, row, before+2, "appender") },
				"closer":   func() { s.create(t, third, row, before+2, "third"); s.create(t, third, row, before+1, "third") },
				"reader": func() {
					for n := range uint64(most) {
						s.get(t, third, row, n)
					}
				},
			}[at.by]
			var once sync.Once
			step := func(is string) {
				if is == at.step {
					once.Do(func() { met++; other() })
				}
			}
			if strings.Contains("write sync look", at.step) {
				a.mutations.step = step
			} else {
				c.mutations.step = step
			}
			s.create(t, a, row, before+1, "appender")
			s.create(t, c, row, before+2, "closer")
			s.create(t, a, row, before+3, "appender")
			s.create(t, a, row, before+2, "appender")
			s.check(t, row, most, a, c, third)
			for _, text := range s.bad {
				bad = append(bad, fmt.Sprintf("%s between the steps, before %q, after %d records: %s", at.by, at.step, before, text))
			}
			for _, b := range []*folder{a, c, third} {
				b.mutations.step = nil
				b.Close()
			}
		}
	}
	return bad, met
}

// TestFreezeSteps: what is acknowledged is there, what was seen stays, and no
// number has two bodies, whatever happens between two steps.
func TestFreezeSteps(t *testing.T) {
	bad, met := meet(t, func(*folder) {})
	for _, text := range bad {
		t.Error(text)
	}
	if met < 40 {
		t.Errorf("only %d meetings", met)
	}
}

// TestFreezeMutations: without its rules the protocol does not hold.
func TestFreezeMutations(t *testing.T) {
	for name, broken := range map[string]mutations{
		"the appender does not look": {acksUnseen: true},
		"the closer reads too early": {readsFirst: true},
	} {
		t.Run(name, func(t *testing.T) {
			bad, _ := meet(t, func(b *folder) { b.mutations = broken })
			if len(bad) == 0 {
				t.Fatal("nobody noticed")
			}
			t.Logf("%d times, first: %s", len(bad), bad[0])
		})
	}
}

// race lets the first handle append and the others read, until each has taken a
// number, has been refused one, or all are taken.
func (s *story) race(t *testing.T, rng *rand.Rand, row, most uint64, handles []*folder) {
	mustCreate(t, handles[0], row, most) // makes it the appender of the row
	var wg sync.WaitGroup
	for w := range uint64(2) {
		wg.Go(func() {
			for n := w; n < most && s.create(t, handles[0], row, n, "appender"); n += 2 {
			}
		})
	}
	for i, b := range handles[1:] {
		patience := rng.IntN(60)
		wg.Go(func() {
			for n := uint64(0); n < most && s.good(); {
				if _, found := s.get(t, b, row, n); found {
					n++
					continue
				}
				if patience--; patience > 0 {
					runtime.Gosched()
					continue
				}
				if s.create(t, b, row, n, fmt.Sprint("closer ", i)) {
					return
				}
			}
		})
	}
	wg.Wait()
}

// TestFreezeRace: an appender with a pipeline, and handles that read what it
// writes and take its next number at a random moment.
func TestFreezeRace(t *testing.T) {
	const most = 40
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	dir := t.TempDir()
	var handles []*folder
	for range 4 {
		b := small(mustOpen(t, dir))
		b.mutations.step = func(string) { runtime.Gosched() }
		defer b.Close()
		handles = append(handles, b)
	}
	rounds := uint64(storagetest.Rounds(300))
	taken := 0
	for row := range rounds {
		rng := rand.New(rand.NewPCG(seed, row))
		s := newStory()
		s.race(t, rng, row, most, handles)
		s.check(t, row, most, handles...)
		for _, text := range s.bad {
			t.Errorf("round %d: %s", row, text)
		}
		if t.Failed() {
			return
		}
		if n := len(s.acked); n > 1 && n < most {
			taken++
		}
		if err := os.RemoveAll(handles[0].disk.Path(strings.TrimSuffix(slot(row, 0), "/"+formatNumber(0)))); err != nil {
			t.Fatal(err)
		}
	}
	if taken < int(rounds)/10 {
		t.Errorf("the appender was interrupted in %d of %d rounds only", taken, rounds)
	}
	t.Logf("interrupted in %d of %d rounds", taken, rounds)
}

// TestFreezeResumes: a process that dies between any two steps of closing blocks no
// other, nor do the files that it left.
func TestFreezeResumes(t *testing.T) {
	for _, step := range []string{"flag", "read", "end"} {
		t.Run(step, func(t *testing.T) {
			dir := t.TempDir()
			a, dead, c := small(mustOpen(t, dir)), small(mustOpen(t, dir)), small(mustOpen(t, dir))
			defer a.Close()
			mustCreate(t, a, 1, 0, 1, 2, 3)
			stop := make(chan struct{})
			ended := make(chan struct{})
			reached := make(chan struct{})
			dead.mutations.step = func(at string) {
				if at == step {
					close(reached)
					<-stop // as SIGSTOP does
				}
			}
			go func() {
				defer close(ended)
				if err := dead.Create(t.Context(), slot(1, 4), []byte("late")); !errors.Is(err, storage.ErrExists) {
					t.Errorf("the one that was stopped: %v, want ErrExists", err)
				}
			}()
			<-reached
			wantSlots(t, mustOpen(t, dir), 1, 0, 1, 2, 3)
			mustCreate(t, a, 1, 4)
			mustCreate(t, c, 1, 5)
			wantSlots(t, mustOpen(t, dir), 1, upTo(6)...)
			close(stop)
			<-ended
			for _, b := range []*folder{a, dead, c} {
				wantSlots(t, b, 1, upTo(6)...)
			}
		})
	}
}

// TestRowWriteFails: a group that could not be written does not exist.
func TestRowWriteFails(t *testing.T) {
	d := mustOpen(t, t.TempDir())
	defer d.Close()
	mustCreate(t, d, 1, 0, 1)
	d.mutations.step = func(at string) {
		if at == "write" {
			if err := d.rows["0000/log/"+formatNumber(1)].writer.file.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	if err := d.Create(t.Context(), slot(1, 2), nil); err == nil || errors.Is(err, storage.ErrUnknown) {
		t.Errorf("Create that was not written: %v, want an error that says nothing happened", err)
	}
	wantSlots(t, d, 1, 0, 1)
}
