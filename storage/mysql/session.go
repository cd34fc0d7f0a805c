package mysql

import (
	"context"
	"crypto/rand"
	"database/sql/driver"
	"fmt"

	"github.com/weirmq/weir/storage"
)

// connector opens the connections that database/sql asks for.
type connector struct {
	driver.Connector          // the library's
	setup            []string // statements that every connection begins with
}

// setup returns the settings of a session, whatever the defaults of the server: an
// INSERT commits by itself, uncommitted data cannot be seen, a value that does not fit
// is an error and is not cut, and COMMIT neither begins another transaction nor ends
// the session.
//
// A statement that waits for a lock, of a row or of the whole server, fails after 10 s,
// with nothing done. That is well before storage.Retry gives up the call, which would
// leave the outcome unknown. And a transaction whose client has died must not hold its
// name for the eight hours that the server would wait.
func setup(galera bool) []string {
	statements := []string{
		"SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE",
		"SET autocommit = 1, completion_type = 0, sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'," +
			" unique_checks = 1, sql_select_limit = 18446744073709551615," +
			" innodb_lock_wait_timeout = 10, lock_wait_timeout = 10, wait_timeout = 60",
	}
	if galera {
		// A node of a Galera cluster reads what it has applied so far. Bits 1
		// and 2: reads, UPDATE and DELETE first wait for all that the cluster
		// had committed when they began.
		statements = append(statements, "SET wsrep_sync_wait = 3")
	}
	return statements
}

// Connect implements driver.Connector.
func (c *connector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	s := newSession(conn)
	for _, statement := range c.setup {
		if _, err := s.ExecContext(ctx, statement, nil); err != nil {
			s.Close()
			return nil, fmt.Errorf("set up connection: %w", err)
		}
	}
	return s, nil
}

// session is one connection. Its methods are for one goroutine at a time.
type session struct {
	// The library's connection, as all that it can do. database/sql looks for these, so
	// a session must not hide them.
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.NamedValueChecker
	driver.Pinger
	driver.QueryerContext
	driver.SessionResetter
	driver.Validator

	insert driver.StmtExecContext // nil until it is needed
}

func newSession(c driver.Conn) *session {
	return &session{
		Conn:               c,
		ConnBeginTx:        c.(driver.ConnBeginTx),
		ConnPrepareContext: c.(driver.ConnPrepareContext),
		ExecerContext:      c.(driver.ExecerContext),
		NamedValueChecker:  c.(driver.NamedValueChecker),
		Pinger:             c.(driver.Pinger),
		QueryerContext:     c.(driver.QueryerContext),
		SessionResetter:    c.(driver.SessionResetter),
		Validator:          c.(driver.Validator),
	}
}

// create is one attempt of Bucket.Create.
func (s *session) create(ctx context.Context, t table, key string, body []byte) error {
	if err := s.prepare(ctx, t); err != nil {
		return refusal(err)
	}
	err := s.store(ctx, key, body)
	if taken(err) {
		return s.settle(ctx, t)
	}
	return err
}

// prepare prepares the INSERT once for every connection. The content is then sent as it
// is; in the text of a statement it would be escaped and parsed, which takes twice the
// time. Preparing it each time would cost a round trip.
func (s *session) prepare(ctx context.Context, t table) error {
	if s.insert != nil {
		return nil
	}
	statement, err := s.PrepareContext(ctx, t.insert())
	if err != nil {
		return err
	}
	s.insert = statement.(driver.StmtExecContext)
	return nil
}

func (s *session) store(ctx context.Context, key string, body []byte) error {
	if len(body) <= partSize {
		return changed(s.storePart(ctx, key, body, 0))
	}
	if err := s.exec(ctx, "START TRANSACTION"); err != nil {
		return refusal(err)
	}
	for part := 0; part*partSize < len(body); part++ {
		err := s.storePart(ctx, key, body, part)
		if taken(err) {
			if err := s.exec(ctx, "ROLLBACK"); err != nil {
				return refusal(err)
			}
		}
		if err != nil {
			return refusal(err) // whatever became of the INSERT, it is never committed
		}
	}
	return changed(s.exec(ctx, "COMMIT"))
}

func (s *session) storePart(ctx context.Context, key string, body []byte, part int) error {
	content := body[part*partSize : min((part+1)*partSize, len(body))]
	if content == nil {
		content = []byte{} // nil would be NULL
	}
	_, err := s.insert.ExecContext(ctx, values([]byte(key), int64(part), int64(len(body)), content))
	return err
}

// settle must succeed before ErrExists is returned. The name is taken by an object that
// is committed, but the sync of the server's log that makes it durable may still be
// under way (see the package comment). The log is synced in order, so a commit of our
// own, of any change, is durable only after it. The change must be a real one: a row
// that gets the value that it has does not change.
func (s *session) settle(ctx context.Context, t table) error {
	if err := s.exec(ctx, t.settle(), []byte(rand.Text())); err != nil {
		return fmt.Errorf("sync the object that has the name: %w", refusal(err))
	}
	return storage.ErrExists
}

// delete is one attempt of Bucket.Delete. If there is nothing to delete, another
// session may have deleted it, whose commit may not be durable yet.
func (s *session) delete(ctx context.Context, t table, keys []string) error {
	names := make([]driver.Value, len(keys))
	for i, key := range keys {
		names[i] = []byte(key)
	}
	result, err := s.ExecContext(ctx, t.delete(len(keys)), values(names...))
	if err != nil {
		return changed(err)
	}
	if rows, err := result.RowsAffected(); err != nil || rows > 0 {
		return err
	}
	return refusal(s.exec(ctx, t.settle(), []byte(rand.Text())))
}

func (s *session) exec(ctx context.Context, statement string, args ...driver.Value) error {
	_, err := s.ExecContext(ctx, statement, values(args...))
	return err
}

func values(args ...driver.Value) []driver.NamedValue {
	named := make([]driver.NamedValue, len(args))
	for i, arg := range args {
		named[i] = driver.NamedValue{Ordinal: i + 1, Value: arg}
	}
	return named
}
