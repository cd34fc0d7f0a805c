package storagetest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/weirmq/weir/storage"
)

// The part of the suite that looks at many objects: listings, and what several
// writers and readers see of each other.

// orderKeys are keys whose byte order is not the order in which a walk through
// folders meets them: '-' and '.' sort before '/', digits and letters after it.
func orderKeys() []string {
	return []string{
		"a-b", "a-b-c/x", "a.b/x", "a.b0", "a/b", "a/b-c", "a/b.c/d", "a/b0", "a/c/d/e", "a/c/d.e",
		"a/c0", "a/c=", "a0", "a00", "a=b", "aB/x", "a_b", "ab/c", "ab-", "B", "Z/z", "z/Z", "z/z",
		"0/9", "00", "09", "9", "=", "-", "_/_",
	}
}

func createAll(t *testing.T, b storage.Bucket, keys []string) {
	t.Helper()
	each(keys, func(key string) {
		if err := b.Create(t.Context(), key, []byte(key)); err != nil {
			t.Errorf("Create(%s): %v", key, err)
		}
	})
	if t.Failed() {
		t.FailNow()
	}
}

// each calls fn for all keys, eight at a time.
func each(keys []string, fn func(key string)) {
	var wg sync.WaitGroup
	work := make(chan string)
	for range 8 {
		wg.Go(func() {
			for key := range work {
				fn(key)
			}
		})
	}
	for _, key := range keys {
		work <- key
	}
	close(work)
	wg.Wait()
}

func testListOrder(t *testing.T, h handles) {
	if keys := list(t, h.a, "", "", 5); len(keys) != 0 {
		t.Fatalf("an empty bucket lists %q", keys)
	}
	want := orderKeys()
	createAll(t, h.a, want)
	slices.Sort(want)
	for _, max := range []int{1, 2, 3, 7, len(want) - 1, len(want), len(want) + 1, 5000} {
		if got := list(t, h.b, "", "", max); !slices.Equal(got, want) {
			t.Errorf("in pages of %d:\n%q, want\n%q", max, got, want)
		}
	}
}

func testListPrefixAfter(t *testing.T, h handles) {
	all := orderKeys()
	createAll(t, h.a, all)
	slices.Sort(all)

	edges := append([]string{"", "a", "a/", "a/b", "a/c/", "a/c/d", "A", "none", "z/", "zz", "a/b.c", "a0",
		"a/c/d/e/f", "-", "0/"}, all[:8]...)
	for _, prefix := range edges {
		for _, after := range edges {
			var want []string
			for _, key := range all {
				if strings.HasPrefix(key, prefix) && key > after {
					want = append(want, key)
				}
			}
			keys, err := h.b.List(t.Context(), prefix, after, 100)
			if err != nil {
				t.Errorf("List(%q, %q): %v", prefix, after, err)
			} else if !slices.Equal(keys, want) {
				t.Errorf("List(%q, %q) = %q, want %q", prefix, after, keys, want)
			}
		}
	}
}

func testBadPrefixes(t *testing.T, h handles) {
	create(t, h.a, "a/b", nil)
	for _, bad := range []string{"/", "//", "a//", "..", "../", ".", "a/..", "a/../a", ".hidden", "a b", "*", "\xff"} {
		if _, err := h.a.List(t.Context(), bad, "", 10); !errors.Is(err, storage.ErrKey) {
			t.Errorf("List with prefix %q: %v, want ErrKey", bad, err)
		}
		if _, err := h.a.List(t.Context(), "", bad, 10); !errors.Is(err, storage.ErrKey) {
			t.Errorf("List after %q: %v, want ErrKey", bad, err)
		}
	}
}

// testMany goes beyond the thousand keys that object stores put into one
// answer or take in one request.
func testMany(t *testing.T, h handles) {
	var want []string
	for i := range 1203 {
		want = append(want, fmt.Sprintf("many/%06d", i))
	}
	createAll(t, h.a, want)
	for _, max := range []int{999, 1000, 1001, 1203, 5000} {
		if got := list(t, h.b, "many/", "", max); !slices.Equal(got, want) {
			t.Errorf("in pages of %d: %d keys, want %d", max, len(got), len(want))
		}
	}
	create(t, h.a, "manz", nil)
	if err := h.b.Delete(t.Context(), want...); err != nil {
		t.Fatalf("Delete of %d keys: %v", len(want), err)
	}
	if keys := list(t, h.a, "", "", 10); len(keys) != 1 || keys[0] != "manz" {
		t.Errorf("left is %q, want manz", keys)
	}
}

