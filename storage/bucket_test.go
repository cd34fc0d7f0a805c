package storage_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/weirmq/weir/storage"
)

func FuzzCheckKey(f *testing.F) {
	for _, key := range []string{"", "a", "a/b", "0000/log/00000000000000000001/00000000000000000042", "/", "a//b", "..",
		"a/../b", ".a", "a/", strings.Repeat("a/", 256), strings.Repeat("b", 201), "ä", "a\x00"} {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		err := storage.CheckKey(key)
		if err != nil {
			if !errors.Is(err, storage.ErrKey) {
				t.Errorf("CheckKey(%q): %v does not wrap ErrKey", key, err)
			}
			return
		}
		if len(key) == 0 || len(key) > storage.MaxKey {
			t.Errorf("CheckKey takes a key of %d bytes", len(key))
		}
		for element := range strings.SplitSeq(key, "/") {
			if element == "" || strings.HasPrefix(element, ".") || strings.ContainsAny(element, "\\:*?%\"<>|\x00 ~") {
				t.Errorf("CheckKey takes %q", key)
			}
		}
		// Whatever begins a key is a prefix for List.
		for i := range len(key) + 1 {
			if strings.HasSuffix(key[:i], "/.") {
				t.Errorf("CheckKey takes %q", key)
			}
			if err := storage.CheckList(key[:i], key[:i]); err != nil {
				t.Errorf("key %q: %v", key, err)
			}
		}
	})
}

func TestRange(t *testing.T) {
	for _, test := range []struct{ size, off, n, from, length int64 }{
		{10, 0, -1, 0, 10}, {10, 3, 4, 3, 4}, {10, 3, 100, 3, 7}, {10, 3, 1<<63 - 1, 3, 7}, {10, 10, 1, 10, 0},
		{10, 1<<63 - 1, 1<<63 - 1, 10, 0}, {0, 0, -1, 0, 0}, {10, 5, 0, 5, 0},
	} {
		from, length, err := storage.Range(test.size, test.off, test.n)
		if err != nil || from != test.from || length != test.length {
			t.Errorf("Range(%d, %d, %d) = %d, %d, %v, want %d, %d", test.size, test.off, test.n, from, length, err, test.from, test.length)
		}
	}
	if _, _, err := storage.Range(10, -1, 1); err == nil {
		t.Error("Range of a negative offset: no error")
	}
}
