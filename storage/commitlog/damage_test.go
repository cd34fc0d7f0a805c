package commitlog

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog/check"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record/recordtest"
)

// spoiled is a bucket in which one object has been damaged behind Weir's back.
type spoiled struct {
	storage.Bucket
	sound atomic.Int64 // how often the object is read as it is, before it is damaged

	mu    sync.Mutex
	key   string              // guarded by mu
	spoil func([]byte) []byte // guarded by mu
}

func (s *spoiled) set(key string, spoil func([]byte) []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.key, s.spoil = key, spoil
}

func (s *spoiled) Get(ctx context.Context, key string, off, n int64) ([]byte, error) {
	s.mu.Lock()
	bad, spoil := s.key, s.spoil
	s.mu.Unlock()
	if key != bad || s.sound.Add(-1) >= 0 {
		return s.Bucket.Get(ctx, key, off, n)
	}
	body, err := s.Bucket.Get(ctx, key, 0, -1)
	if err != nil {
		return nil, err
	}
	body = spoil(body)
	off = min(off, int64(len(body)))
	if n < 0 || n > int64(len(body))-off {
		n = int64(len(body)) - off
	}
	return body[off:][:n], nil
}

func kinds() map[string]func([]byte) []byte {
	return map[string]func([]byte) []byte{
		"a flipped bit": func(b []byte) []byte { b[len(b)/4] ^= 1; return b },
		"its half":      func(b []byte) []byte { return b[:len(b)/2] },
		"nothing":       func([]byte) []byte { return nil },
		"zeros":         func(b []byte) []byte { clear(b); return b },
	}
}

// lines counts the errors in a log that have a text in them.
type lines struct {
	slog.Handler
	with  string
	count atomic.Int32
}

func (l *lines) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelError }

func (l *lines) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "object" && a.Value.String() == l.with {
			l.count.Add(1)
		}
		return true
	})
	return nil
}

// A damaged segment is named, never served, and harms no other partition: not its
// readers, not its writers, not the upkeep, not the next owner.
func TestDamagedSegment(t *testing.T) { damagedSegment(t, tiny) }

// TestDamagedAdopted does that with a slot that serves as a segment.
func TestDamagedAdopted(t *testing.T) { damagedSegment(t, adopting) }

func damagedSegment(t *testing.T, tiny func(*Options)) {
	for name, spoil := range kinds() {
		t.Run(name, func(t *testing.T) {
			b := mem.New()
			l := open(t, b, tiny)
			bad, good := createTopic(t, l, "bad", 1), createTopic(t, l, "good", 1)
			big := strings.Repeat("x", 40_000) // a segment for each
			appended(t, l, Append{Topic: bad.ID, Batch: recordtest.Batch(big)})
			appended(t, l, Append{Topic: good.ID, Batch: recordtest.Batch(big)})
			maintained(t, l)
			key := firstPiece(t, l, bad.ID).Segment.Key(0)
			must(l.Close())

			s := &spoiled{Bucket: b, key: key, spoil: spoil}
			lines := &lines{Handler: slog.DiscardHandler, with: key}
			l = open(t, s, tiny, func(o *Options) { o.Log = slog.New(lines) })
			for range 2 {
				if _, err := l.Fetch(t.Context(), bad.ID, 0, 0, 1<<20); !errors.Is(err, state.ErrCorrupt) || !strings.Contains(err.Error(), key) {
					t.Fatalf("fetch of what is damaged: %v", err)
				}
			}
			if n := lines.count.Load(); n != 1 || l.Stats().Damaged != 1 {
				t.Errorf("%d lines tell of the piece, and %d are counted", n, l.Stats().Damaged)
			}
			if _, _, err := l.OffsetByTime(t.Context(), bad.ID, 0, 5); !errors.Is(err, state.ErrCorrupt) {
				t.Errorf("search in what is damaged: %v", err)
			}
			appended(t, l, Append{Topic: bad.ID, Batch: recordtest.Batch("behind it")})
			if f, err := l.Fetch(t.Context(), bad.ID, 0, 1, 1<<20); err != nil || len(f.Batches) != 1 {
				t.Errorf("fetch behind it: %v", err)
			}
			maintained(t, l)
			if got := readAll(t, l, good.ID, 0); !slices.Equal(got, []string{big}) {
				t.Error("the other partition has suffered")
			}
			report, err := check.Check(t.Context(), s, nil)
			if err != nil || len(report.Problems) != 1 || !strings.Contains(report.Problems[0], key) {
				t.Errorf("check: %q, %v", report.Problems, err)
			}
			s.set("", nil)
			if _, err := l.Fetch(t.Context(), bad.ID, 0, 0, 1<<20); err != nil || l.Stats().Damaged != 0 {
				t.Errorf("back from a copy: %v, and %d are counted", err, l.Stats().Damaged)
			}
		})
	}
}

