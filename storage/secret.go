package storage

import "context"

type secretKey struct{}

// Secret returns a context for Create and Get of an object that holds a secret: on
// a local disk only its owner can read it. Where the store has no such
// permissions it changes nothing.
func Secret(ctx context.Context) context.Context {
	return context.WithValue(ctx, secretKey{}, true)
}

// IsSecret reports whether ctx is one of Secret.
func IsSecret(ctx context.Context) bool {
	is, _ := ctx.Value(secretKey{}).(bool)
	return is
}
