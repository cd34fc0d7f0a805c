// Package mysql is a bucket in a MySQL or MariaDB database. An object is a row
// of an InnoDB table, or a row for every half MiB of a large one, and
// create-if-absent is an INSERT that the primary key refuses.
//
// The table is all there is, so a backup of it is a backup of the bucket:
//
//	name     VARBINARY(512)   the key; bytes, so that A is not a and order is byte order
//	part     INT UNSIGNED     0 for the first half MiB of the content, 1 for the next …
//	size     BIGINT UNSIGNED  of the whole object, in every part
//	content  LONGBLOB         of the part
//
// A row with an empty name is not an object: see session.settle.
//
// InnoDB shows a commit to others before it has synced its log (with a binary log it
// syncs first). So during that sync a Get can see an object that a crash of the server
// takes back. No caller was told that it is durable: Create returns after the sync, and
// ErrExists is returned only for an object whose sync is done. Every later Create and
// every ErrExists makes durable what could be seen before it.
package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/pause"
)

// Bucket is a storage.Bucket in a table.
type Bucket struct {
	db    *sql.DB
	table table
}

var _ storage.Bucket = (*Bucket)(nil)

const (
	// partSize is how much content a row holds. It is part of the format. At
	// 64 KiB to 1 MiB an object of 8 MiB takes the same time to write; half a
	// MiB is far below any max_allowed_packet, and a short range of a large
	// object makes the server read little more than that.
	partSize = 512 << 10

	// preferredSize is the size in bytes beyond which larger objects gain nothing. On a
	// machine with two cores, larger objects were written at the same rate, and each
	// took longer: with one writer 4 ms at 256 KiB and 13 ms at 1 MiB, with eight
	// writers 18 and 68 ms. Up to half a MiB an object is also a single statement.
	preferredSize = 256 << 10

	// deadlockTries is how often a write is started that the server rolls back to break
	// a deadlock.
	deadlockTries = 6

	// deleteKeys is how many keys go into one statement. From a thousand on, MariaDB
	// turns a list into a join with a temporary table.
	deleteKeys = 500
)

// Create implements storage.Bucket: one INSERT that commits by itself, in one
// round trip. An object of more than half a MiB is a transaction of several.
//
// Of several writers of a name all but the first wait until its transaction has ended.
// A transaction whose client has died ends when the server sees the connection break,
// or after a minute of silence.
func (b *Bucket) Create(ctx context.Context, key string, body []byte) error {
	if err := storage.CheckKeys(ctx, key); err != nil {
		return fmt.Errorf("create: %w", err)
	}
	if err := b.write(ctx, func(s *session) error { return s.create(ctx, b.table, key, body) }); err != nil {
		return fmt.Errorf("create %s: %w", key, err)
	}
	return nil
}

// write gives op a connection of its own. database/sql repeats a statement by itself if
// it believes that a connection was bad from the start; it never repeats what op does
// with the session. An error before op begins means that nothing was sent.
func (b *Bucket) write(ctx context.Context, op func(*session) error) error {
	for try := 1; ; try++ {
		err := b.once(ctx, op)
		if !deadlock(err) || try == deadlockTries {
			return err
		}
		if err := pause.For(ctx, rand.N(time.Millisecond<<try)); err != nil {
			return err
		}
	}
}

func (b *Bucket) once(ctx context.Context, op func(*session) error) error {
	conn, err := b.db.Conn(ctx)
	if err != nil {
		return refusal(err)
	}
	defer conn.Close()
	return conn.Raw(func(c any) error {
		s := c.(*session)
		err := op(s)
		if err != nil && !errors.Is(err, storage.ErrExists) {
			// The state of the session is not known, and the next START TRANSACTION in
			// it would commit what is open. When the session ends, the server rolls
			// that back.
			s.Close()
		}
		return err
	})
}

