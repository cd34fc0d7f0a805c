package engine

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/segment"
	"github.com/weirmq/weir/storage/storagetest"
)

// recipes is a bucket for a log whose records all have the same value. Of a slot or
// segment it keeps a recipe: where that value is in the object, and the bytes between.
// So a log of any size takes little space, and each read gets what was written. Recipes
// lie in a file, one behind the other, since memory is what is to be measured; other
// objects lie in another bucket.
//
// A recipe is the size of the object and the number of values (u32 each), the place of
// each value (u32), and the bytes that are not part of one.
type recipes struct {
	storage.Bucket
	value []byte
	f     *os.File

	mu      sync.Mutex
	end     int64              // guarded by mu: of the file
	folders map[string][]int64 // guarded by mu: by the key up to the number, and by the number; where a recipe lies, plus 1; 0: there is none
}

// newRecipes uses a file in a folder, which the caller deletes.
func newRecipes(folder string, value []byte, rest storage.Bucket) (*recipes, error) {
	f, err := os.CreateTemp(folder, "recipes")
	if err != nil {
		return nil, err
	}
	return &recipes{Bucket: rest, value: value, f: f, folders: make(map[string][]int64)}, nil
}

func (r *recipes) Close() error { return errors.Join(r.f.Close(), storage.Close(r.Bucket)) }

// cut returns the two parts of the key of a slot or segment.
func cut(key string) (folder string, number int, ours bool) {
	at := strings.LastIndexByte(key, '/') + 1
	folder = key[:at]
	if !strings.Contains(folder, "/log/") && !strings.Contains(folder, "/segment/") {
		return "", 0, false
	}
	number, err := strconv.Atoi(key[at:])
	return folder, number, err == nil && number < 1<<24
}

// find returns where the recipe of an object lies.
func (r *recipes) find(folder string, number int) (at int64, found bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if places := r.folders[folder]; number < len(places) {
		at = places[number]
	}
	return at - 1, at > 0
}

// Create implements storage.Bucket.
func (r *recipes) Create(ctx context.Context, key string, body []byte) error {
	folder, number, ours := cut(key)
	if !ours {
		return r.Bucket.Create(ctx, key, body)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("create %s: %w", key, err)
	}
	recipe := r.recipe(body)
	r.mu.Lock()
	defer r.mu.Unlock()
	places := r.folders[folder]
	if number < len(places) && places[number] > 0 {
		return fmt.Errorf("create %s: %w", key, storage.ErrExists)
	}
	if _, err := r.f.WriteAt(recipe, r.end); err != nil {
		return fmt.Errorf("create %s: %w", key, err)
	}
	for len(places) <= number {
		places = append(places, 0)
	}
	places[number] = r.end + 1
	r.folders[folder] = places
	r.end += int64(len(recipe))
	return nil
}

// recipe of an object.
func (r *recipes) recipe(body []byte) []byte {
	var at []int
	for i := 0; ; {
		next := bytes.Index(body[i:], r.value[:16])
		if next < 0 {
			break
		}
		if i += next; bytes.HasPrefix(body[i:], r.value) {
			at = append(at, i)
			i += len(r.value)
		} else {
			i++
		}
	}
	p := binary.BigEndian.AppendUint32(nil, uint32(len(body)))
	p = binary.BigEndian.AppendUint32(p, uint32(len(at)))
	for _, x := range at {
		p = binary.BigEndian.AppendUint32(p, uint32(x))
	}
	from := 0
	for _, x := range at {
		p = append(p, body[from:x]...)
		from = x + len(r.value)
	}
	return append(p, body[from:]...)
}

// Get implements storage.Bucket.
func (r *recipes) Get(ctx context.Context, key string, off, n int64) ([]byte, error) {
	folder, number, ours := cut(key)
	if !ours {
		return r.Bucket.Get(ctx, key, off, n)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("get %s: %w", key, err)
	}
	at, found := r.find(folder, number)
	if !found {
		return nil, fmt.Errorf("get %s: %w", key, fs.ErrNotExist)
	}
	body, err := r.read(at, off, n)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", key, err)
	}
	return body, nil
}