// A slot that is damaged before it is rewritten stays where it is, with all
// behind it; everything else goes on.
func TestDamagedSlotIsKept(t *testing.T) {
	b := mem.New()
	l := open(t, b, tiny, func(o *Options) { o.TailBytes = 1 })
	bad, good := createTopic(t, l, "bad", 1), createTopic(t, l, "good", 1)
	appended(t, l, Append{Topic: bad.ID, Batch: recordtest.Batch("a")})
	slot := firstSlot(t, l, bad.ID)
	appended(t, l, Append{Topic: good.ID, Batch: recordtest.Batch("b")})
	must(l.Close())

	s := &spoiled{Bucket: b}
	l = open(t, s, tiny, func(o *Options) { o.TailBytes = 1 })
	s.set(journal.SlotKey(0, slot), kinds()["zeros"])
	for range 3 {
		maintained(t, l)
	}
	if got := readAll(t, l, good.ID, 0); !slices.Equal(got, []string{"b"}) {
		t.Error(got)
	}
	if _, err := l.Fetch(t.Context(), bad.ID, 0, 0, 1<<20); !errors.Is(err, state.ErrCorrupt) {
		t.Errorf("fetch of what is damaged: %v", err)
	}
	if !slices.Contains(keys(t, b, "0000/log/"), journal.SlotKey(0, slot)) {
		t.Error("the slot was deleted, damaged as it is, though it is the only copy")
	}
	// The slot is readable again, for example restored from a backup.
	s.set("", nil)
	for range 2 {
		maintained(t, l)
	}
	if got := readAll(t, l, bad.ID, 0); !slices.Equal(got, []string{"a"}) {
		t.Error(got)
	}
	if slices.Contains(keys(t, b, "0000/log/"), journal.SlotKey(0, slot)) {
		t.Error("the slot is still there")
	}
	sound(t, b)
}

// A partition that cannot be rewritten, and has more than a pass takes, does not keep
// others from being rewritten.
func TestStuckPartitionHarmsNoOther(t *testing.T) {
	b := mem.New()
	l := open(t, b, tiny, func(o *Options) { o.TailBytes = 1; o.Upkeep.Off = true }) // all stays in slots until it is damaged
	bad, good := createTopic(t, l, "bad", 1), createTopic(t, l, "good", 1)
	for range 6 {
		appended(t, l, Append{Topic: bad.ID, Batch: recordtest.Batch(strings.Repeat("x", 40_000))})
	}
	appended(t, l, Append{Topic: good.ID, Batch: recordtest.Batch("b")})
	slot := firstSlot(t, l, bad.ID)
	must(l.Close())

	s := &spoiled{Bucket: b, key: journal.SlotKey(0, slot), spoil: kinds()["zeros"]}
	s.sound.Store(1) // recovery reads it, and the first pass may begin at once
	l = open(t, s, tiny, func(o *Options) { o.TailBytes = 1; o.Upkeep.Bytes = 1 << 16; o.Upkeep.Slots = 1 << 20 })
	maintained(t, l)
	l.mu.RLock()
	defer l.mu.RUnlock()
	if p := l.state.Topics[good.ID].Parts[0]; len(p.Pieces) != 1 || len(p.Index) != 0 {
		t.Errorf("%d pieces and %d runs in slots of the sound partition", len(p.Pieces), len(p.Index))
	}
}
