package storage

import "context"

type paceKey struct{}

// WithPace returns a context for a Create that is in no hurry: a store that can write an
// object in parts calls pace after each with the number of bytes, and pace returns when
// the next part may be written. The store makes sure that a part is written by then, so
// that what others write in between does not wait for all of it. A store that cannot do
// that ignores it.
func WithPace(ctx context.Context, pace func(bytes int)) context.Context {
	return context.WithValue(ctx, paceKey{}, pace)
}

// Pace returns the function given to WithPace, nil if there is none.
func Pace(ctx context.Context) func(bytes int) {
	pace, _ := ctx.Value(paceKey{}).(func(bytes int))
	return pace
}
