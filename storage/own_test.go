package storage_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/mem"
)

// answers is a bucket whose Creates are answered as a list says, one after the other.
type answers struct {
	storage.Bucket
	list []answer
}

type answer struct {
	applied bool  // it reaches the bucket
	err     error // nil: what the bucket says
}

func (a *answers) Create(ctx context.Context, key string, body []byte) error {
	now := a.list[0]
	a.list = a.list[1:]
	if now.applied {
		if err := a.Bucket.Create(ctx, key, body); now.err == nil {
			return err
		}
	}
	return now.err
}

// TestCreateOwn: each answer that a store may give, whether the attempt was applied or
// not.
func TestCreateOwn(t *testing.T) {
	refused := errors.New("refused")
	applied, unknown, late := answer{applied: true}, answer{err: storage.ErrUnknown}, answer{applied: true, err: storage.ErrUnknown}
	for name, c := range map[string]struct {
		there string // under the name before
		list  []answer
		want  error
	}{
		"created":                     {"", []answer{applied}, nil},
		"refused":                     {"", []answer{{err: refused}}, refused},
		"another's":                   {"other", []answer{applied}, storage.ErrExists},
		"the object is there":         {"mine", []answer{applied}, nil},
		"not applied":                 {"", []answer{unknown, unknown, applied}, nil},
		"applied, answer lost":        {"", []answer{late, applied}, nil},
		"another's, answer lost":      {"other", []answer{unknown, applied}, storage.ErrExists},
		"answer lost, then refused":   {"", []answer{late, {err: refused}}, storage.ErrUnknown},
		"answer lost, refused reason": {"", []answer{unknown, {err: refused}}, refused},
	} {
		synctest.Test(t, func(t *testing.T) {
			below := mem.New()
			if c.there != "" {
				if err := below.Create(t.Context(), "key", []byte(c.there)); err != nil {
					t.Fatal(err)
				}
			}
			b := &answers{below, c.list}
			if err := storage.CreateOwn(t.Context(), b, "key", []byte("mine")); !errors.Is(err, c.want) || len(b.list) > 0 {
				t.Errorf("%s: %v, %d answers left", name, err, len(b.list))
			}
			if got, err := below.Get(t.Context(), "key", 0, -1); c.want == nil && string(got) != "mine" {
				t.Errorf("%s: %q is there, %v", name, got, err)
			}
		})
	}
}

// TestCreateOwnEnds: an outcome that stays unknown is unknown when ctx ends.
func TestCreateOwnEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	b := &answers{mem.New(), []answer{{err: storage.ErrUnknown}}}
	if err := storage.CreateOwn(ctx, b, "key", nil); !errors.Is(err, storage.ErrUnknown) {
		t.Error(err)
	}
}
