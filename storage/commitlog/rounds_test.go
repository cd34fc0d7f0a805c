package commitlog

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record/recordtest"
	"github.com/weirmq/weir/storage/storagetest"
)

// TestRoundsOfOpen counts how many requests an owner waits for, one after the other, until
// it owns a log that was closed in good order: on a bucket far away these are the time
// that it takes. It counts the same for a hand-over, from the last slot on.
func TestRoundsOfOpen(t *testing.T) {
	const round = 30 * time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		b := mem.New()
		l := open(t, b)
		topic := createTopic(t, l, "t", 1)
		appended(t, l, Append{Topic: topic.ID, Batch: recordtest.Batch("a")})
		must(l.Maintain(t.Context()))
		appended(t, l, Append{Topic: topic.ID, Batch: recordtest.Batch("b")})
		must(l.Close())

		far := storagetest.NewFaults(b, 1)
		far.Plan(func(storagetest.Call) storagetest.Outcome { return storagetest.Outcome{Before: round} })
		began := time.Now()
		l = open(t, far)
		if rounds := int(time.Since(began) / round); rounds > 12 || far.Calls() > 20 {
			t.Errorf("Open takes %d rounds, with %d requests", rounds, far.Calls())
		}

		c := prepared(t, far)
		_, err := l.HandOver(t.Context(), nonce, func(ctx context.Context) error {
			err := successor(c, nonce)(ctx)
			began = time.Now()
			return err
		})
		must(err)
		must(l.Close())
		l = taken(t, c)
		if rounds := int(time.Since(began) / round); rounds > 4 { // SEAL, Get, List, HEADER
			t.Errorf("a hand-over takes %d rounds", rounds)
		}
		must(l.Close())
	})
}
