package mysql

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/mysql/mysqltest"
	"github.com/weirmq/weir/storage/storagetest"
)

// outcomes, as the caller of a bucket tells them apart.
const (
	done    = "done"
	exists  = "exists"
	nothing = "nothing happened"
	denied  = "nothing happened, not permitted"
	unknown = "unknown"
)

func outcome(err error) string {
	switch {
	case err == nil:
		return done
	case errors.Is(err, storage.ErrUnknown):
		return unknown
	case errors.Is(err, storage.ErrExists):
		return exists
	case errors.Is(err, fs.ErrPermission):
		return denied
	}
	return nothing
}

func all(n int, do action) []action {
	list := make([]action, n)
	for i := range list {
		list[i] = do
	}
	return list
}

// TestOutcomes: what the caller hears for everything that can go wrong.
func TestOutcomes(t *testing.T) {
	server := mysqltest.Start(t)
	for name, test := range map[string]func(*testing.T, *mysqltest.Server){
		"Create": testCreateOutcomes, "Settle": testSettleOutcomes, "Delete": testDeleteOutcomes, "Read": testReadFails,
		"Cancelled": testCancelled, "ConnectionLost": testConnectionLost, "LockTimeout": testLockTimeout,
	} {
		t.Run(name, func(t *testing.T) { test(t, server) })
	}
}

// createCase is what happens to a Create, and what comes of it.
type createCase struct {
	name   string
	rule   rule
	want   string
	stored bool
	sent   int // how often the statement that commits was sent
}

// smallCases are for an object of one row. EXECUTE, the INSERT, commits.
func smallCases() []createCase {
	return []createCase{
		{"small", rule{}, done, true, 1},
		{"connection lost before", rule{"EXECUTE", []action{loseBefore}}, unknown, false, 1},
		{"connection lost within", rule{"EXECUTE", []action{loseHalf}}, unknown, false, 1},
		{"connection lost after", rule{"EXECUTE", []action{loseAfter}}, unknown, true, 1},
		{"prepare lost", rule{"PREPARE", []action{loseAfter}}, nothing, false, 0},
		{"prepare refused", rule{"PREPARE", []action{refuse + 1142}}, denied, false, 0},
		{"set-up lost", rule{"SET autocommit", []action{loseAfter}}, nothing, false, 0},

		{"1062", rule{"EXECUTE", []action{refuse + 1062}}, exists, false, 1},
		{"1213 once", rule{"EXECUTE", []action{refuse + 1213}}, done, true, 2},
		{"1213 then lost", rule{"EXECUTE", []action{refuse + 1213, loseAfter}}, unknown, true, 2},
		{"1213 for good", rule{"EXECUTE", all(20, refuse+1213)}, nothing, false, deadlockTries},
		{"1205 lock wait", rule{"EXECUTE", []action{refuse + 1205}}, nothing, false, 1},
		{"1142 denied", rule{"EXECUTE", []action{refuse + 1142}}, denied, false, 1},
		{"1290 read-only", rule{"EXECUTE", []action{refuse + 1290}}, nothing, false, 1},
		{"1836 read-only", rule{"EXECUTE", []action{refuse + 1836}}, nothing, false, 1},
		{"1114 full", rule{"EXECUTE", []action{refuse + 1114}}, nothing, false, 1},
		{"1153 too long", rule{"EXECUTE", []action{refuse + 1153}}, nothing, false, 1},
		{"1243 statement gone", rule{"EXECUTE", []action{refuse + 1243}}, nothing, false, 1},
		{"1026 binary log", rule{"EXECUTE", []action{refuse + 1026}}, unknown, false, 1},
		{"1030 engine", rule{"EXECUTE", []action{refuse + 1030}}, unknown, false, 1},
		{"1053 shutdown", rule{"EXECUTE", []action{refuse + 1053}}, unknown, false, 1},
		{"1105 anything", rule{"EXECUTE", []action{refuse + 1105}}, unknown, false, 1},
		{"1180 commit", rule{"EXECUTE", []action{refuse + 1180}}, unknown, false, 1},
		{"1317 interrupted", rule{"EXECUTE", []action{refuse + 1317}}, unknown, false, 1},
		{"1927 killed", rule{"EXECUTE", []action{refuse + 1927}}, unknown, false, 1},
		{"1969 out of time", rule{"EXECUTE", []action{refuse + 1969}}, unknown, false, 1},
		{"3024 out of time", rule{"EXECUTE", []action{refuse + 3024}}, unknown, false, 1},
		{"3100 replication", rule{"EXECUTE", []action{refuse + 3100}}, unknown, false, 1},
	}
}

