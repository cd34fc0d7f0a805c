package journal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/weirmq/weir/storage"
)

// maxAsked bounds the questions that one call of Asked looks at, so that a node that
// asks all the time does not keep the owner busy.
const maxAsked = 16

// askPage is how many keys one List returns.
const askPage = 1000

// Ask asks the owner of an epoch whether it is alive: it creates the next question of
// that epoch. node is the name of the asking node. An owner that looks (Asked) answers
// with a slot. Nothing in the log depends on a question. One that is lost, or whose
// creation has an unknown outcome, may be asked again.
func Ask(ctx context.Context, b storage.Bucket, shard uint32, epoch uint64, node string) error {
	newest, err := newestAsk(ctx, b, shard, epoch)
	if err != nil {
		return err
	}
	pos := Position{epoch, newest + 1}
	o := askObject(shard, pos, node)
	err = b.Create(ctx, askKey(shard, pos), o.encode())
	if err != nil && !errors.Is(err, storage.ErrExists) { // taken: another node asks the same
		return fmt.Errorf("ask the owner of epoch %d: %w", epoch, err)
	}
	return nil
}

// newestAsk returns the number of the newest question to the owner of an epoch
// that is still there, 0 if there is none.
func newestAsk(ctx context.Context, b storage.Bucket, shard uint32, epoch uint64) (uint64, error) {
	prefix := askEpochPrefix(shard, epoch)
	newest := Position{epoch, 0}
	for after := prefix; ; {
		keys, err := b.List(ctx, prefix, after, askPage)
		if err != nil {
			return 0, fmt.Errorf("list the questions to epoch %d: %w", epoch, err)
		}
		for _, key := range keys {
			if pos, ok := parsePlace(key, askPrefix(shard)); ok {
				newest = pos
			}
			after = key
		}
		if len(keys) < askPage {
			return newest.Slot, nil
		}
	}
}

// Asked reports whether a node has asked if this owner is alive, since the last call
// that reported so, and returns the name of the last node that did. If none has, it
// costs one call to the bucket. It deletes the questions that it has seen, except the
// newest, which keeps the number. If that fails, the error is returned together with
// the answer, and a later call deletes what is left. Asked must not be called by two
// goroutines at once.
func (j *Journal) Asked(ctx context.Context) (who string, asked bool, err error) {
	for range maxAsked {
		pos := Position{j.claim.Epoch, j.asked + 1}
		raw, err := j.store.bucket.Get(ctx, askKey(j.store.shard, pos), 0, -1)
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return who, asked, fmt.Errorf("look for questions: %w", err)
		}
		j.asked, asked, who = pos.Slot, true, askedBy(raw)
	}
	return who, asked, j.deleteQuestions(ctx)
}

// askedBy returns the name of the node that created a question. Only the key matters:
// an object that cannot be read is a question all the same.
func askedBy(raw []byte) string {
	o, err := decode(raw)
	if err != nil || o.typ != typeAsk || len(o.entries) != 1 {
		return ""
	}
	return string(o.entries[0].Body)
}

// deleteQuestions deletes the questions that were seen, except the newest. The first
// time it also deletes those to earlier owners, for which it needs a List.
func (j *Journal) deleteQuestions(ctx context.Context) error {
	newest := Position{j.claim.Epoch, j.asked}
	var old []string
	if j.forgotten.IsZero() {
		keys, err := j.store.bucket.List(ctx, askPrefix(j.store.shard), "", askPage)
		if err != nil {
			return fmt.Errorf("list old questions: %w", err)
		}
		for _, key := range keys {
			if pos, ok := parsePlace(key, askPrefix(j.store.shard)); ok && pos.Before(newest) {
				old = append(old, key)
			}
		}
	} else {
		for n := j.forgotten.Slot; n < newest.Slot; n++ {
			if n > 0 {
				old = append(old, askKey(j.store.shard, Position{newest.Epoch, n}))
			}
		}
	}
	if len(old) > 0 {
		if err := j.store.bucket.Delete(ctx, old...); err != nil {
			return fmt.Errorf("delete old questions: %w", err)
		}
	}
	j.forgotten = newest
	return nil
}

// NextSlot returns the position after the last slot of from's epoch that exists, or
// from if no slot from there on exists. It uses List; a hole does not end it. With it
// and HasSlot, a node that watches the owner learns whether the log grows.
func NextSlot(ctx context.Context, b storage.Bucket, shard uint32, from Position) (Position, error) {
	storage.Sequences(b, logPrefix(shard))
	next, prefix := from, epochPrefix(shard, from.Epoch)
	after := prefix
	if from.Slot > 0 {
		after = SlotKey(shard, Position{from.Epoch, from.Slot - 1})
	}
	for {
		keys, err := b.List(ctx, prefix, after, askPage)
		if err != nil {
			return Position{}, fmt.Errorf("list the slots of epoch %d: %w", from.Epoch, err)
		}
		if len(keys) > 0 {
			after = keys[len(keys)-1]
			last, err := parseSlot(shard, after)
			if err != nil {
				return Position{}, err
			}
			next = Position{last.Epoch, last.Slot + 1}
		}
		if len(keys) < askPage {
			return next, nil
		}
	}
}

// HasSlot reports whether the owner has written a slot at pos. A SEAL is no sign of life: a
// claimant has put it there, or an owner that has ended its epoch. It asks the bucket once.
func HasSlot(ctx context.Context, b storage.Bucket, shard uint32, pos Position) (bool, error) {
	storage.Sequences(b, logPrefix(shard))
	raw, err := b.Get(ctx, SlotKey(shard, pos), 0, fixedSize)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && !isSeal(raw), err
}
