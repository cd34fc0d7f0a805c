package mysql

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/weirmq/weir/storage/mysql/mysqltest"
	"github.com/weirmq/weir/storage/storagetest"
)

// TestKill: a server that is killed in the middle of things and started again
// has every object whose Create returned, and of the others all or nothing.
func TestKill(t *testing.T) {
	server := mysqltest.Start(t)
	b := mustOpen(t, server.NewDatabase(t))
	const writers = 6
	size := func(key string) int { return len(key) * 97 % 7 * partSize / 3 }
	var mu sync.Mutex
	stored := make(map[string]bool) // guarded by mu: by key, whether Create returned nil
	enough := make(chan struct{})
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := 0; ; i++ {
				key := fmt.Sprintf("kill/%0*d/%d", 1+i%7, i, w)
				err := b.Create(t.Context(), key, storagetest.Content(key, size(key)))
				mu.Lock()
				stored[key] = err == nil
				if len(stored) == 150 {
					close(enough)
				}
				mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	ended := make(chan struct{})
	go func() {
		wg.Wait()
		close(ended)
	}()
	select {
	case <-enough:
	case <-ended:
		t.Fatal("no writer got far enough")
	}
	server.Kill(t)
	<-ended
	server.Restart(t)

	keys, err := b.List(t.Context(), "", "", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for key, acked := range stored {
		body, err := b.Get(t.Context(), key, 0, -1)
		there := err == nil
		switch {
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			t.Errorf("Get(%s): %v", key, err)
		case acked && !there:
			t.Errorf("Create(%s) returned, and the object is gone", key)
		case there && !bytes.Equal(body, storagetest.Content(key, size(key))):
			t.Errorf("Get(%s): %d bytes, which are not what was stored", key, len(body))
		case there != slices.Contains(keys, key):
			t.Errorf("Get(%s): %v, but List does not agree", key, err)
		}
	}
}

// TestExistsIsDurable: an object that another client was shown too early, its
// commit not being synced yet, is durable when somebody heard ErrExists for it,
// and its removal when somebody deleted it once more.
func TestExistsIsDurable(t *testing.T) {
	server := mysqltest.Start(t)
	b := mustOpen(t, server.NewDatabase(t))
	if err := b.Create(t.Context(), "deleted", nil); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		early  string // what the other client does
		key    string
		settle func() error
		want   string
	}{
		{"create", b.table.insert(), "small", func() error { return b.Create(t.Context(), "small", nil) }, exists},
		{"create large", b.table.insert(), "large", func() error {
			return b.Create(t.Context(), "large", make([]byte, partSize+1))
		}, exists},
		{"delete", b.table.delete(1), "deleted", func() error { return b.Delete(t.Context(), "deleted") }, done},
	} {
		t.Run(test.name, func(t *testing.T) {
			admin(t, server, "SET GLOBAL innodb_flush_log_at_trx_commit = 0")
			admin(t, server, "SET GLOBAL innodb_flush_log_at_timeout = 2700")
			args := []any{[]byte(test.key), 0, 0, []byte{}}
			if test.name == "delete" {
				args = args[:1]
			}
			if _, err := b.db.Exec(test.early, args...); err != nil {
				t.Fatal(err)
			}
			committed := status(t, server, "Innodb_lsn_current")
			if status(t, server, "Innodb_lsn_flushed") >= committed {
				t.Log("the commit was synced for another reason, so this shows nothing")
			}
			admin(t, server, "SET GLOBAL innodb_flush_log_at_trx_commit = 1")
			if err := test.settle(); outcome(err) != test.want {
				t.Fatalf("%v, want %s", err, test.want)
			}
			if flushed := status(t, server, "Innodb_lsn_flushed"); flushed < committed {
				t.Errorf("the log is synced up to %d, the commit is at %d", flushed, committed)
			}
			server.Restart(t)
			_, err := b.Get(t.Context(), test.key, 0, -1)
			if gone := errors.Is(err, fs.ErrNotExist); gone != (test.want == done) {
				t.Errorf("Get after the crash: %v", err)
			}
		})
	}
}

func admin(t *testing.T, server *mysqltest.Server, statement string) {
	t.Helper()
	if _, err := server.Admin.Exec(statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

func status(t *testing.T, server *mysqltest.Server, name string) int64 {
	t.Helper()
	var value string
	if err := server.Admin.QueryRow("SHOW GLOBAL STATUS LIKE '"+name+"'").Scan(&name, &value); err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
