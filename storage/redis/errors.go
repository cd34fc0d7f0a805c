package redis

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/redis/go-redis/v9"

	"github.com/weirmq/weir/storage"
)

var (
	// errLost: Redis evicted the object, or a person removed it. It must not be
	// reported as one that never existed.
	errLost = fmt.Errorf("%w: the server lost this object: its key is listed, its content is gone", storage.ErrDamaged)

	// errAnswer: the server does not follow the protocol.
	errAnswer = errors.New("the answer of the server is not one of Redis")
)

// changed is the error of a request that changes something.
func changed(nothing bool, err error) error {
	if !nothing {
		return fmt.Errorf("%w: %w", storage.ErrUnknown, err)
	}
	return read(err)
}

// read is the error of a request that reads.
func read(err error) error {
	if redis.IsPermissionError(err) || redis.IsAuthError(err) {
		return fmt.Errorf("%w: %w", fs.ErrPermission, err)
	}
	return err
}

// refused reports whether err is an answer with which Redis refuses a command or a
// script because of its own state, before anything happened.
func refused(err error) bool {
	return slices.ContainsFunc([]string{
		"READONLY ", "MISCONF ", "NOREPLICAS ", "LOADING ", "MASTERDOWN ", "BUSY ", "NOAUTH ",
		"MOVED ", "ASK ", "TRYAGAIN ", "CLUSTERDOWN ",
	}, func(code string) bool { return redis.HasErrorPrefix(err, code) })
}
