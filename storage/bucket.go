// Package storage defines Bucket, a set of named, immutable objects. A bucket is the
// only place where Weir keeps state.
//
// A bucket gives four operations and one promise: an object appears under its
// name at once, whole and durable, or not at all, and of several writers who
// want the same name exactly one gets it. Single writers, fencing and failover
// are built on that promise alone.
//
// The concrete buckets live in the packages below this one, storage/open turns
// a URL into one of them, and storage/storagetest holds the suite that every
// one of them passes on a real server.
package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
)

// MaxKey is the longest key in bytes that every bucket takes.
const MaxKey = 512

// Errors that a Bucket returns, to be tested with errors.Is. A missing object
// is reported as io/fs.ErrNotExist.
var (
	// ErrExists: Create found the name taken. The object there may be our
	// own, by an earlier Create whose answer was lost. A caller that needs
	// to know reads it.
	ErrExists = errors.New("object exists")

	// ErrUnknown: the operation may have happened, may still happen, or may
	// never happen (time-out, connection lost, cancelled while under way).
	// Every other error of Create and Delete means that nothing happened and
	// nothing will.
	ErrUnknown = errors.New("outcome unknown")

	// ErrKey: the key is not one that every bucket can hold (see CheckKey).
	// All methods return it before anything happens.
	ErrKey = errors.New("invalid key")

	// ErrDamaged: the store does not hold what a bucket wrote there: a part is missing,
	// or its bytes were changed. Nothing is known about objects that may have been in
	// it. Repeating the call does not help until a person repairs the store. The error
	// names what is damaged.
	ErrDamaged = errors.New("damaged")

	// ErrMissing: an object is not there, and others show that it must be. No method of
	// a Bucket returns it: it is for packages that keep a log in one. The error names
	// the object and what shows that it is missing.
	ErrMissing = errors.New("object is missing")
)

// Bucket is a set of immutable objects, addressed by key. Methods may be
// called from many goroutines at once, and several processes may use the same
// bucket at the same time.
//
// Get and List see every Create that returned before they started, in any
// process, on every page of a listing. There is no overwrite.
//
// No key is the folder of another: a program that uses "a/b" never uses "a". Many
// stores cannot hold both, and may refuse the second with any error or take it.
//
// A Bucket that holds connections or files also implements io.Closer.
type Bucket interface {
	// Create stores body under key. On nil the object is complete and durable, and
	// every later Get and List in any process sees it. No attempt is still under way:
	// once deleted, the object does not come back. The bucket neither keeps nor changes
	// body after Create has returned.
	//
	// Errors: ErrExists when the name is taken, by an object that is complete
	// and durable too; ErrUnknown when it is not known whether the object was
	// or will be stored; any other error means that nothing happened.
	Create(ctx context.Context, key string, body []byte) error

	// Get returns n bytes of the object from offset off, or all bytes from
	// off to the end if n < 0. A range that reaches beyond the end is cut at
	// the end; one that begins at or beyond the end gives an empty slice and
	// no error. The result belongs to the caller.
	//
	// Errors: fs.ErrNotExist when there is no such object, fs.ErrInvalid for
	// a negative off.
	Get(ctx context.Context, key string, off, n int64) ([]byte, error)

	// List returns up to max keys (max > 0) that begin with prefix and are greater than
	// after, in byte order of the whole key. Fewer than max keys mean that there are no
	// more. prefix and after are each empty or the beginning of a valid key, which need
	// not exist and need not end at a slash. A key that is created or deleted while
	// List runs may be in the result or not.
	List(ctx context.Context, prefix, after string, max int) ([]string, error)

	// Delete removes the objects. Keys that do not exist are no error. After nil, all
	// of them are gone. After ErrUnknown, any of them may vanish at any later time.
	// After another error some may have been removed, and the rest stays.
	Delete(ctx context.Context, keys ...string) error
}

// CheckKey returns an error unless every bucket can hold key: 1 to MaxKey bytes of a-z
// A-Z 0-9 . _ - = / with no empty element, no element that begins with a dot, and no
// element longer than 200 bytes. The error wraps ErrKey.
func CheckKey(key string) error {
	if key == "" || len(key) > MaxKey {
		return fmt.Errorf("%w: length %d is not in 1..%d", ErrKey, len(key), MaxKey)
	}
	for element := range strings.SplitSeq(key, "/") {
		if element == "" || element[0] == '.' || len(element) > 200 {
			return fmt.Errorf("%w %q: element %q is empty, hidden or too long", ErrKey, key, element)
		}
		for _, c := range []byte(element) {
			if !keyByte(c) {
				return fmt.Errorf("%w %q: byte %q is not allowed", ErrKey, key, c)
			}
		}
	}
	return nil
}

// CheckKeys returns the error of the first key that CheckKey refuses, or that of ctx if
// it has ended. Every bucket calls it first, or CheckGet.
func CheckKeys(ctx context.Context, keys ...string) error {
	for _, key := range keys {
		if err := CheckKey(key); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// CheckGet returns an error unless key and off may be passed to Get, or if ctx has ended.
// The error wraps ErrKey or fs.ErrInvalid. It is for buckets that do not use Range.
func CheckGet(ctx context.Context, key string, off int64) error {
	if err := CheckKeys(ctx, key); err != nil {
		return err
	}
	if off < 0 {
		return fmt.Errorf("%s: %w: negative offset %d", key, fs.ErrInvalid, off)
	}
	return nil
}

// CheckList returns an error unless prefix and after may be passed to List: each is
// empty or the beginning of a key that CheckKey accepts. The error wraps ErrKey.
func CheckList(prefix, after string) error {
	if err := checkPrefix(prefix); err != nil {
		return fmt.Errorf("prefix: %w", err)
	}
	if err := checkPrefix(after); err != nil {
		return fmt.Errorf("after: %w", err)
	}
	return nil
}

func checkPrefix(prefix string) error {
	if prefix == "" {
		return nil
	}
	return CheckKey(strings.TrimSuffix(prefix, "/"))
}

func keyByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
		c == '.' || c == '_' || c == '-' || c == '='
}

// Close closes b if it is an io.Closer. The decorators of this package pass Close on to
// the bucket below.
func Close(b Bucket) error {
	if c, ok := b.(io.Closer); ok {
		return c.Close()
	}
	return nil
}
