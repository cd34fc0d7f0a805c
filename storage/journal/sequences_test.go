package journal

import (
	"slices"
	"testing"
	"testing/synctest"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/mem"
)

// listener is a bucket that notes what comes in sequence.
type listener struct {
	*mem.Bucket
	prefixes []string
}

func (b *listener) Traits() storage.Traits {
	return storage.Traits{Sequences: func(prefix string) { b.prefixes = append(b.prefixes, prefix) }}
}

// TestSequences: before a process uses slots it tells the bucket that they come in
// sequence.
func TestSequences(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := mem.New()
		for name, use := range map[string]func(storage.Bucket) error{
			"open": func(b storage.Bucket) error {
				j, err := Open(t.Context(), Options{Bucket: b, Shard: 7}, &book{})
				if err == nil {
					err = j.Close()
				}
				return err
			},
			"replay": func(b storage.Bucket) error {
				_, err := Replay(t.Context(), Options{Bucket: b, Shard: 7}, &book{})
				return err
			},
			"look for a slot": func(b storage.Bucket) error {
				_, err := HasSlot(t.Context(), b, 7, Position{1, 0})
				return err
			},
			"look for the last one": func(b storage.Bucket) error {
				_, err := NextSlot(t.Context(), b, 7, Position{1, 0})
				return err
			},
		} {
			heard := &listener{Bucket: b}
			if err := use(heard); err != nil || !slices.Equal(slices.Compact(heard.prefixes), []string{"0007/log/"}) {
				t.Errorf("%s: told of %q (%v)", name, heard.prefixes, err)
			}
		}
	})
}
