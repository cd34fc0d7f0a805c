package storagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"strings"
	"testing"

	"github.com/weirmq/weir/storage"
)

// The part of the suite that looks at single objects.

func testRoundTrip(t *testing.T, h handles) {
	create(t, h.a, "one", []byte("first"))
	create(t, h.b, "folder/two", []byte("second"))
	wantContent(t, h.b, "one", []byte("first"))
	wantContent(t, h.a, "folder/two", []byte("second"))
}

func testSizes(t *testing.T, h handles) {
	for _, n := range []int{0, 1, 4095, 4096, 65536, 1<<20 + 1, 5 << 20, storage.MaxObject} {
		key := fmt.Sprintf("size/%d", n)
		create(t, h.a, key, Content(key, n))
		wantContent(t, h.b, key, Content(key, n))
	}
	create(t, h.a, "size/nil", nil)
	wantContent(t, h.b, "size/nil", nil)
}

// testAliasing: the bucket keeps neither the bytes it was given nor those it
// gave out.
func testAliasing(t *testing.T, h handles) {
	body := []byte("as created")
	create(t, h.a, "key", body)
	copy(body, "CHANGED")
	got := get(t, h.a, "key", 0, -1)
	if string(got) != "as created" {
		t.Fatalf("the object changed with the caller's slice: %q", got)
	}
	copy(got, "CHANGED")
	_ = append(get(t, h.a, "key", 0, 2), "CHANGED"...)
	wantContent(t, h.a, "key", []byte("as created"))
}

func testExists(t *testing.T, h handles) {
	create(t, h.a, "taken", []byte("first"))
	for name, b := range map[string]storage.Bucket{"same handle": h.a, "other handle": h.b} {
		for _, body := range []string{"other", "first", ""} {
			err := b.Create(t.Context(), "taken", []byte(body))
			// A server may close the connection on which it has just refused an
			// object, and others that are idle; what is then lost may be sent again.
			for n := 0; n < 20 && errors.Is(err, storage.ErrUnknown) && !errors.Is(err, storage.ErrExists); n++ {
				err = b.Create(t.Context(), "taken", []byte(body))
			}
			if !errors.Is(err, storage.ErrExists) || errors.Is(err, storage.ErrUnknown) {
				t.Errorf("%s: second Create with %q: %v, want ErrExists alone", name, body, err)
			}
		}
	}
	wantContent(t, h.b, "taken", []byte("first"))
	if keys := list(t, h.a, "", "", 10); len(keys) != 1 {
		t.Errorf("%q, want the one object", keys)
	}
}

func testRange(t *testing.T, h handles) {
	create(t, h.a, "digits", []byte("0123456789"))
	create(t, h.a, "empty", nil)
	for _, test := range []struct {
		key    string
		off, n int64
		want   string
	}{
		{"digits", 0, -1, "0123456789"},
		{"digits", 0, 10, "0123456789"},
		{"digits", 0, 3, "012"},
		{"digits", 3, 4, "3456"},
		{"digits", 9, 1, "9"},
		{"digits", 4, -1, "456789"},
		{"digits", 4, math.MinInt64, "456789"},
		{"digits", 8, 5, "89"},
		{"digits", 0, 100, "0123456789"},
		{"digits", 1, math.MaxInt64, "123456789"},
		{"digits", 0, 0, ""},
		{"digits", 5, 0, ""},
		{"digits", 10, 0, ""},
		{"digits", 10, 1, ""},
		{"digits", 10, -1, ""},
		{"digits", 11, -1, ""},
		{"digits", 1 << 40, 5, ""},
		{"digits", math.MaxInt64, math.MaxInt64, ""},
		{"empty", 0, -1, ""},
		{"empty", 0, 0, ""},
		{"empty", 0, 1, ""},
		{"empty", 1, -1, ""},
	} {
		if got := get(t, h.b, test.key, test.off, test.n); string(got) != test.want {
			t.Errorf("Get(%s, %d, %d) = %q, want %q", test.key, test.off, test.n, got, test.want)
		}
	}
	if _, err := h.a.Get(t.Context(), "digits", -1, 2); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("Get from a negative offset: %v, want fs.ErrInvalid", err)
	}
}

func testMissing(t *testing.T, h handles) {
	create(t, h.a, "folder/object", []byte("x"))
	for _, key := range []string{"none", "folder", "folder/none", "folder/object2", "none/object", "fold"} {
		for _, n := range []int64{-1, 0, 5} {
			for _, off := range []int64{0, 3} {
				_, err := h.b.Get(t.Context(), key, off, n)
				if !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("Get(%s, %d, %d): %v, want fs.ErrNotExist", key, off, n, err)
				}
			}
		}
	}
}

