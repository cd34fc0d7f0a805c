package journal

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/mem"
)

// lived returns what three owners left behind: the first and the third made a
// checkpoint and deleted slots, the last one was closed or killed. all is what was
// acknowledged.
func lived(t *testing.T, level int, closed bool) (b *mem.Bucket, all []string) {
	t.Helper()
	b = mem.New()
	s := &book{}
	for epoch := 1; epoch <= 3; epoch++ {
		s = &book{}
		j, err := Open(t.Context(), Options{Bucket: b, Level: level}, s)
		if err != nil {
			t.Fatal(err)
		}
		if epoch != 2 {
			pos := saved(t, j, s, "a", "b", "c")
			truncate(t, j, Position{}, Position{pos.Epoch, pos.Slot - 1})
		}
		write(t, j, "d")
		synctest.Wait()
		write(t, j, "e")
		synctest.Wait()
		if closed || epoch < 3 {
			closeClean(t, j)
		} else {
			j.stop(ErrClosed)
			j.wg.Wait()
		}
	}
	return b, s.got
}

func objects(t *testing.T, b storage.Bucket) map[string][]byte {
	t.Helper()
	keys, err := b.List(t.Context(), "", "", 10000)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]byte{}
	for _, key := range keys {
		all[key] = read(t, b, key)
	}
	return all
}

// harm is what became of an object.
type harm struct{ key, what string }

func (h harm) String() string {
	if h.what == "deleted" {
		return short(h.key)
	}
	return short(h.key) + " " + h.what
}

// do returns what is left of an object, nil if nothing is.
func (h harm) do(body []byte) []byte {
	switch h.what {
	case "emptied":
		return []byte{}
	case "cut":
		return body[:len(body)/2]
	case "flipped":
		body = slices.Clone(body)
		body[len(body)/2] ^= 4
		return body
	}
	return nil
}

// harmed opens a copy of the objects of which some are harmed, and returns what the
// owner said. lost: it was led, or read, and something that was acknowledged is not
// there.
func harmed(t *testing.T, all map[string][]byte, want []string, harms ...harm) (lost bool, err error) {
	t.Helper()
	b := mem.New()
	for key, body := range all {
		for _, h := range harms {
			if h.key == key {
				body = h.do(body)
			}
		}
		replace(t, b, key, body)
	}
	before := objects(t, b)
	reader, owner := &book{}, &book{}
	_, replayed := Replay(t.Context(), Options{Bucket: b}, reader)
	j, err := Open(t.Context(), Options{Bucket: b, Level: 2}, owner)
	if (replayed == nil) != (err == nil) {
		t.Errorf("%v: Replay says %v, Open %v", harms, replayed, err)
	}
	if err == nil {
		closeClean(t, j)
		return !slices.Equal(owner.got, want) || !slices.Equal(reader.got, want), nil
	}
	for _, err := range []error{replayed, err} {
		named := strings.Contains(err.Error(), strings.SplitAfter(harms[0].key, "checkpoint/")[0])
		missing := errors.Is(err, storage.ErrMissing) == (harms[0].what == "deleted")
		if !errors.Is(err, ErrCorrupt) || len(harms) == 1 && !(named && missing) {
			t.Errorf("%v: %v", harms, err)
		}
	}
	for key, body := range objects(t, b) {
		if o, err := decode(body); before[key] == nil && (err != nil || o.typ != typeClaim) {
			t.Errorf("%v: it refused, and has put %s", harms, key)
		}
		delete(before, key)
	}
	if len(before) > 0 {
		t.Errorf("%v: it refused, and has deleted %q", harms, slices.Sorted(maps.Keys(before)))
	}
	return false, err
}

// sets returns each harm, and then each two to different objects.
func sets(keys []string) (all [][]harm) {
	var single []harm
	for _, key := range keys {
		for _, what := range []string{"deleted", "emptied", "cut", "flipped"} {
			single = append(single, harm{key, what})
			all = append(all, []harm{{key, what}})
		}
	}
	for i, first := range single {
		for _, second := range single[i+1:] {
			if first.key != second.key {
				all = append(all, []harm{first, second})
			}
		}
	}
	return all
}

