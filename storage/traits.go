package storage

import (
	"context"
	"strings"
)

// MaxObject is the longest body in bytes that every bucket takes.
const MaxObject = 32 << 20

// Traits are what a bucket reports about its store, and what it is told, beside the
// contract. A bucket with traits has a method Traits. The zero value has none.
type Traits struct {
	Warnings      func(ctx context.Context) []string                                     // see Warnings
	PreferredSize int                                                                    // see PreferredSize
	Billed        bool                                                                   // see Billed
	Sequences     func(prefix string)                                                    // see Sequences
	SetLevel      func(level int)                                                        // see SetLevel
	Deleted       func(ctx context.Context, prefix, from string) (key string, err error) // see Deleted
	Verify        func(ctx context.Context, prefix string) error                         // see Verify
}

// traits returns the traits of the bucket below all decorators.
func traits(b Bucket) Traits {
	switch b := b.(type) {
	case interface{ Traits() Traits }:
		return b.Traits()
	case interface{ Unwrap() Bucket }:
		return traits(b.Unwrap())
	}
	return Traits{}
}

// below returns the traits as they are seen through a prefix (with its slash).
func (t Traits) below(prefix string) Traits {
	if deleted := t.Deleted; deleted != nil {
		t.Deleted = func(ctx context.Context, p, from string) (string, error) {
			key, err := deleted(ctx, prefix+p, prefix+from)
			return strings.TrimPrefix(key, prefix), err
		}
	}
	if sequences := t.Sequences; sequences != nil {
		t.Sequences = func(p string) { sequences(prefix + p) }
	}
	if verify := t.Verify; verify != nil {
		t.Verify = func(ctx context.Context, p string) error { return verify(ctx, prefix+p) }
	}
	return t
}

// Warnings returns a sentence for each setting of the store behind b under which it can
// lose an object that it acknowledged, and for each setting that cannot be read.
func Warnings(ctx context.Context, b Bucket) []string {
	if warnings := traits(b).Warnings; warnings != nil {
		return warnings(ctx)
	}
	return nil
}

// PreferredSize returns the size in bytes above which the store behind b takes
// objects more slowly than several smaller ones, or 0 if there is none below
// MaxObject.
func PreferredSize(b Bucket) int { return traits(b).PreferredSize }

// Billed reports whether each request to the store behind b costs money. If so, it pays
// to wait and create few large objects.
func Billed(b Bucket) bool { return traits(b).Billed }

// Sequences tells the store behind b that the objects under prefix, which ends with a
// slash, come in sequences: prefix + E + "/" + N, both numbers of 20 digits. Those of
// one E are created in the order of N, mostly by one process, and deleted from the
// oldest on. A store may keep many of them in one file. A process that creates such
// objects must call Sequences first. A process that only reads or deletes them need
// not.
func Sequences(b Bucket, prefix string) {
	if sequences := traits(b).Sequences; sequences != nil {
		sequences(prefix)
	}
}

// SetLevel tells the store behind b the format level of what is kept in it (see
// identity.Cluster). Before that it writes what every version can read.
func SetLevel(b Bucket, level int) {
	if set := traits(b).SetLevel; set != nil {
		set(level)
	}
}

// Deleted returns a key, if the store behind b knows that its object existed and was
// deleted. The key begins with prefix and is not less than from. Most stores do not
// remember deletions, so "" means nothing.
func Deleted(ctx context.Context, b Bucket, prefix, from string) (string, error) {
	if deleted := traits(b).Deleted; deleted != nil {
		return deleted(ctx, prefix, from)
	}
	return "", nil
}

// Verify proves what the store behind b keeps twice about the objects under prefix,
// which ends with a slash, and of which Get and List read only one copy. It is for a
// check of all that is at rest, and takes as long. The error is ErrDamaged for what is
// damaged, although every object can still be read.
func Verify(ctx context.Context, b Bucket, prefix string) error {
	if verify := traits(b).Verify; verify != nil {
		return verify(ctx, prefix)
	}
	return nil
}
