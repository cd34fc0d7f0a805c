package cluster

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/storage/journal"
)

// TestConfirm: doubt comes when the answer has been missing for the takeover
// time, goes when it is back, and being fenced ends it.
func TestConfirm(t *testing.T) {
	const takeover = 3 * time.Second
	type turn struct {
		after time.Duration
		doubt bool
	}
	for name, c := range map[string]struct {
		ask  func(ctx context.Context, n int) error
		want []turn
		err  error
	}{
		"always sure": {ask: func(context.Context, int) error { return nil }},
		"errors, then answers": {
			ask: func(_ context.Context, n int) error {
				if n > 1 && n < 9 {
					return errBroken
				}
				return nil
			},
			want: []turn{{4500 * time.Millisecond, true}, {5250 * time.Millisecond, false}},
		},
		"no answer": {
			ask:  func(ctx context.Context, _ int) error { <-ctx.Done(); return ctx.Err() },
			want: []turn{{takeover, true}},
		},
		"slow answers are answers": {
			ask: func(ctx context.Context, _ int) error { time.Sleep(takeover/2 - 1); return nil },
		},
		"an answer is as old as its question": {
			ask:  func(_ context.Context, n int) error { time.Sleep(time.Duration(n/3) * takeover); return nil },
			want: []turn{{2 * takeover, true}},
		},
		"fenced": {
			ask: func(_ context.Context, n int) error {
				if n == 3 {
					return errors.Join(errBroken, journal.ErrFenced)
				}
				return nil
			},
			err: journal.ErrFenced,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 12*time.Second)
				defer cancel()
				began := time.Now()
				var n atomic.Int64
				var got []turn
				err := Confirm(ctx, takeover, func(ctx context.Context) error {
					return c.ask(ctx, int(n.Add(1)))
				}, func(doubt bool) { got = append(got, turn{time.Since(began), doubt}) })
				if !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
					t.Errorf("ended with %v, want %v", err, c.err)
				}
				if !slices.Equal(got, c.want) {
					t.Errorf("got %v, want %v", got, c.want)
				}
			})
		})
	}
}

// confirmTimes runs Confirm in a bubble for ten minutes, with a bucket that answers the nth
// question in a time, or with an error. It returns how many questions there were, and how
// old the last confirmation was at most.
func confirmTimes(t *testing.T, takeover time.Duration, bucket func(n int) (took time.Duration, err error)) (questions int, oldest time.Duration) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		var mu sync.Mutex
		sure := time.Now()
		err := Confirm(ctx, takeover, func(ctx context.Context) error {
			mu.Lock()
			questions++
			asked := time.Now()
			took, err := bucket(questions)
			mu.Unlock()
			select {
			case <-time.After(took):
			case <-ctx.Done():
				return ctx.Err()
			}
			mu.Lock()
			defer mu.Unlock()
			if err == nil && asked.After(sure) {
				oldest = max(oldest, time.Since(sure))
				sure = asked
			}
			return err
		}, func(doubt bool) { t.Errorf("in doubt: %v", doubt) })
		if err != nil {
			t.Error(err)
		}
		oldest = max(oldest, time.Since(sure))
	})
	return questions, oldest
}

// TestConfirmInTime: with a bucket that answers, a request never waits for a confirmation,
// although the bucket is slow, a request fails, or one is late.
func TestConfirmInTime(t *testing.T) {
	const ms = time.Millisecond
	for name, c := range map[string]struct {
		takeover time.Duration
		bucket   func(n int) (time.Duration, error)
	}{
		"slow": {2 * time.Second, func(int) (time.Duration, error) { return 450 * ms, nil }},
		"slow, single requests fail": {2 * time.Second, func(n int) (time.Duration, error) {
			if n%3 == 2 {
				return 400 * ms, errBroken
			}
			return 400 * ms, nil
		}},
		"single requests fail at once": {2 * time.Second, func(n int) (time.Duration, error) {
			if n%3 == 2 {
				return 0, errBroken
			}
			return 200 * ms, nil
		}},
		"single requests are late": {3 * time.Second, func(n int) (time.Duration, error) {
			if n%10 == 9 {
				return 1200 * ms, nil
			}
			return time.Duration(30+n%7*40) * ms, nil
		}},
		"single requests are lost": {2 * time.Second, func(n int) (time.Duration, error) {
			if n%3 == 2 {
				return time.Hour, nil
			}
			return 30 * ms, nil
		}},
	} {
		t.Run(name, func(t *testing.T) {
			_, oldest := confirmTimes(t, c.takeover, c.bucket)
			if limit := SureTime(c.takeover); oldest > limit {
				t.Errorf("a confirmation was %v old, and requests wait from %v on", oldest, limit)
			}
		})
	}
}

// TestConfirmCost: an idle owner pays for two questions in the takeover time and the time
// that their answers take, and for a few more if some are late.
func TestConfirmCost(t *testing.T) {
	for _, took := range []time.Duration{5 * time.Millisecond, 30 * time.Millisecond, 100 * time.Millisecond} {
		most := int(10*time.Minute/(1500*time.Millisecond+took)) + 1
		if questions, _ := confirmTimes(t, 3*time.Second, func(int) (time.Duration, error) { return took, nil }); questions > most {
			t.Errorf("a bucket that takes %v gets %d questions in ten minutes, want at most %d", took, questions, most)
		}
		questions, _ := confirmTimes(t, 3*time.Second, func(n int) (time.Duration, error) {
			if n%50 == 0 {
				return time.Second, nil
			}
			return took, nil
		})
		if most += most / 33; questions > most {
			t.Errorf("a bucket that takes %v, and sometimes a second, gets %d questions in ten minutes, want at most %d", took, questions, most)
		}
	}
	const slow = 450 * time.Millisecond
	if questions, _ := confirmTimes(t, 2*time.Second, func(int) (time.Duration, error) { return slow, nil }); questions > int(10*time.Minute/slow) {
		t.Errorf("a bucket that takes %v gets %d questions in ten minutes: more than one at once", slow, questions)
	}
}
