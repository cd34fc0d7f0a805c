package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/pause"
)

// A call without a definite answer is repeated after firstWait, then after twice that
// and so on up to lastWait, each with jitter. An attempt that takes longer than
// attemptTimeout is given up, with an unknown outcome; one that creates a large object
// has another attemptTimeout for each MaxSlot bytes.
const (
	firstWait      = 100 * time.Millisecond
	lastWait       = 5 * time.Second
	attemptTimeout = time.Minute
)

// store is the bucket as one journal uses it: calls are repeated until there is a
// definite answer or ctx ends.
type store struct {
	bucket    storage.Bucket
	shard     uint32
	log       *slog.Logger
	mutations mutations
	lost      func(error) // Options.Lost
	jitter    func() float64

	// retryAll is set in the owner's store. There even an error that looks permanent is
	// retried: a slot in flight cannot be taken back.
	retryAll bool
}

func newStore(o Options) store {
	storage.Sequences(o.Bucket, logPrefix(o.Shard))
	return store{bucket: o.Bucket, shard: o.Shard, log: o.Log, mutations: o.mutations, lost: o.Lost, jitter: o.jitter}
}

// create stores raw under key (rule 5). After an unknown outcome it creates the same
// bytes again: a read that finds nothing would prove nothing, because the object may
// still arrive. It returns nil if one of these attempts made the object durable,
// storage.ErrExists if the name is taken (perhaps by one of them), and else the reason
// why it gave up without knowing.
func (s store) create(ctx context.Context, key string, raw []byte) error {
	_, err := s.createClear(ctx, key, raw)
	return err
}

// createClear is create, and also reports whether the object was created without an
// attempt of unknown outcome. Then no attempt is still under way: once deleted, the
// object is gone for good.
func (s store) createClear(ctx context.Context, key string, raw []byte) (clear bool, err error) {
	unknown := false
	limit := attemptTimeout * time.Duration(1+len(raw)/MaxSlot)
	err = s.repeat(ctx, "create", key, limit, storage.ErrExists, func(ctx context.Context) error {
		err := s.bucket.Create(ctx, key, raw)
		unknown = unknown || errors.Is(err, storage.ErrUnknown)
		if unknownIsDone(s.mutations) && errors.Is(err, storage.ErrUnknown) {
			return nil
		}
		return err
	})
	return err == nil && !unknown, err
}