// largeCases are for an object of three rows. COMMIT commits.
func largeCases() []createCase {
	return []createCase{
		{"large", rule{}, done, true, 1},
		{"begin lost", rule{"START", []action{loseAfter}}, nothing, false, 0},
		{"first part lost", rule{"EXECUTE", []action{loseAfter}}, nothing, false, 0},
		{"last part lost", rule{"EXECUTE", []action{pass, pass, loseAfter}}, nothing, false, 0},
		{"part interrupted", rule{"EXECUTE", []action{pass, refuse + 1317}}, nothing, false, 0},
		{"part full", rule{"EXECUTE", []action{pass, refuse + 1114}}, nothing, false, 0},
		{"part 1062", rule{"EXECUTE", []action{refuse + 1062}}, exists, false, 0},
		{"part 1213 once", rule{"EXECUTE", []action{pass, refuse + 1213}}, done, true, 1},
		{"commit lost before", rule{"COMMIT", []action{loseBefore}}, unknown, false, 1},
		{"commit lost after", rule{"COMMIT", []action{loseAfter}}, unknown, true, 1},
		{"commit 1180", rule{"COMMIT", []action{refuse + 1180}}, unknown, false, 1},
		{"commit 1290", rule{"COMMIT", []action{refuse + 1290}}, nothing, false, 1},
		{"commit 1213 once", rule{"COMMIT", []action{refuse + 1213}}, done, true, 2},
	}
}

// testCreateOutcomes: which outcome the caller hears for everything that can
// go wrong, what is in the table then, and that the statement which may have
// stored the object was sent once.
func testCreateOutcomes(t *testing.T, server *mysqltest.Server) {
	url := server.NewDatabase(t)
	direct := mustOpen(t, url)
	p := newProxy(t, server.Address)
	run := func(test createCase, size int, commits string) {
		t.Run(test.name, func(t *testing.T) {
			p.script()
			b := mustOpen(t, p.url(url))
			if strings.HasPrefix(test.rule.command, "SET") {
				b.db.SetMaxIdleConns(-1) // Create begins with a new connection
			}
			p.script(test.rule)
			body := storagetest.Content("key", size)
			err := b.Create(t.Context(), "key", body)
			if got := outcome(err); got != test.want {
				t.Errorf("Create: %v: %s, want %s", err, got, test.want)
			}
			if n := p.count(commits); n != test.sent {
				t.Errorf("%s was sent %d times, want %d", commits, n, test.sent)
			}
			// Locks of what the server has yet to roll back hold this up.
			if err := direct.Create(t.Context(), "key", body); (err == nil) == test.stored {
				t.Errorf("Create of another client: %v, stored: %v", err, test.stored)
			}
			got, err := direct.Get(t.Context(), "key", 0, -1)
			if err != nil || string(got) != string(body) {
				t.Errorf("Get: %d bytes, %v", len(got), err)
			}
			if err := direct.Delete(t.Context(), "key"); err != nil {
				t.Error(err)
			}
		})
	}
	for _, test := range smallCases() {
		run(test, 100, "EXECUTE")
	}
	for _, test := range largeCases() {
		run(test, 2*partSize+100, "COMMIT")
	}
}