// testKeys: every bucket holds every key that CheckKey accepts.
func testKeys(t *testing.T, h handles) {
	element := strings.Repeat("e", 200)
	for _, key := range []string{
		"a", "A", "0", "-", "=", "_",
		"az.AZ_09-=", "x.", "x..", "-x", "=x", "_x", "a.b/c.d", "a=b/c=d",
		"0000/log/00000000000000000001/00000000000000000042",
		strings.Repeat("f/", storage.MaxKey/2-1) + "x",
		strings.Repeat(element+"/", 2) + strings.Repeat("z", storage.MaxKey-402),
		strings.Repeat("g", 200),
	} {
		if err := storage.CheckKey(key); err != nil {
			t.Fatal(err)
		}
		create(t, h.a, key, []byte(key))
		wantContent(t, h.b, key, []byte(key))
		if keys := list(t, h.b, key, "", 1); len(keys) != 1 || keys[0] != key {
			t.Errorf("List(%q) = %q", key, keys)
		}
	}
}

func testBadKeys(t *testing.T, h handles) {
	create(t, h.a, "good", []byte("x"))
	for _, key := range []string{
		"", "/", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "a/../good", ".hidden", "a/.b",
		"a b", "a\x00b", "a\nb", "a\\b", "ä", "a%2fb", "a*", "a?b", "a:b", "~a",
		strings.Repeat("a", 201), strings.Repeat("a/", 256) + "b",
	} {
		if err := h.a.Create(t.Context(), key, []byte("x")); !errors.Is(err, storage.ErrKey) {
			t.Errorf("Create(%q): %v, want ErrKey", key, err)
		}
		if _, err := h.a.Get(t.Context(), key, 0, -1); !errors.Is(err, storage.ErrKey) {
			t.Errorf("Get(%q): %v, want ErrKey", key, err)
		}
		if err := h.a.Delete(t.Context(), "good", key); !errors.Is(err, storage.ErrKey) {
			t.Errorf("Delete(good, %q): %v, want ErrKey", key, err)
		}
	}
	if keys := list(t, h.b, "", "", 10); len(keys) != 1 || keys[0] != "good" {
		t.Errorf("after all the refusals there is %q, want the good one alone", keys)
	}
}

func testDelete(t *testing.T, h handles) {
	if err := h.a.Delete(t.Context()); err != nil {
		t.Errorf("Delete of nothing: %v", err)
	}
	if err := h.a.Delete(t.Context(), "none", "none/at/all"); err != nil {
		t.Errorf("Delete of absent keys: %v", err)
	}
	for _, key := range []string{"d/1", "d/2", "d/3", "e/1"} {
		create(t, h.a, key, []byte("old"))
	}
	if err := h.b.Delete(t.Context(), "d/1", "none", "d/3", "d", "d/1"); err != nil {
		t.Fatalf("Delete: %v", err)
	}
	for _, key := range []string{"d/1", "d/3"} {
		if _, err := h.a.Get(t.Context(), key, 0, -1); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Get(%s) after Delete: %v, want fs.ErrNotExist", key, err)
		}
	}
	if got := strings.Join(list(t, h.a, "", "", 1), " "); got != "d/2 e/1" {
		t.Errorf("left is %q, want d/2 e/1", got)
	}
	create(t, h.a, "d/1", []byte("new"))
	wantContent(t, h.b, "d/1", []byte("new"))
}

// testCancelled: a call whose context is over before it begins does nothing, and
// returns an error.
func testCancelled(t *testing.T, h handles) {
	create(t, h.a, "old", []byte("x"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	check := func(op string, err error) {
		if !errors.Is(err, context.Canceled) || errors.Is(err, storage.ErrUnknown) {
			t.Errorf("%s with a cancelled context: %v, want context.Canceled and no ErrUnknown", op, err)
		}
	}
	check("Create", h.a.Create(ctx, "new", []byte("x")))
	check("Delete", h.a.Delete(ctx, "old"))
	_, err := h.a.Get(ctx, "old", 0, -1)
	check("Get", err)
	_, err = h.a.List(ctx, "", "", 10)
	check("List", err)
	if keys := list(t, h.b, "", "", 10); len(keys) != 1 || keys[0] != "old" {
		t.Errorf("there is %q, want the old object alone", keys)
	}
}

// testAtomicity: while an object is created, readers see all of it or nothing.
func testAtomicity(t *testing.T, h handles) {
	const size = 1 << 20
	for i := range 8 {
		key := fmt.Sprintf("atomic/%d", i)
		want := Content(key, size)
		created := make(chan error, 1)
		go func() { created <- h.a.Create(context.WithoutCancel(t.Context()), key, want) }()

		for done := false; !done; {
			select {
			case err := <-created:
				if err != nil {
					t.Fatalf("Create: %v", err)
				}
				done = true
			default:
			}
			keys := list(t, h.b, key, "", 10)
			got, err := h.b.Get(t.Context(), key, 0, -1)
			switch {
			case errors.Is(err, fs.ErrNotExist):
				if done || len(keys) > 0 {
					t.Fatalf("listed as %q, created: %v, and then: %v", keys, done, err)
				}
			case err != nil:
				t.Fatalf("Get: %v", err)
			case !bytes.Equal(got, want):
				t.Fatalf("a reader saw %s", brief(got))
			}
		}
	}
}