// testVisibility: what was created is visible through both handles, on every page.
func testVisibility(t *testing.T, h handles) {
	var want []string
	for i := range 20 {
		key := fmt.Sprintf("v/%03d", (i*7)%20)
		writer, reader := h.a, h.b
		if i%2 == 1 {
			writer, reader = h.b, h.a
		}
		create(t, writer, key, []byte(key))
		wantContent(t, reader, key, []byte(key))
		want = append(want, key)
		slices.Sort(want)
		if got := list(t, reader, "v/", "", 3); !slices.Equal(got, want) {
			t.Fatalf("List after Create(%s):\n%q, want\n%q", key, got, want)
		}
	}
}

// testVisibilityConcurrent: a listing that begins after a Create returned has
// the key, while others are being created before, after and around it.
func testVisibilityConcurrent(t *testing.T, h handles) {
	const writers, objects = 6, 15
	var wg sync.WaitGroup
	for w := range writers {
		writer, reader := h.a, h.b
		if w%2 == 1 {
			writer, reader = h.b, h.a
		}
		wg.Go(func() {
			var mine []string
			for i := range objects {
				key := fmt.Sprintf("c/%03d-%d", (i*11)%objects, w)
				if err := writer.Create(t.Context(), key, []byte(key)); err != nil {
					t.Errorf("Create(%s): %v", key, err)
					return
				}
				mine = append(mine, key)
				keys, err := listAll(t.Context(), reader, "c/", "", 7)
				if err != nil {
					t.Error(err)
					return
				}
				for _, key := range mine {
					if !slices.Contains(keys, key) {
						t.Errorf("Create(%s) returned, a later List does not have it", key)
					}
				}
				if body, err := reader.Get(t.Context(), key, 0, -1); err != nil || string(body) != key {
					t.Errorf("Get(%s) after Create: %q, %v", key, body, err)
				}
			}
		})
	}
	wg.Wait()
}

// testRace: of several writers of one key exactly one succeeds, the others get
// ErrExists, and every reader gets its bytes.
func testRace(t *testing.T, h handles) {
	const keys, writers = 40, 8
	for k := range keys {
		key := fmt.Sprintf("race/%d", k)
		errs := make([]error, writers)
		start := make(chan struct{})
		var wg sync.WaitGroup
		for w := range writers {
			b := h.a
			if w%2 == 1 {
				b = h.b
			}
			body := Content(fmt.Sprintf("%s by %d", key, w), 1000+w)
			wg.Go(func() {
				<-start
				errs[w] = b.Create(t.Context(), key, body)
			})
		}
		close(start)
		wg.Wait()

		winner := -1
		for w, err := range errs {
			switch {
			case err == nil && winner >= 0:
				t.Fatalf("%s: writers %d and %d both won", key, winner, w)
			case err == nil:
				winner = w
			case !errors.Is(err, storage.ErrExists):
				t.Fatalf("%s: writer %d: %v, want ErrExists", key, w, err)
			}
		}
		if winner < 0 {
			t.Fatalf("%s: nobody won: %v", key, errs)
		}
		wantContent(t, h.a, key, Content(fmt.Sprintf("%s by %d", key, winner), 1000+winner))
	}
}

// testConcurrent does everything at once; with -race it finds what is not
// guarded.
func testConcurrent(t *testing.T, h handles) {
	var wg sync.WaitGroup
	for w := range 8 {
		b := h.a
		if w%2 == 1 {
			b = h.b
		}
		wg.Go(func() {
			if err := mixed(t.Context(), b, w); err != nil {
				t.Errorf("worker %d: %v", w, err)
			}
		})
	}
	wg.Wait()
	if keys := list(t, h.a, "mix/", "", 100); len(keys) != 8*5 {
		t.Errorf("%d objects are left, want 40: %q", len(keys), keys)
	}
}

func mixed(ctx context.Context, b storage.Bucket, w int) error {
	for i := range 10 {
		key := fmt.Sprintf("mix/%d/%02d", i, w)
		if err := b.Create(ctx, key, Content(key, 100*i)); err != nil {
			return err
		}
		body, err := b.Get(ctx, key, 0, -1)
		if err != nil {
			return err
		}
		if string(body) != string(Content(key, 100*i)) {
			return fmt.Errorf("get %s: %s", key, brief(body))
		}
		if _, err := b.List(ctx, fmt.Sprintf("mix/%d/", i), "", 100); err != nil {
			return err
		}
		if i%2 == 0 {
			continue
		}
		if err := b.Delete(ctx, key); err != nil {
			return err
		}
		if _, err := b.Get(ctx, key, 0, -1); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("get %s after delete: %v", key, err)
		}
	}
	return nil
}