// testSettleOutcomes: without proof that the object which has the name is
// durable, there is no ErrExists.
func testSettleOutcomes(t *testing.T, server *mysqltest.Server) {
	url := server.NewDatabase(t)
	p := newProxy(t, server.Address)
	if err := mustOpen(t, url).Create(t.Context(), "key", nil); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		size int
		do   []action
		want string
	}{
		{"small", 0, nil, exists},
		{"large", partSize + 1, nil, exists},
		{"lost before", 0, []action{loseBefore}, nothing},
		{"lost after", 0, []action{loseAfter}, nothing},
		{"large lost after", partSize + 1, []action{loseAfter}, nothing},
		{"deadlock once", 0, []action{refuse + 1213}, exists},
		{"interrupted", 0, []action{refuse + 1317}, nothing},
		{"read-only", 0, []action{refuse + 1290}, nothing},
	} {
		t.Run(test.name, func(t *testing.T) {
			p.script()
			b := mustOpen(t, p.url(url))
			p.script(rule{"REPLACE", test.do})
			err := b.Create(t.Context(), "key", make([]byte, test.size))
			if got := outcome(err); got != test.want {
				t.Errorf("Create: %v: %s, want %s", err, got, test.want)
			}
			if p.count("REPLACE") == 0 {
				t.Error("nothing was done to make the object durable")
			}
		})
	}
}

func testDeleteOutcomes(t *testing.T, server *mysqltest.Server) {
	url := server.NewDatabase(t)
	direct := mustOpen(t, url)
	p := newProxy(t, server.Address)
	for _, test := range []struct {
		name string
		keys []string
		rule rule
		want string
		left bool
	}{
		{"deleted", []string{"key", "none"}, rule{}, done, false},
		{"lost before", []string{"key"}, rule{"DELETE", []action{loseBefore}}, unknown, true},
		{"lost after", []string{"key"}, rule{"DELETE", []action{loseAfter}}, unknown, false},
		{"deadlock once", []string{"key"}, rule{"DELETE", []action{refuse + 1213}}, done, false},
		{"lock wait", []string{"key"}, rule{"DELETE", []action{refuse + 1205}}, nothing, true},
		{"denied", []string{"key"}, rule{"DELETE", []action{refuse + 1142}}, denied, true},
		{"interrupted", []string{"key"}, rule{"DELETE", []action{refuse + 1317}}, unknown, true},
		{"absent", []string{"none"}, rule{}, done, true},
		{"absent, not settled", []string{"none"}, rule{"REPLACE", []action{loseAfter}}, nothing, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			if err := direct.Create(t.Context(), "key", nil); err != nil {
				t.Fatal(err)
			}
			p.script()
			b := mustOpen(t, p.url(url))
			p.script(test.rule)
			err := b.Delete(t.Context(), test.keys...)
			if got := outcome(err); got != test.want {
				t.Errorf("Delete: %v: %s, want %s", err, got, test.want)
			}
			if _, err := direct.Get(t.Context(), "key", 0, -1); (err == nil) != test.left {
				t.Errorf("Get after it: %v, left: %v", err, test.left)
			}
			if err := direct.Delete(t.Context(), "key"); err != nil {
				t.Error(err)
			}
		})
	}
}

// testReadFails: a Get or List that got no answer, or half of one, fails and is
// neither a missing object nor the end of a listing.
func testReadFails(t *testing.T, server *mysqltest.Server) {
	url := server.NewDatabase(t)
	p := newProxy(t, server.Address)
	b := mustOpen(t, p.url(url))
	if err := b.Create(t.Context(), "key", nil); err != nil {
		t.Fatal(err)
	}
	for name, do := range map[string]action{
		"lost before": loseBefore, "lost after": loseAfter, "no table": refuse + 1146, "anything": refuse + 1105,
	} {
		p.script(rule{"SELECT", all(5, do)})
		body, err := b.Get(t.Context(), "key", 0, -1)
		if err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, storage.ErrUnknown) {
			t.Errorf("%s: Get: %q, %v", name, body, err)
		}
		p.script(rule{"SELECT", all(5, do)})
		keys, err := b.List(t.Context(), "", "", 10)
		if err == nil || errors.Is(err, storage.ErrUnknown) {
			t.Errorf("%s: List: %q, %v", name, keys, err)
		}
	}
}