// has reports whether there is an object under key.
func (s store) has(ctx context.Context, key string) (bool, error) {
	err := s.repeat(ctx, "get", key, attemptTimeout, fs.ErrNotExist, func(ctx context.Context) error {
		_, err := s.bucket.Get(ctx, key, 0, 1)
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// longer reports whether there is an object under key that has more than n bytes.
func (s store) longer(ctx context.Context, key string, n int) (bool, error) {
	var raw []byte
	err := s.repeat(ctx, "get", key, attemptTimeout, fs.ErrNotExist, func(ctx context.Context) (err error) {
		raw, err = s.bucket.Get(ctx, key, 0, int64(n)+1)
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return len(raw) > n, err
}

// deleted returns the key of an object with that prefix, at or behind from, that the
// bucket knows was deleted; "" if there is none.
func (s store) deleted(ctx context.Context, prefix, from string) (key string, err error) {
	err = s.repeat(ctx, "look for deletions behind", from, attemptTimeout, nil, func(ctx context.Context) error {
		key, err = storage.Deleted(ctx, s.bucket, prefix, from)
		return err
	})
	return key, err
}

// get returns the whole object, or fs.ErrNotExist.
func (s store) get(ctx context.Context, key string) (raw []byte, err error) {
	err = s.repeat(ctx, "get", key, attemptTimeout, fs.ErrNotExist, func(ctx context.Context) error {
		raw, err = s.bucket.Get(ctx, key, 0, -1)
		return err
	})
	return raw, err
}

// getLarge is get for an object that may be larger than a slot. It reads ranges, so
// that no attempt takes longer than that of a slot.
func (s store) getLarge(ctx context.Context, key string) (raw []byte, err error) {
	for {
		var part []byte
		err = s.repeat(ctx, "get", key, attemptTimeout, fs.ErrNotExist, func(ctx context.Context) error {
			part, err = s.bucket.Get(ctx, key, int64(len(raw)), MaxSlot)
			return err
		})
		if err != nil {
			return nil, err
		}
		if raw == nil {
			raw = part
		} else {
			raw = append(raw, part...)
		}
		if len(part) < MaxSlot || len(raw) > MaxCheckpoint {
			return raw, nil
		}
	}
}

// delete removes the objects. It is repeated until the bucket says that they
// are gone.
func (s store) delete(ctx context.Context, keys []string) error {
	return s.repeat(ctx, "delete", keys[0], attemptTimeout, nil, func(ctx context.Context) error {
		return s.bucket.Delete(ctx, keys...)
	})
}

// list returns a page of keys.
func (s store) list(ctx context.Context, prefix, after string, max int) (keys []string, err error) {
	err = s.repeat(ctx, "list", prefix, attemptTimeout, nil, func(ctx context.Context) error {
		keys, err = s.bucket.List(ctx, prefix, after, max)
		return err
	})
	return keys, err
}

// repeat calls once until it succeeds or returns the error final, which is an answer
// too. After any other error it waits and calls again: a bucket that is busy, full or
// unreachable is so for all nodes.
func (s store) repeat(ctx context.Context, verb, key string, limit time.Duration, final error, once func(context.Context) error) error {
	wait := firstWait
	for attempt := 1; ; attempt++ {
		err := s.attempt(ctx, limit, once)
		if err == nil || final != nil && errors.Is(err, final) {
			return err
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%s %s: gave up in attempt %d: %w", verb, key, attempt, err)
		}
		if !s.retryAll && permanent(err) {
			return fmt.Errorf("%s %s: %w", verb, key, err)
		}
		s.log.Warn("a request to the bucket failed: trying again", "call", verb, "key", key, "attempt", attempt, "err", err)
		if !s.sleep(ctx, wait) {
			return fmt.Errorf("%s %s: gave up after attempt %d: %w: %w", verb, key, attempt, ctx.Err(), err)
		}
		wait = min(2*wait, lastWait)
	}
}

// permanent reports whether err is one that only a person can fix.
func permanent(err error) bool {
	return errors.Is(err, storage.ErrKey) || errors.Is(err, storage.ErrDamaged) || errors.Is(err, fs.ErrPermission)
}

func (s store) attempt(ctx context.Context, limit time.Duration, once func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return once(ctx)
}

// sleep waits between a half and the whole of d. It returns false if ctx ended first.
func (s store) sleep(ctx context.Context, d time.Duration) bool {
	return pause.For(ctx, d/2+time.Duration(s.jitter()*float64(d/2))) == nil
}

// createOwn makes raw, an object of this claim's own epoch, durable under key. It
// returns nil only if that is certain; clear means that no attempt is under way.
// Errors: ErrFenced if a SEAL was there first, ErrForeign, ErrCorrupt, or that ctx
// ended with the outcome unknown.
func (s store) createOwn(ctx context.Context, key string, raw []byte) (clear bool, err error) {
	clear, err = s.createClear(ctx, key, raw)
	if !errors.Is(err, storage.ErrExists) {
		return clear, err
	}
	if existsIsMine(s.mutations) {
		return false, nil
	}
	return false, s.checkTaken(ctx, key, raw)
}

// checkTaken reads the object that took the name of raw and finds out whose it is. It
// compares the whole object, and with it epoch, nonce, slot and CRC.
func (s store) checkTaken(ctx context.Context, key string, raw []byte) error {
	got, err := s.get(ctx, key)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		// Slots are deleted only below a durable checkpoint, and this owner deletes
		// only its durable ones.
		return fmt.Errorf("%w: %s was there before and is missing", ErrFenced, key)
	case err != nil:
		return err
	case bytes.Equal(got, raw):
		return nil
	}
	o, err := decode(got)
	switch {
	case err != nil:
		return fmt.Errorf("read %s: %w", key, err)
	case o.typ == typeSeal && SlotKey(o.shard, o.pos) == key:
		return fmt.Errorf("%w: epoch %d sealed %s", ErrFenced, o.author, key)
	}
	return fmt.Errorf("%w: %v at %v by epoch %d under %s", ErrForeign, o.typ, o.pos, o.author, key)
}
