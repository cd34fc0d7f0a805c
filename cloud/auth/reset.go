package auth

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/weirmq/weir/cloud/admin"
	"github.com/weirmq/weir/storage"
)

// ResetName is the name of the credential that Reset makes.
const ResetName = "reset"

// ResetLabel derives a key from the cluster's CA. With it an owner checks that the
// author of a reset had the bucket's secret.
const ResetLabel = "admin reset"

// Objects of resets: admin/<16 hex digits of the hash>. There are few: the owner that
// has applied one deletes it.
const (
	resetPrefix = "admin/"
	maxResets   = 100
)

// reset is the body of such an object.
type reset struct {
	Hash    []byte    `json:"hash"`
	Created time.Time `json:"created"`
	MAC     []byte    `json:"mac"` // of hash and created
}

func (r reset) sum(key []byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write(r.Hash)
	mac.Write([]byte(r.Created.Format(time.RFC3339)))
	return mac.Sum(nil)
}

// Reset stores a new credential in the bucket. The next node that becomes the owner
// makes it administrator ResetName, in place of an earlier reset. Reset may be called
// while nodes run. Durable on return.
func Reset(ctx context.Context, b storage.Bucket, key []byte, now time.Time) (token string, err error) {
	token = admin.NewToken()
	hash := admin.HashOf(token)
	r := reset{Hash: hash[:], Created: now.UTC().Truncate(time.Second)}
	r.MAC = r.sum(key)
	body, err := json.Marshal(r)
	if err != nil {
		return "", fmt.Errorf("encode a reset: %w", err)
	}
	if err := b.Create(ctx, resetPrefix+hex.EncodeToString(hash[:8]), body); err != nil {
		return "", fmt.Errorf("store the new credential: %w", err)
	}
	return token, nil
}

// TakeResets makes the newest reset in the bucket an administrator, and deletes the
// resets that are done. A crash before a deletion leaves an object that the next owner
// finds to be in the log already. A reset that was not made with the key stays where it
// is, and is logged.
func (a *Auth) TakeResets(ctx context.Context, b storage.Bucket, key []byte, log *slog.Logger) error {
	keys, err := b.List(ctx, resetPrefix, "", maxResets)
	if err != nil {
		return fmt.Errorf("list resets: %w", err)
	}
	var newest *reset
	var done []string
	for _, name := range keys {
		r, err := readReset(ctx, b, name, key)
		switch {
		case errors.Is(err, ErrInvalid):
			log.Warn("a credential in the bucket was not made by weirctl admin reset with this bucket's secret: it is ignored", "object", name, "err", err)
			continue
		case err != nil:
			return err
		}
		done = append(done, name)
		if newest == nil || r.Created.After(newest.Created) {
			newest = r
		}
	}
	if newest == nil {
		return nil
	}
	hash := admin.Hash(newest.Hash)
	if _, err := a.Administrator(hash); err != nil && !a.Ended(hash) {
		if err := a.SetAdmin(ctx, ResetName, admin.Administer, hash, newest.Created); err != nil {
			return fmt.Errorf("take up the credential of weirctl admin reset: %w", err)
		}
		log.Info("administrator added: weirctl admin reset was run on the bucket", "user", ResetName, "created", newest.Created)
	}
	for _, name := range done {
		if err := b.Delete(ctx, name); err != nil {
			return fmt.Errorf("delete the reset that was taken up: %w", err)
		}
	}
	return nil
}

func readReset(ctx context.Context, b storage.Bucket, name string, key []byte) (*reset, error) {
	body, err := b.Get(ctx, name, 0, -1)
	if err != nil {
		return nil, fmt.Errorf("read a reset: %w", err)
	}
	var r reset
	if err := json.Unmarshal(body, &r); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if len(r.Hash) != len(admin.Hash{}) || !hmac.Equal(r.MAC, r.sum(key)) {
		return nil, fmt.Errorf("%w: it was signed with another key", ErrInvalid)
	}
	return &r, nil
}