// testLockTimeout: who waited too long for somebody else's transaction, or for
// a lock on the whole server as back-ups take it, did nothing and will do
// nothing. The second that is waited here is ten in earnest.
func testLockTimeout(t *testing.T, server *mysqltest.Server) {
	b := mustOpen(t, server.NewDatabase(t))
	create := func(key string) error {
		return b.once(t.Context(), func(s *session) error {
			if err := s.exec(t.Context(), "SET innodb_lock_wait_timeout = 1, lock_wait_timeout = 1"); err != nil {
				return err
			}
			return s.create(t.Context(), b.table, key, nil)
		})
	}
	tx := foreign(t, b, b.table.insert(), []byte("row"), 0, 0, []byte{})
	if err := create("row"); outcome(err) != nothing || number(err) != 1205 {
		t.Errorf("create with the row locked: %v, want that nothing happened", err)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}

	conn, err := server.Admin.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.ExecContext(t.Context(), "FLUSH TABLES WITH READ LOCK"); err != nil {
		t.Fatal(err)
	}
	if err := create("server"); outcome(err) != nothing || number(err) != 1205 {
		t.Errorf("create with the server locked: %v, want that nothing happened", err)
	}
	if _, err := conn.ExecContext(t.Context(), "UNLOCK TABLES"); err != nil {
		t.Fatal(err)
	}
	if keys, err := b.List(t.Context(), "", "", 10); err != nil || len(keys) != 0 {
		t.Errorf("in the end there is %q, %v", keys, err)
	}
}

// testCancelled: cancelled under way is unknown, cancelled before is nothing.
func testCancelled(t *testing.T, server *mysqltest.Server) {
	url := server.NewDatabase(t)
	p := newProxy(t, server.Address)
	b := mustOpen(t, p.url(url))
	for command, call := range map[string]func(context.Context) error{
		"EXECUTE": func(ctx context.Context) error { return b.Create(ctx, "key", nil) },
		"COMMIT":  func(ctx context.Context) error { return b.Create(ctx, "large", make([]byte, partSize+1)) },
		"DELETE":  func(ctx context.Context) error { return b.Delete(ctx, "other") },
	} {
		p.script(rule{command, []action{hang}})
		ctx, cancel := context.WithCancel(t.Context())
		result := make(chan error, 1)
		go func() { result <- call(ctx) }()
		await(t, command+" to be sent", func() bool { return p.count(command) == 1 })
		cancel()
		if err := <-result; !errors.Is(err, storage.ErrUnknown) || !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v, want ErrUnknown and context.Canceled", command, err)
		}
	}

	// A call that waits for a connection has not begun.
	b.db.SetMaxOpenConns(1)
	conn, err := b.db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	waits := b.db.Stats().WaitCount
	go func() { result <- b.Create(ctx, "key", nil) }()
	await(t, "Create to wait", func() bool { return b.db.Stats().WaitCount > waits })
	cancel()
	if err := <-result; errors.Is(err, storage.ErrUnknown) || !errors.Is(err, context.Canceled) {
		t.Errorf("Create without a connection: %v, want context.Canceled alone", err)
	}
}

// await waits until ok, and looks often.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// testConnectionLost: a connection that broke while nobody used it costs
// nothing, and one that breaks before a byte is sent is no unknown outcome.
func testConnectionLost(t *testing.T, server *mysqltest.Server) {
	url := server.NewDatabase(t)
	p := newProxy(t, server.Address)
	b := mustOpen(t, p.url(url))
	b.db.SetMaxOpenConns(1)
	if err := b.Create(t.Context(), "1", nil); err != nil {
		t.Fatal(err)
	}
	broken := func(s *session) {
		p.cut()
		await(t, "the end of the connection", func() bool { return s.ResetSession(t.Context()) != nil })
		p.script()
	}

	if err := b.once(t.Context(), func(s *session) error { broken(s); return nil }); err != nil {
		t.Fatal(err)
	}
	if err := b.Create(t.Context(), "2", nil); err != nil || p.count("EXECUTE") != 1 {
		t.Errorf("Create after the connection broke: %v, sent %d times", err, p.count("EXECUTE"))
	}

	err := b.once(t.Context(), func(s *session) error { broken(s); return s.create(t.Context(), b.table, "3", nil) })
	if outcome(err) != nothing || p.count("EXECUTE") != 0 {
		t.Errorf("create on a broken connection: %v, sent %d times, want that nothing happened", err, p.count("EXECUTE"))
	}

	p.listener.Close()
	p.cut()
	for op, err := range map[string]error{
		"Create": b.Create(t.Context(), "4", nil),
		"Delete": b.Delete(t.Context(), "1"),
	} {
		if outcome(err) != nothing {
			t.Errorf("%s without a server: %v, want that nothing happened", op, err)
		}
	}
}
