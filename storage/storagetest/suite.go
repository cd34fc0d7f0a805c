// Package storagetest has the shared test code of buckets and of everything built on
// them: the conformance suite, a benchmark and the fault-injecting bucket.
package storagetest

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/weirmq/weir/storage"
)

// Run checks that a bucket keeps the whole contract of storage.Bucket. Each
// call of open gives an empty one.
func Run(t *testing.T, open func(t *testing.T) storage.Bucket) {
	RunShared(t, func(t *testing.T) (a, b storage.Bucket) {
		a = open(t)
		return a, a
	})
}

// RunShared is Run with two handles on one empty store, like those of two processes:
// each sees what the other creates.
func RunShared(t *testing.T, open func(t *testing.T) (a, b storage.Bucket)) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, handles)
	}{
		{"RoundTrip", testRoundTrip},
		{"Sizes", testSizes},
		{"Aliasing", testAliasing},
		{"Exists", testExists},
		{"Range", testRange},
		{"Missing", testMissing},
		{"Keys", testKeys},
		{"BadKeys", testBadKeys},
		{"ListOrder", testListOrder},
		{"ListPrefixAfter", testListPrefixAfter},
		{"BadPrefixes", testBadPrefixes},
		{"Many", testMany},
		{"Delete", testDelete},
		{"Cancelled", testCancelled},
		{"Visibility", testVisibility},
		{"VisibilityConcurrent", testVisibilityConcurrent},
		{"Atomicity", testAtomicity},
		{"Race", testRace},
		{"Concurrent", testConcurrent},
	} {
		t.Run(test.name, func(t *testing.T) {
			a, b := open(t)
			test.run(t, handles{a, b})
		})
	}
}

// handles are two handles on one store.
type handles struct{ a, b storage.Bucket }

// Content returns n bytes that depend on the key alone, so that a reader can tell
// whether an object is whole and the right one.
func Content(key string, n int) []byte {
	var seed [32]byte
	copy(seed[:], key)
	binary.LittleEndian.PutUint64(seed[24:], uint64(n)+uint64(len(key))<<32)
	for i, c := range []byte(key) {
		seed[i%24] ^= c * byte(i+1)
	}
	body := make([]byte, n)
	rand.NewChaCha8(seed).Read(body)
	return body
}

func create(t *testing.T, b storage.Bucket, key string, body []byte) {
	t.Helper()
	if err := b.Create(t.Context(), key, body); err != nil {
		t.Fatalf("Create(%s, %d bytes): %v", key, len(body), err)
	}
}

func get(t *testing.T, b storage.Bucket, key string, off, n int64) []byte {
	t.Helper()
	body, err := b.Get(t.Context(), key, off, n)
	if err != nil {
		t.Fatalf("Get(%s, %d, %d): %v", key, off, n, err)
	}
	return body
}

func wantContent(t *testing.T, b storage.Bucket, key string, want []byte) {
	t.Helper()
	if got := get(t, b, key, 0, -1); !bytes.Equal(got, want) {
		t.Fatalf("Get(%s): %s, want %s", key, brief(got), brief(want))
	}
}

// list reads a whole listing in pages of at most max keys and checks what must
// hold for every page.
func list(t *testing.T, b storage.Bucket, prefix, after string, max int) []string {
	t.Helper()
	keys, err := listAll(t.Context(), b, prefix, after, max)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func listAll(ctx context.Context, b storage.Bucket, prefix, after string, max int) ([]string, error) {
	var keys []string
	for {
		page, err := b.List(ctx, prefix, after, max)
		if err != nil {
			return nil, fmt.Errorf("List(%q, %q, %d): %w", prefix, after, max, err)
		}
		if len(page) > max {
			return nil, fmt.Errorf("List(%q, %q, %d): %d keys", prefix, after, max, len(page))
		}
		for _, key := range page {
			if key <= after {
				return nil, fmt.Errorf("List(%q): %q comes after %q", prefix, key, after)
			}
			after = key
		}
		keys = append(keys, page...)
		if len(page) < max {
			return keys, nil
		}
	}
}

func brief(p []byte) string {
	if len(p) > 24 {
		return fmt.Sprintf("%d bytes %x…", len(p), p[:24])
	}
	return fmt.Sprintf("%d bytes %q", len(p), p)
}
