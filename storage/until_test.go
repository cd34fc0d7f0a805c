package storage

import (
	"context"
	"errors"
	"io/fs"
	"testing"
	"testing/synctest"
	"time"
)

func TestUntil(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, c := range map[string]struct {
			answers []error
			final   error
			want    error
			took    time.Duration
		}{
			"at once":   {[]error{nil}, nil, nil, 0},
			"repeated":  {[]error{errors.New("a"), errors.New("b"), nil}, fs.ErrNotExist, nil, 300 * time.Millisecond},
			"an answer": {[]error{errors.New("a"), fs.ErrNotExist, nil}, fs.ErrNotExist, fs.ErrNotExist, 100 * time.Millisecond},
			"damage":    {[]error{ErrDamaged, nil}, fs.ErrNotExist, ErrDamaged, 0},
		} {
			calls, began := 0, time.Now()
			err := Until(t.Context(), func() error { calls++; return c.answers[calls-1] }, c.final)
			if !errors.Is(err, c.want) || time.Since(began) != c.took {
				t.Errorf("%s: %v after %v", name, err, time.Since(began))
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began, failure := time.Now(), errors.New("a")
		if err := Until(ctx, func() error { return failure }, nil); !errors.Is(err, failure) || time.Since(began) != time.Minute {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}
