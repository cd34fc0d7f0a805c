package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/weirmq/weir/storage"
)

// Claim says which node owns, or tried to own, an epoch. Claims are never deleted.
type Claim struct {
	Epoch uint64
	Nonce [16]byte // fresh for every attempt; together with the epoch it identifies the owner
	Node  string   // for people and standbys: the name of the node
	Info  []byte   // opaque
}

// NewestClaim returns the claim with the highest epoch, or found == false if
// the shard was never owned. It asks the bucket once and does not repeat.
func NewestClaim(ctx context.Context, b storage.Bucket, shard uint32) (c Claim, found bool, err error) {
	epoch, err := newestEpoch(ctx, b.List, shard)
	if err != nil || epoch == 0 {
		return Claim{}, false, err
	}
	c, err = readClaim(ctx, b, shard, epoch)
	return c, err == nil, err
}

// LastReadableClaim is NewestClaim for a repair, where claims may be missing or
// damaged: it skips those.
func LastReadableClaim(ctx context.Context, b storage.Bucket, shard uint32) (c Claim, found bool, err error) {
	epoch, err := newestEpoch(ctx, b.List, shard)
	for ; err == nil && epoch > 0; epoch-- {
		c, err := readClaim(ctx, b, shard, epoch)
		if err == nil {
			return c, true, nil
		}
		if !errors.Is(err, ErrCorrupt) && !errors.Is(err, storage.ErrDamaged) && !errors.Is(err, fs.ErrNotExist) {
			return Claim{}, false, err
		}
	}
	return Claim{}, false, err
}

// readClaim returns the claim of an epoch, or fs.ErrNotExist. It asks once.
func readClaim(ctx context.Context, b storage.Bucket, shard uint32, epoch uint64) (Claim, error) {
	key := claimKey(shard, epoch)
	raw, err := b.Get(ctx, key, 0, -1)
	if err != nil {
		return Claim{}, fmt.Errorf("read claim %s: %w", key, err)
	}
	c, err := decodeClaim(raw, shard, epoch)
	if err != nil {
		return Claim{}, fmt.Errorf("read claim %s: %w", key, err)
	}
	return c, nil
}

type listFunc func(ctx context.Context, prefix, after string, max int) ([]string, error)

// newestEpoch lists the claims and returns the highest epoch, 0 if there is none.
// Epochs have no gaps: a claim is only ever created one above the highest.
func newestEpoch(ctx context.Context, list listFunc, shard uint32) (uint64, error) {
	newest, _, err := claims(ctx, list, shard)
	return newest, err
}

// claims lists the claims. It returns the highest epoch, 0 if there is none, and the
// lowest number below it that was not listed, 0 if all were.
func claims(ctx context.Context, list listFunc, shard uint32) (newest, gap uint64, err error) {
	const page = 1000
	for last := ""; ; {
		keys, err := list(ctx, claimPrefix(shard), last, page)
		if err != nil {
			return 0, 0, fmt.Errorf("list claims: %w", err)
		}
		for _, key := range keys {
			epoch, err := parseClaim(shard, key)
			if err != nil {
				return 0, 0, err
			}
			if gap == 0 && epoch != newest+1 {
				gap = newest + 1
			}
			newest, last = epoch, key
		}
		if len(keys) < page {
			return newest, gap, nil
		}
	}
}

