package storage

import (
	"context"
	"strings"
)

// Prefix is the part of b below prefix, which is a valid key (see CheckKey):
// the object "k" of the result is the object prefix + "/k" of b. The longest
// key of the result is shorter by that much.
func Prefix(b Bucket, prefix string) Bucket {
	return &prefixed{b, prefix + "/"}
}

type prefixed struct {
	below  Bucket
	prefix string // with the slash
}

func (p *prefixed) Create(ctx context.Context, key string, body []byte) error {
	if err := CheckKey(key); err != nil {
		return err
	}
	return p.below.Create(ctx, p.prefix+key, body)
}

func (p *prefixed) Get(ctx context.Context, key string, off, n int64) ([]byte, error) {
	if err := CheckKey(key); err != nil {
		return nil, err
	}
	return p.below.Get(ctx, p.prefix+key, off, n)
}

func (p *prefixed) List(ctx context.Context, prefix, after string, max int) ([]string, error) {
	if err := CheckList(prefix, after); err != nil {
		return nil, err
	}
	keys, err := p.below.List(ctx, p.prefix+prefix, p.prefix+after, max)
	if err != nil {
		return nil, err
	}
	for i, key := range keys {
		keys[i] = strings.TrimPrefix(key, p.prefix)
	}
	return keys, nil
}

func (p *prefixed) Delete(ctx context.Context, keys ...string) error {
	full := make([]string, len(keys))
	for i, key := range keys {
		if err := CheckKey(key); err != nil {
			return err
		}
		full[i] = p.prefix + key
	}
	return p.below.Delete(ctx, full...)
}

// Traits are those of the bucket below.
func (p *prefixed) Traits() Traits { return traits(p.below).below(p.prefix) }

func (p *prefixed) Close() error { return Close(p.below) }

func (p *prefixed) Unwrap() Bucket { return p.below }
