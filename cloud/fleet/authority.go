package fleet

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/sync/join"
)

// authorityKey is the object that holds the cluster's CA.
const authorityKey = "authority"

// Authority returns the cluster's CA, and makes one when the bucket has none
// yet. Of several nodes that try at once, all get the same. The secret wraps
// its key; nil leaves it in the open, for a bucket that only its owner can
// read. Durable on return.
func Authority(ctx context.Context, b storage.Bucket, secret []byte, now time.Time) (*join.CA, error) {
	ca, err := readAuthority(ctx, b, secret)
	if !errors.Is(err, fs.ErrNotExist) {
		return ca, err
	}
	if ca, err = join.NewCA(now); err != nil {
		return nil, fmt.Errorf("create the CA: %w", err)
	}
	body, err := ca.Marshal(secret)
	if err != nil {
		return nil, fmt.Errorf("wrap the CA: %w", err)
	}
	switch err := b.Create(storage.Secret(ctx), authorityKey, body); {
	case err == nil, errors.Is(err, storage.ErrExists):
		return readAuthority(ctx, b, secret) // ours, or that of a faster node
	default:
		return nil, fmt.Errorf("store the CA: %w", err)
	}
}

func readAuthority(ctx context.Context, b storage.Bucket, secret []byte) (*join.CA, error) {
	body, err := b.Get(storage.Secret(ctx), authorityKey, 0, -1)
	if err != nil {
		return nil, fmt.Errorf("read the CA: %w", err)
	}
	ca, err := join.UnmarshalCA(body, secret)
	if err != nil {
		return nil, fmt.Errorf("unwrap the CA: %w", err)
	}
	return ca, nil
}
