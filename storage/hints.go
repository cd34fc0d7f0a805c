package storage

import "context"

// MaxObject is the longest body in bytes that every bucket takes.
const MaxObject = 32 << 20

// hinted is a bucket with things to say that are no part of the contract.
type hinted interface {
	Warnings(ctx context.Context) []string
}

// sized is a bucket that is slow with big objects.
type sized interface {
	PreferredSize() int
}

// billed is a bucket whose store sends a bill for each request.
type billed interface {
	Billed() bool
}

// leveled is a bucket that keeps files of its own beside the objects, whose form
// depends on the format level.
type leveled interface {
	SetLevel(level int)
}

// mindful is a bucket that knows for a while what was deleted.
type mindful interface {
	Deleted(ctx context.Context, prefix, from string) (string, error)
}

// inner finds the bucket below all decorators that has what T asks for.
func inner[T any](b Bucket) (found T, ok bool) {
	for {
		if found, ok = b.(T); ok {
			return found, true
		}
		d, decorated := b.(interface{ Unwrap() Bucket })
		if !decorated {
			return found, false
		}
		b = d.Unwrap()
	}
}

// Warnings returns a sentence for each setting of the store behind b under which
// it can lose an object that it acknowledged, and for what it does not let us see.
func Warnings(ctx context.Context, b Bucket) []string {
	if h, ok := inner[hinted](b); ok {
		return h.Warnings(ctx)
	}
	return nil
}

// PreferredSize returns the size in bytes above which the store behind b takes
// objects more slowly than several smaller ones, or 0 if there is none below
// MaxObject.
func PreferredSize(b Bucket) int {
	if s, ok := inner[sized](b); ok {
		return s.PreferredSize()
	}
	return 0
}

// Billed reports whether each request to the store behind b costs money: few large
// objects are then worth a wait.
func Billed(b Bucket) bool {
	p, ok := inner[billed](b)
	return ok && p.Billed()
}

// SetLevel tells the store behind b the format level of what is kept in it (see
// commitlog.Cluster). Until it is told it writes what every version can read.
func SetLevel(b Bucket, level int) {
	if l, ok := inner[leveled](b); ok {
		l.SetLevel(level)
	}
}

// Deleted returns a key of which the store behind b knows that there was an object and
// that it was deleted: one that begins with prefix and is from or greater. Most stores
// forget that at once: "" says nothing.
func Deleted(ctx context.Context, b Bucket, prefix, from string) (string, error) {
	if m, ok := inner[mindful](b); ok {
		return m.Deleted(ctx, prefix, from)
	}
	return "", nil
}