// read returns a range of the object whose recipe begins at a place in the file.
func (r *recipes) read(at, off, n int64) ([]byte, error) {
	var head [8]byte
	if _, err := r.f.ReadAt(head[:], at); err != nil {
		return nil, err
	}
	size, values := int64(binary.BigEndian.Uint32(head[:])), int64(binary.BigEndian.Uint32(head[4:]))
	places := make([]byte, 4*values)
	if _, err := r.f.ReadAt(places, at+8); err != nil {
		return nil, err
	}
	off, n, err := storage.Range(size, off, n)
	if err != nil {
		return nil, err
	}
	body := make([]byte, 0, n)
	between := at + 8 + 4*values // where the bytes lie that come next in the object
	for from := int64(0); from < size; {
		value := size
		if len(places) > 0 {
			value, places = int64(binary.BigEndian.Uint32(places)), places[4:]
		}
		begin, end := max(from, off), min(value, off+n)
		if begin < end {
			fresh := body[len(body):][:end-begin]
			if _, err := r.f.ReadAt(fresh, between+begin-from); err != nil && err != io.EOF {
				return nil, err
			}
			body = body[:len(body)+len(fresh)]
		}
		between += value - from
		from = value + int64(len(r.value))
		if begin, end = max(value, off), min(from, off+n); begin < end && value < size {
			body = append(body, r.value[begin-value:end-value]...)
		}
	}
	return body, nil
}

// List implements storage.Bucket.
func (r *recipes) List(ctx context.Context, prefix, after string, max int) ([]string, error) {
	keys, err := r.Bucket.List(ctx, prefix, after, max)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	ours := 0
	for _, folder := range slices.Sorted(maps.Keys(r.folders)) {
		if !strings.HasPrefix(folder, prefix) && !strings.HasPrefix(prefix, folder) {
			continue
		}
		first := 0
		if rest, inside := strings.CutPrefix(after, folder); inside {
			if first, err = strconv.Atoi(rest); err != nil {
				first = 0
			}
		}
		places := r.folders[folder]
		for number := first; number < len(places) && ours < max; number++ {
			if places[number] == 0 {
				continue
			}
			if key := fmt.Sprintf("%s%020d", folder, number); key > after && strings.HasPrefix(key, prefix) {
				keys = append(keys, key)
				ours++
			}
		}
	}
	slices.Sort(keys)
	return keys[:min(len(keys), max)], nil
}

// Delete implements storage.Bucket.
func (r *recipes) Delete(ctx context.Context, keys ...string) error {
	var others []string
	for _, key := range keys {
		folder, number, ours := cut(key)
		if !ours {
			others = append(others, key)
			continue
		}
		r.mu.Lock()
		if places := r.folders[folder]; number < len(places) {
			places[number] = 0
		}
		r.mu.Unlock()
	}
	return r.Bucket.Delete(ctx, others...)
}

func recipesIn(t *testing.T, value []byte) *recipes {
	r, err := newRecipes(t.TempDir(), value, mem.New())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func TestRecipesAreABucket(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) storage.Bucket { return recipesIn(t, []byte("sixteen bytes or more")) })
}

// TestRecipes: any range of any object comes back, however many values are in it.
func TestRecipes(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	value := make([]byte, 1000)
	for i := range value {
		value[i] = byte(random.Uint32())
	}
	r := recipesIn(t, value)
	for number := range uint64(50) {
		var body []byte
		for range random.IntN(5) {
			body = append(body, value[:random.IntN(100)]...)
			if random.IntN(3) > 0 {
				body = append(body, value...)
			}
		}
		key := journal.SlotKey(0, journal.Position{Epoch: 1, Slot: number})
		if number%2 > 0 {
			key = segment.Key(0, 1, number)
		}
		if err := r.Create(t.Context(), key, body); err != nil {
			t.Fatal(err)
		}
		for range 100 {
			off, n := random.Int64N(int64(len(body))+10), random.Int64N(3000)-1
			from, length, err := storage.Range(int64(len(body)), off, n)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := r.Get(t.Context(), key, off, n); err != nil || !bytes.Equal(got, body[from:from+length]) {
				t.Fatalf("%d bytes from %d on of %d: got %d, %v", n, off, len(body), len(got), err)
			}
		}
	}
	if r.end > 50*1000 {
		t.Errorf("%d bytes of recipes", r.end)
	}
	keys, err := r.List(t.Context(), "0000/", segment.Key(0, 1, 7), 5)
	if want := []string{segment.Key(0, 1, 9), segment.Key(0, 1, 11), segment.Key(0, 1, 13), segment.Key(0, 1, 15), segment.Key(0, 1, 17)}; err != nil || !slices.Equal(keys, want) {
		t.Errorf("listed %v, %v", keys, err)
	}
	if err := r.Delete(t.Context(), segment.Key(0, 1, 7)); err != nil {
		t.Fatal(err)
	}
	if got, err := r.Get(t.Context(), segment.Key(0, 1, 7), 0, -1); err == nil {
		t.Errorf("%d bytes of a deleted segment", len(got))
	}
}
