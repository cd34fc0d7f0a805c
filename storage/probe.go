package storage

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"sync"
)

// ErrNoCreate: the store does not keep the promise of Create.
var ErrNoCreate = errors.New("the store lets a second writer overwrite or share a name (it ignores create-if-absent), so Weir cannot keep its log there")

// Probe checks at start-up that the store behind b keeps the promise of Create. It
// creates a name twice, lets eight writers race for another, reads both back and
// removes them. The error wraps ErrNoCreate if the store does not keep the promise,
// else it names the operation that failed.
func Probe(ctx context.Context, b Bucket) error {
	id := rand.Text()
	twice, race := "probe/"+id+"-twice", "probe/"+id+"-race"
	err := probeTwice(ctx, b, twice)
	if err == nil {
		err = probeRace(ctx, b, race)
	}
	// Objects that cannot be removed now have a name that is never used again.
	if deleted := b.Delete(ctx, twice, race); err == nil && deleted != nil {
		err = fmt.Errorf("probe bucket: %w", deleted)
	}
	return err
}

// passedPrefix is where it is noted that a store has passed Probe.
const passedPrefix = "probe/passed/"

// Passed reports whether the store was found to have passed Probe, by a program and under
// an address for which name stands. It does not hold for a store that has taken the place
// of another one under the same address: whoever relies on it probes in the background.
func Passed(ctx context.Context, b Bucket, name string) bool {
	_, err := b.Get(ctx, passedPrefix+name, 0, 1)
	return err == nil
}

// NotePassed notes for Passed that the store has passed Probe.
func NotePassed(ctx context.Context, b Bucket, name string) error {
	if err := b.Create(ctx, passedPrefix+name, []byte("passed\n")); err != nil && !errors.Is(err, ErrExists) {
		return fmt.Errorf("note that the bucket was probed: %w", err)
	}
	return nil
}

func probeTwice(ctx context.Context, b Bucket, key string) error {
	if _, err := b.Get(ctx, key, 0, -1); err == nil {
		return errors.New("probe bucket: a name that was never used holds an object")
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("probe bucket: read of a name that was never used: %w", err)
	}
	if err := b.Create(ctx, key, []byte("first")); err != nil {
		return fmt.Errorf("probe bucket: %w", err)
	}
	switch err := b.Create(ctx, key, []byte("second")); {
	case err == nil:
		return fmt.Errorf("probe bucket: %w", ErrNoCreate)
	case !errors.Is(err, ErrExists):
		return fmt.Errorf("probe bucket: second create of one name: %w", err)
	}
	return probeContent(ctx, b, key, []byte("first"))
}

func probeRace(ctx context.Context, b Bucket, key string) error {
	errs := make([]error, 8)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() { errs[i] = b.Create(ctx, key, []byte{byte(i)}) })
	}
	wg.Wait()
	var winners []byte
	for i, err := range errs {
		switch {
		case err == nil:
			winners = append(winners, byte(i))
		case !errors.Is(err, ErrExists):
			return fmt.Errorf("probe bucket: race for one name: %w", err)
		}
	}
	if len(winners) != 1 {
		return fmt.Errorf("probe bucket: %d of 8 writers won one name: %w", len(winners), ErrNoCreate)
	}
	return probeContent(ctx, b, key, winners)
}

func probeContent(ctx context.Context, b Bucket, key string, want []byte) error {
	got, err := b.Get(ctx, key, 0, -1)
	if err != nil {
		return fmt.Errorf("probe bucket: %w", err)
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("probe bucket: the object is not what its only writer wrote: %w", ErrNoCreate)
	}
	keys, err := b.List(ctx, key, "", 2)
	if err != nil {
		return fmt.Errorf("probe bucket: %w", err)
	}
	if len(keys) != 1 || keys[0] != key {
		return fmt.Errorf("probe bucket: a listing right after a create returned %q and not the new object", keys)
	}
	return nil
}
