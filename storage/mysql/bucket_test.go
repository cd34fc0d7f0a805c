package mysql

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/mysql/mysqltest"
	"github.com/weirmq/weir/storage/storagetest"
)

func mustOpen(t testing.TB, url string) *Bucket {
	t.Helper()
	b, err := Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// TestMariaDB runs everything that needs a real server and leaves its settings
// alone.
func TestMariaDB(t *testing.T) {
	server := mysqltest.Start(t)
	t.Run("Bucket", func(t *testing.T) {
		storagetest.RunShared(t, func(t *testing.T) (a, b storage.Bucket) {
			url := server.NewDatabase(t)
			return mustOpen(t, url), mustOpen(t, url)
		})
	})
	t.Run("Probe", func(t *testing.T) {
		b := mustOpen(t, server.NewDatabase(t))
		if err := storage.Probe(t.Context(), b); err != nil {
			t.Error(err)
		}
		if keys, err := b.List(t.Context(), "", "", 10); err != nil || len(keys) != 0 {
			t.Errorf("the probe left %q, %v", keys, err)
		}
	})
	for name, test := range map[string]func(*testing.T, *mysqltest.Server){
		"Large": testLarge, "Damaged": testDamaged, "DeleteMany": testDeleteMany, "Tables": testTables, "ListPlan": testListPlan,
		"WaitForWinner": testWaitForWinner, "WaitForDelete": testWaitForDelete, "GetDuringDelete": testGetDuringDelete,
	} {
		t.Run(name, func(t *testing.T) { test(t, server) })
	}
}

// testLarge: an object of the greatest size, and ranges at the edges of parts.
func testLarge(t *testing.T, server *mysqltest.Server) {
	b := mustOpen(t, server.NewDatabase(t))
	for _, size := range []int64{partSize - 1, partSize, partSize + 1, 3 * partSize, 32 << 20} {
		key := fmt.Sprintf("large/%d", size)
		want := storagetest.Content(key, int(size))
		if err := b.Create(t.Context(), key, want); err != nil {
			t.Fatal(err)
		}
		for _, r := range []struct{ off, n int64 }{
			{0, -1}, {0, 1}, {1, 1}, {0, partSize}, {1, partSize}, {partSize - 1, 1}, {partSize - 1, 2}, {partSize, 1},
			{partSize, -1}, {partSize + 1, 5}, {partSize - 1, partSize + 2}, {size - 1, -1}, {size, -1}, {size - 1, 10},
			{2*partSize - 1, partSize + 7}, {size + 5*partSize, 3}, {3 * partSize, 0},
		} {
			got, err := b.Get(t.Context(), key, r.off, r.n)
			if err != nil {
				t.Fatal(err)
			}
			from, n, err := storage.Range(size, r.off, r.n)
			if err != nil || !bytes.Equal(got, want[from:from+n]) {
				t.Errorf("Get(%s, %d, %d): %d bytes, want other %d", key, r.off, r.n, len(got), n)
			}
		}
	}
	if keys, err := b.List(t.Context(), "large/", "", 10); err != nil || len(keys) != 5 {
		t.Errorf("List: %q, %v, want 5 objects", keys, err)
	}
}

// testDamaged: a part that was removed by hand is noticed.
func testDamaged(t *testing.T, server *mysqltest.Server) {
	b := mustOpen(t, server.NewDatabase(t))
	if err := b.Create(t.Context(), "key", make([]byte, 4*partSize)); err != nil {
		t.Fatal(err)
	}
	if _, err := b.db.Exec("DELETE FROM weir WHERE part = 2"); err != nil {
		t.Fatal(err)
	}
	for _, off := range []int64{0, partSize + 1, 2 * partSize} {
		_, err := b.Get(t.Context(), "key", off, 2*partSize)
		if (err == nil) != (off == 0) || err != nil && !strings.Contains(err.Error(), "damaged") {
			t.Errorf("Get from %d: %v", off, err)
		}
	}
}

func testDeleteMany(t *testing.T, server *mysqltest.Server) {
	b := mustOpen(t, server.NewDatabase(t))
	var keys []string
	for i := range 2*deleteKeys + 1 {
		keys = append(keys, fmt.Sprintf("%s%d", strings.Repeat("long/", 90), i))
	}
	for _, key := range []string{keys[0], keys[deleteKeys], keys[len(keys)-1], "other"} {
		if err := b.Create(t.Context(), key, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Delete(t.Context(), keys...); err != nil {
		t.Fatal(err)
	}
	if left, err := b.List(t.Context(), "", "", 10); err != nil || len(left) != 1 || left[0] != "other" {
		t.Errorf("left is %q, %v", left, err)
	}
}

// testTables: two tables in one database are two buckets.
func testTables(t *testing.T, server *mysqltest.Server) {
	url := server.NewDatabase(t)
	a, b := mustOpen(t, url), mustOpen(t, url+"?table=Other_1")
	if err := a.Create(t.Context(), "key", []byte("a")); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Get(t.Context(), "key", 0, -1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the object of the other table: %v", err)
	}
	if err := b.Create(t.Context(), "key", []byte("b")); err != nil {
		t.Error(err)
	}
}

// testListPlan: a page of a listing is one range of the index that holds
// nothing but names.
func testListPlan(t *testing.T, server *mysqltest.Server) {
	b := mustOpen(t, server.NewDatabase(t))
	for i := range 300 {
		if err := b.Create(t.Context(), fmt.Sprintf("list/%d", i), make([]byte, 5000)); err != nil {
			t.Fatal(err)
		}
	}
	from, to := bounds("list/", "list/2")
	rows, err := b.db.Query("EXPLAIN "+b.table.list(), from, to, 10)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		values := make([]sql.NullString, 10)
		pointers := make([]any, len(values))
		for i := range values {
			pointers[i] = &values[i]
		}
		if err := rows.Scan(pointers...); err != nil {
			t.Fatal(err)
		}
		access, key, extra := values[3].String, values[5].String, values[9].String
		if access != "range" || key != "names" || !strings.Contains(extra, "Using index") || strings.Contains(extra, "filesort") {
			t.Errorf("the server lists by %q of %q, %q", access, key, extra)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
}

// waiting returns how many sessions of the server wait for a lock.
func waiting(t *testing.T, server *mysqltest.Server) int64 {
	t.Helper()
	return status(t, server, "Innodb_row_lock_current_waits")
}

// foreign begins a transaction of somebody else in the table of a bucket.
func foreign(t *testing.T, b *Bucket, statement string, args ...any) *sql.Tx {
	t.Helper()
	tx, err := b.db.BeginTx(context.WithoutCancel(t.Context()), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tx.Rollback() })
	if _, err := tx.Exec(statement, args...); err != nil {
		t.Fatal(err)
	}
	return tx
}

// testWaitForWinner: while it is open whether another writer gets the name, a
// Create waits; it hears ErrExists when the other has committed, and stores its
// own object when the other gave up. Until then nobody sees anything.
func testWaitForWinner(t *testing.T, server *mysqltest.Server) {
	b := mustOpen(t, server.NewDatabase(t))
	for key, test := range map[string]struct {
		end  func(*sql.Tx) error
		want string
		body string
	}{
		"committed":   {(*sql.Tx).Commit, exists, "theirs"},
		"rolled-back": {(*sql.Tx).Rollback, done, "ours"},
	} {
		tx := foreign(t, b, b.table.insert(), []byte(key), 0, 6, []byte("theirs"))
		result := make(chan error, 1)
		go func() { result <- b.Create(t.Context(), key, []byte("ours")) }()
		await(t, "Create to wait", func() bool { return waiting(t, server) == 1 })
		if _, err := b.Get(t.Context(), key, 0, -1); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: Get before: %v", key, err)
		}
		if keys, err := b.List(t.Context(), key, "", 1); err != nil || len(keys) != 0 {
			t.Errorf("%s: List before: %q, %v", key, keys, err)
		}
		if err := test.end(tx); err != nil {
			t.Fatal(err)
		}
		if err := <-result; outcome(err) != test.want {
			t.Errorf("%s: Create: %v, want %s", key, err, test.want)
		}
		if body, err := b.Get(t.Context(), key, 0, -1); err != nil || string(body) != test.body {
			t.Errorf("%s: Get: %q, %v", key, body, err)
		}
	}
}

// testWaitForDelete: of several that want a name whose object is being deleted
// one gets it. InnoDB lets them all share a lock that each then wants alone, so
// it has to roll back all but one.
func testWaitForDelete(t *testing.T, server *mysqltest.Server) {
	b := mustOpen(t, server.NewDatabase(t))
	const writers = 4
	for _, size := range []int{10, partSize + 10} {
		key := fmt.Sprintf("key/%d", size)
		if err := b.Create(t.Context(), key, nil); err != nil {
			t.Fatal(err)
		}
		tx := foreign(t, b, b.table.delete(1), []byte(key))
		results := make(chan error, writers)
		for range writers {
			go func() { results <- b.Create(t.Context(), key, make([]byte, size)) }()
		}
		await(t, "all to wait", func() bool { return waiting(t, server) == writers })
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		count := make(map[string]int)
		for range writers {
			err := <-results
			if count[outcome(err)]++; outcome(err) != done && outcome(err) != exists {
				t.Errorf("Create: %v", err)
			}
		}
		if count[done] != 1 {
			t.Errorf("%d bytes: %v, want one winner", size, count)
		}
	}
}

// testGetDuringDelete: an object whose deletion is not committed is whole.
func testGetDuringDelete(t *testing.T, server *mysqltest.Server) {
	b := mustOpen(t, server.NewDatabase(t))
	want := storagetest.Content("key", 3*partSize)
	if err := b.Create(t.Context(), "key", want); err != nil {
		t.Fatal(err)
	}
	tx := foreign(t, b, b.table.delete(1), []byte("key"))
	if got, err := b.Get(t.Context(), "key", 0, -1); err != nil || !bytes.Equal(got, want) {
		t.Errorf("Get: %d bytes, %v", len(got), err)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Get(t.Context(), "key", 0, -1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Get after it: %v", err)
	}
}

// TestServerDefaults: what the server gives a session by default does not
// matter, be it as harmful as can be.
func TestServerDefaults(t *testing.T) {
	server := mysqltest.Start(t)
	database := server.NewDatabase(t)
	for _, setting := range []string{"tx_isolation = 'READ-UNCOMMITTED'", "tx_read_only = 1", "autocommit = 0",
		"completion_type = 'CHAIN'", "sql_mode = ''", "sql_select_limit = 1"} {
		admin(t, server, "SET GLOBAL "+setting)
	}
	a, b := mustOpen(t, database), mustOpen(t, database)
	for _, key := range []string{"1", "2", "3"} {
		for _, size := range []int{10, 2*partSize + 1} {
			key = fmt.Sprintf("%s/%d", key, size)
			if err := a.Create(t.Context(), key, make([]byte, size)); err != nil {
				t.Fatal(err)
			}
			if body, err := b.Get(t.Context(), key, 0, -1); err != nil || len(body) != size {
				t.Errorf("Get of another client: %d bytes, %v", len(body), err)
			}
		}
	}
	if err := a.Delete(t.Context(), "1/10", "2/10", "3/10", "none"); err != nil {
		t.Error(err)
	}
	if keys, err := b.List(t.Context(), "", "", 10); err != nil || len(keys) != 3 {
		t.Errorf("List of another client: %q, %v", keys, err)
	}
	foreign(t, a, a.table.insert(), []byte("open"), 0, 0, []byte{})
	if _, err := b.Get(t.Context(), "open", 0, -1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Get of what is not committed: %v", err)
	}
}

func BenchmarkCreate(b *testing.B) {
	server := mysqltest.Start(b)
	storagetest.Bench(b, func(b *testing.B) storage.Bucket { return mustOpen(b, server.NewDatabase(b)) })
}