// Get implements storage.Bucket. It is one statement, so all parts are from one
// moment, and only those that hold something of the range are read.
func (b *Bucket) Get(ctx context.Context, key string, off, n int64) ([]byte, error) {
	if err := storage.CheckGet(ctx, key, off); err != nil {
		return nil, fmt.Errorf("get: %w", err)
	}
	body, err := b.get(ctx, key, off, n)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", key, refusal(err))
	}
	return body, nil
}

func (b *Bucket) get(ctx context.Context, key string, off, n int64) ([]byte, error) {
	if n < 0 || n > math.MaxInt64-off {
		n = math.MaxInt64 - off
	}
	first, last, skip, take := off/partSize, (off+n-1)/partSize, off%partSize, int64(partSize)
	if first == last {
		take = n
	}
	if n == 0 {
		last = -1 // no part at all: only whether the object exists
	}
	name := []byte(key)
	rows, err := b.db.QueryContext(ctx, b.table.get(), name, first, skip, take, name, first, last)
	if err != nil {
		return nil, err
	}
	defer rows.Close()

	var body []byte
	got := int64(0)
	for rows.Next() {
		var part, size int64
		var content sql.RawBytes
		if err := rows.Scan(&part, &size, &content); err != nil {
			return nil, err
		}
		if body == nil {
			if off, n, err = storage.Range(size, off, n); err != nil {
				return nil, err
			}
			body = make([]byte, n)
		}
		if at := part*partSize - off; at < n {
			got += int64(copy(body[max(at, 0):], content))
		}
	}
	switch err := rows.Err(); {
	case err != nil:
		return nil, err
	case body == nil:
		return nil, fs.ErrNotExist
	case got != n:
		return nil, fmt.Errorf("%w: the table has %d of its %d bytes", storage.ErrDamaged, got, n)
	}
	return body, nil
}

// List implements storage.Bucket. It reads an index that holds names alone.
func (b *Bucket) List(ctx context.Context, prefix, after string, max int) ([]string, error) {
	if err := storage.CheckList(prefix, after); err != nil {
		return nil, fmt.Errorf("list: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("list %q: %w", prefix, err)
	}
	keys, err := b.list(ctx, prefix, after, max)
	if err != nil {
		return nil, fmt.Errorf("list %q: %w", prefix, refusal(err))
	}
	return keys, nil
}

func (b *Bucket) list(ctx context.Context, prefix, after string, max int) ([]string, error) {
	from, to := bounds(prefix, after)
	rows, err := b.db.QueryContext(ctx, b.table.list(), from, to, max)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var keys []string
	for rows.Next() {
		var key string
		if err := rows.Scan(&key); err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, rows.Err()
}

// bounds returns the range from ≤ name < to of the names that begin with prefix and are
// greater than after. With one bound at each end, the server reads one range of the
// index.
func bounds(prefix, after string) (from, to []byte) {
	from, to = []byte(prefix), []byte{0xff} // no key has this byte
	if after >= prefix {
		from = append([]byte(after), 0)
	}
	if prefix != "" {
		to = []byte(prefix)
		to[len(to)-1]++
	}
	return from, to
}

// Delete implements storage.Bucket, with 500 keys per statement, each of which is
// executed as a whole or not at all.
func (b *Bucket) Delete(ctx context.Context, keys ...string) error {
	if err := storage.CheckKeys(ctx, keys...); err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	keys = slices.Sorted(slices.Values(keys)) // two calls that delete the same keys do not deadlock
	for some := range slices.Chunk(keys, deleteKeys) {
		if err := b.write(ctx, func(s *session) error { return s.delete(ctx, b.table, some) }); err != nil {
			return fmt.Errorf("delete %d keys: %w", len(keys), err)
		}
	}
	return nil
}

// Traits returns the Warnings and the preferred size of objects.
func (b *Bucket) Traits() storage.Traits {
	return storage.Traits{Warnings: b.Warnings, PreferredSize: preferredSize}
}

// Close ends all connections, after the calls that are under way.
func (b *Bucket) Close() error { return b.db.Close() }
