package fleet

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog/identity"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/sync/join"
)

// AuthorityKey is the object that holds the cluster's CA. It is made once.
const AuthorityKey = "authority"

// Authority returns the cluster's CA, and makes one if the bucket is new. If several
// nodes try at once, all get the same. The secret wraps its key; nil leaves it
// unwrapped, for a bucket that only its owner can read. Durable on return.
//
// Errors: storage.ErrMissing if there is no CA in a bucket in which a log has begun,
// because a new one would shut out every gateway; join.ErrCorrupt, join.ErrSecret, and
// those of the bucket.
func Authority(ctx context.Context, b storage.Bucket, secret []byte, now time.Time) (*join.CA, error) {
	ca, err := readAuthority(ctx, b, secret)
	if !errors.Is(err, fs.ErrNotExist) {
		return ca, err
	}
	began, err := identity.Began(ctx, b)
	if err != nil {
		return nil, err
	}
	if began { // perhaps by a faster node, which has then made a CA before
		if ca, err = readAuthority(ctx, b, secret); errors.Is(err, fs.ErrNotExist) {
			err = missing()
		}
		return ca, err
	}
	if ca, err = join.NewCA(now); err != nil {
		return nil, fmt.Errorf("create the CA: %w", err)
	}
	body, err := ca.Marshal(secret)
	if err != nil {
		return nil, fmt.Errorf("wrap the CA: %w", err)
	}
	switch err := storage.CreateOwn(storage.Secret(ctx), b, AuthorityKey, body); {
	case err == nil, errors.Is(err, storage.ErrExists):
		return readAuthority(ctx, b, secret) // ours, or that of a faster node
	default:
		return nil, fmt.Errorf("store the CA: %w", err)
	}
}

func readAuthority(ctx context.Context, b storage.Bucket, secret []byte) (*join.CA, error) {
	body, err := b.Get(storage.Secret(ctx), AuthorityKey, 0, -1)
	if err != nil {
		return nil, fmt.Errorf("read the CA: %w", err)
	}
	ca, err := join.UnmarshalCA(body, secret)
	if err != nil {
		return nil, fmt.Errorf("unwrap the CA in the object %s: %w", AuthorityKey, err)
	}
	return ca, nil
}

// ReplaceAuthority replaces a CA that is missing or damaged. All gateways must join
// again.
func ReplaceAuthority(ctx context.Context, b storage.Bucket, secret []byte, now time.Time) error {
	ca, err := join.NewCA(now)
	if err != nil {
		return fmt.Errorf("create the CA: %w", err)
	}
	body, err := ca.Marshal(secret)
	if err != nil {
		return fmt.Errorf("wrap the CA: %w", err)
	}
	if err := b.Delete(ctx, AuthorityKey); err != nil {
		return fmt.Errorf("delete the CA: %w", err)
	}
	if err := storage.CreateOwn(storage.Secret(ctx), b, AuthorityKey, body); err != nil {
		return fmt.Errorf("store the CA: %w", err)
	}
	return nil
}

func missing() error {
	return journal.Missing(AuthorityKey, "a log has begun in this bucket, and gateways may have certificates of its CA")
}

// CheckAuthority returns the error that would keep a node from reading the CA, as far
// as it can be found without the secret. It returns nil for a bucket in which no log
// has begun. Errors are those of Authority.
func CheckAuthority(ctx context.Context, b storage.Bucket) error {
	_, err := readAuthority(ctx, b, nil)
	switch {
	case errors.Is(err, join.ErrSecret): // all but the key was read, and is whole
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	began, err := identity.Began(ctx, b)
	if err == nil && began {
		err = missing()
	}
	return err
}

// ReadAuthority returns the CA of a cluster. The error is fs.ErrNotExist if the bucket
// has none.
func ReadAuthority(ctx context.Context, b storage.Bucket, secret []byte) (*join.CA, error) {
	return readAuthority(ctx, b, secret)
}