// short is a key without the shard and the zeros.
func short(key string) string {
	_, key, _ = strings.Cut(key, "/")
	return strings.NewReplacer("0000000000000000000", "").Replace(key)
}

// TestHarm harms each object, and each two, of a journal. An owner has everything, or
// refuses, names what is missing or damaged and changes nothing; a reader does the same. The exceptions are those that nothing that remains can tell: the last
// slot of an owner that was killed and, of the older level, the last slots of one
// that was closed; and an object together with all that shows it.
func TestHarm(t *testing.T) {
	for _, test := range []struct {
		name   string
		level  int
		closed bool
		blind  []string // a set that loses something, unnoticed
	}{
		{"Level2/Closed", 2, true, []string{"[closed/3-6 log/3/5]"}},
		{"Level2/Killed", 2, false, []string{"log/3/5"}},
		{"Level1", 1, true, []string{"log/3/4", "log/3/5"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, want := lived(t, test.level, test.closed)
				all := objects(t, b)
				keys := slices.Sorted(maps.Keys(all))
				var blind []string
				refused := 0
				for _, harms := range sets(keys) {
					lost, err := harmed(t, all, want, harms...)
					if err != nil {
						refused++
					}
					// A pair is no news when one of the two does it alone.
					if lost && !slices.ContainsFunc(harms, func(h harm) bool { return slices.Contains(blind, h.String()) }) {
						blind = append(blind, fmt.Sprint(harms))
						if len(harms) == 1 {
							blind[len(blind)-1] = harms[0].String()
						}
					}
				}
				t.Logf("%d objects, %d of %d harms refused", len(keys), refused, len(sets(keys)))
				if fmt.Sprint(blind) != fmt.Sprint(test.blind) {
					t.Errorf("lost, and nobody noticed: %q, expected %q", blind, test.blind)
				}
			})
		})
	}
}

// mindful is a bucket that knows what was deleted.
type mindful struct {
	*mem.Bucket
	deleted string
}

func (m mindful) Traits() storage.Traits { return storage.Traits{Deleted: m.known} }

func (m mindful) known(_ context.Context, prefix, from string) (string, error) {
	if strings.HasPrefix(m.deleted, prefix) && m.deleted >= from {
		return m.deleted, nil
	}
	return "", nil
}

// TestKnownDeletion: where the newest checkpoint and all behind it are missing, the
// bucket's own knowledge that a slot was deleted shows it.
func TestKnownDeletion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, s := mem.New(), &book{}
		j, err := Open(t.Context(), Options{Bucket: b, Level: 2}, s)
		if err != nil {
			t.Fatal(err)
		}
		first := saved(t, j, s, "a")
		older := objects(t, b)
		newest := saved(t, j, s, "b", "c")
		truncate(t, j, Position{}, newest)
		closeClean(t, j)
		// A copy that had the older checkpoint, and came to the slots when they were gone.
		for key := range objects(t, b) {
			if strings.Contains(key, "/log/") || strings.Contains(key, "/closed/") || strings.Contains(key, "/checkpoint/") || strings.Contains(key, "/tombstone/") {
				if err := b.Delete(t.Context(), key); err != nil {
					t.Fatal(err)
				}
			}
		}
		replace(t, b, checkpointKey(0, first), older[checkpointKey(0, first)])
		if _, err := Replay(t.Context(), Options{Bucket: b}, &book{}); err != nil {
			t.Fatalf("nothing can tell that there was more: %v", err)
		}
		m := mindful{b, SlotKey(0, Position{first.Epoch, first.Slot + 1})}
		_, replayed := Replay(t.Context(), Options{Bucket: m}, &book{})
		_, err = Open(t.Context(), Options{Bucket: m, Level: 2}, &book{})
		for call, err := range map[string]error{"Replay": replayed, "Open": err} {
			if !errors.Is(err, storage.ErrMissing) || !strings.Contains(err.Error(), SlotKey(0, first)) {
				t.Errorf("%s of a log of which a later slot is known to be deleted: %v", call, err)
			}
		}
	})
}
