package storage

import "context"

type secretKey struct{}

// Secret returns a context for Create and Get of an object that holds a secret: on a
// local disk only its owner can read it. In stores without such permissions it has no
// effect.
func Secret(ctx context.Context) context.Context {
	return context.WithValue(ctx, secretKey{}, true)
}

// IsSecret reports whether ctx comes from Secret.
func IsSecret(ctx context.Context) bool {
	is, _ := ctx.Value(secretKey{}).(bool)
	return is
}