// highestEpoch returns the highest epoch that was ever claimed, 0 if none was. Claims
// are never deleted: if there is a claim or a slot of a higher epoch, a claim that is
// not there is missing.
//
// Errors: ErrCorrupt with storage.ErrMissing, and those of the bucket.
func (s store) highestEpoch(ctx context.Context) (uint64, error) {
	for again := false; ; again = true {
		newest, gap, err := claims(ctx, s.list, s.shard)
		if err != nil {
			return 0, err
		}
		if gap > 0 {
			// A List may miss what is created while it runs, and still show what was
			// created later.
			there, err := s.has(ctx, claimKey(s.shard, gap))
			switch {
			case err != nil:
				return 0, err
			case there && !again:
				continue
			case !there:
				if err := s.claimMissing(ctx, gap, fmt.Sprintf("there is one of epoch %d", newest)); err != nil {
					return 0, err
				}
				continue
			}
		}
		keys, err := s.list(ctx, fmt.Sprintf("%04d/log/", s.shard), fmt.Sprintf("%04d/log/%020d", s.shard, newest+1), 1)
		if err != nil {
			return 0, fmt.Errorf("list slots: %w", err)
		}
		if len(keys) == 0 || lossUnread(s.mutations) {
			return newest, nil
		}
		pos, err := parseSlot(s.shard, keys[0])
		if err != nil {
			return 0, err
		}
		// Slots of an epoch exist only after its claim, which may be newer than the
		// List.
		there, err := s.has(ctx, claimKey(s.shard, pos.Epoch))
		if err != nil {
			return 0, err
		}
		if !there {
			if err := s.claimMissing(ctx, newest+1, fmt.Sprintf("there is %s", keys[0])); err != nil {
				return 0, err
			}
		}
	}
}

// claimMissing returns an error for a claim that is missing; in a repair it creates
// another one in its place.
func (s store) claimMissing(ctx context.Context, epoch uint64, shown string) error {
	err := absent{claimKey(s.shard, epoch), shown}
	if s.lost == nil {
		return err
	}
	s.lost(err)
	return s.replaceClaim(ctx, epoch)
}

// claim claims the next epoch (rule 1), which must be the given one if that is not 0. The
// nonce is fresh for every attempt and nothing is ever resumed: a process that restarts
// cannot know which of its former writes are still under way.
func (s store) claim(ctx context.Context, o Options, epoch uint64, nonce [16]byte) (Claim, error) {
	newest, err := s.highestEpoch(ctx)
	if err != nil {
		return Claim{}, err
	}
	if resumeByNode(s.mutations) && newest > 0 {
		if c, err := readClaim(ctx, s.bucket, s.shard, newest); err == nil && c.Node == o.Node {
			return c, nil
		}
	}
	if epoch != 0 && newest >= epoch {
		return Claim{}, fmt.Errorf("claim epoch %d: %w: %d is claimed", epoch, ErrFenced, newest)
	}
	c := Claim{Epoch: newest + 1, Nonce: nonce, Node: o.Node, Info: o.Info}
	key, raw := claimKey(s.shard, c.Epoch), c.encode(s.shard)

	err = s.create(ctx, key, raw)
	if errors.Is(err, storage.ErrExists) {
		// The claim may be our own, by an attempt whose answer was lost. Only the nonce
		// tells: the node's name may be the same in both cases.
		err = s.checkClaim(ctx, c, key, raw)
	}
	if err != nil {
		return Claim{}, fmt.Errorf("claim epoch %d: %w", c.Epoch, err)
	}
	return c, nil
}

// checkClaim returns nil if the claim under key is c.
func (s store) checkClaim(ctx context.Context, c Claim, key string, raw []byte) error {
	if claimUnread(s.mutations) {
		return nil
	}
	got, err := s.get(ctx, key)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %s was there before and is missing", ErrCorrupt, key)
	case err != nil:
		return err
	case bytes.Equal(got, raw):
		return nil
	}
	rival, err := decodeClaim(got, s.shard, c.Epoch)
	switch {
	case err != nil:
		return fmt.Errorf("read claim %s: %w", key, err)
	case rival.Nonce == c.Nonce:
		return fmt.Errorf("%w: %s has this attempt's nonce, but other bytes", ErrForeign, key)
	}
	return fmt.Errorf("%w: node %q was first", ErrFenced, rival.Node)
}

// higherClaim looks for a claim of the given epoch, once, and returns which node made
// it. The existence of the name alone fences; the content is only for the message.
func (s store) higherClaim(ctx context.Context, epoch uint64) (who string, found bool, err error) {
	c, err := readClaim(ctx, s.bucket, s.shard, epoch)
	switch {
	case err == nil:
		return fmt.Sprintf("node %q", c.Node), true, nil
	case errors.Is(err, fs.ErrNotExist):
		return "", false, nil
	case errors.Is(err, ErrCorrupt), errors.Is(err, ErrFormat):
		return fmt.Sprintf("a node that cannot be told (%v)", err), true, nil
	}
	return "", false, err
}
