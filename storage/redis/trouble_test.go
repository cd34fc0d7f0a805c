package redis_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	lib "github.com/redis/go-redis/v9"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/redis"
	"github.com/weirmq/weir/storage/redis/redistest"
)

// eventually waits until done reports true.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// startReplica starts a replica of a server.
func startReplica(t *testing.T, master *redistest.Server) *redistest.Server {
	t.Helper()
	return redistest.Start(t, "--replicaof", strings.Replace(master.Address, ":", " ", 1), "--masterauth", master.Password)
}

// TestRefusals: a real server that refuses to write says so before anything
// happened, and takes the object when it is well again.
func TestRefusals(t *testing.T) {
	server := redistest.Start(t, "--save", "3600 1000000")
	c := admin(t, server)
	b := mustOpen(t, server.URL("weir"))
	if err := b.Create(t.Context(), "old", []byte("old")); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, want string
		break_     func(t *testing.T)
	}{
		{"OutOfMemory", "OOM", func(t *testing.T) { configure(t, c, "maxmemory", "1mb") }},
		{"VolatilePolicy", "OOM", func(t *testing.T) { configure(t, c, "maxmemory-policy", "volatile-lru", "maxmemory", "1mb") }},
		{"FewReplicas", "NOREPLICAS", func(t *testing.T) { configure(t, c, "min-replicas-to-write", "1") }},
		{"DiskTrouble", "MISCONF", func(t *testing.T) { breakSnapshots(t, server, c) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Run("broken", func(t *testing.T) {
				test.break_(t)
				err := b.Create(t.Context(), test.name, []byte("new"))
				if err == nil || errors.Is(err, storage.ErrUnknown) || !strings.Contains(err.Error(), test.want) {
					t.Errorf("Create: %v, want %s and that nothing happened", err, test.want)
				}
				if _, err := b.Get(t.Context(), test.name, 0, -1); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("Get of what was refused: %v", err)
				}
				if got, err := b.Get(t.Context(), "old", 0, -1); err != nil || string(got) != "old" {
					t.Errorf("Get: %q, %v", got, err)
				}
				if keys, err := mustOpen(t, server.URL("weir")).List(t.Context(), "", "", 10); err != nil || !slices.Contains(keys, "old") {
					t.Errorf("List, of a bucket just opened: %q, %v", keys, err)
				}
				err = b.Delete(t.Context(), "other")
				if deletes := test.want == "OOM"; deletes != (err == nil) || errors.Is(err, storage.ErrUnknown) {
					t.Errorf("Delete: %v, want success %v, or that nothing happened", err, deletes)
				}
			})
			if err := b.Create(t.Context(), test.name, []byte("new")); err != nil {
				t.Errorf("Create when all is well again: %v", err)
			}
		})
	}
}

// breakSnapshots puts a folder where the snapshot goes.
func breakSnapshots(t *testing.T, server *redistest.Server, c *lib.Client) {
	t.Helper()
	folder := filepath.Join(server.Dir, "dump.rdb")
	if err := os.MkdirAll(filepath.Join(folder, "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	snapshot := func(want string) {
		eventually(t, "a snapshot that is "+want, func() bool {
			c.BgSave(context.Background())
			info, err := c.Info(context.Background(), "persistence").Result()
			return err == nil && strings.Contains(info, "rdb_last_bgsave_status:"+want)
		})
	}
	snapshot("err")
	t.Cleanup(func() {
		if err := os.RemoveAll(folder); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		for ctx.Err() == nil {
			c.BgSave(ctx)
			if info, err := c.Info(ctx, "persistence").Result(); err == nil && strings.Contains(info, "rdb_last_bgsave_status:ok") {
				return
			}
		}
	})
}

// TestReplica: a replica opens and reads, and refuses to write.
func TestReplica(t *testing.T) {
	master := redistest.Start(t, "--repl-diskless-sync-delay", "0")
	b := mustOpen(t, master.URL("weir"))
	if err := b.Create(t.Context(), "old", []byte("old")); err != nil {
		t.Fatal(err)
	}
	replica := mustOpen(t, startReplica(t, master).URL("weir"))
	eventually(t, "the object on the replica", func() bool {
		got, err := replica.Get(t.Context(), "old", 0, -1)
		return err == nil && string(got) == "old"
	})
	err := replica.Create(t.Context(), "new", nil)
	if err == nil || errors.Is(err, storage.ErrUnknown) || !strings.Contains(err.Error(), "READONLY") {
		t.Errorf("Create: %v, want READONLY and that nothing happened", err)
	}
	if err := replica.Delete(t.Context(), "old"); err == nil || errors.Is(err, storage.ErrUnknown) {
		t.Errorf("Delete: %v, want an error that says nothing happened", err)
	}
	wantWarnings(t, replica, "is a replica of "+master.Address)
	eventually(t, "the master's warning", func() bool { return len(b.Warnings(t.Context())) > 0 })
	wantWarnings(t, b, "has replicas (1)")
}

// TestLost: an object that was evicted does not pass for one that never was.
func TestLost(t *testing.T) {
	server := redistest.Start(t)
	c := admin(t, server)
	b := mustOpen(t, server.URL("weir"))
	if err := b.Create(t.Context(), "a", []byte("a")); err != nil {
		t.Fatal(err)
	}
	if err := c.Del(t.Context(), "{weir}/a").Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Get(t.Context(), "a", 0, -1); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Get of a lost object: %v, want an error that is not fs.ErrNotExist", err)
	}
	if err := b.Create(t.Context(), "a", []byte("a")); !errors.Is(err, storage.ErrUnknown) {
		t.Errorf("Create under the name of a lost object: %v, want ErrUnknown", err)
	}

	// The index may be what is lost. No object is overwritten for that.
	if err := c.Del(t.Context(), "{weir}").Err(); err != nil {
		t.Fatal(err)
	}
	if err := b.Create(t.Context(), "a", []byte("other")); !errors.Is(err, storage.ErrExists) {
		t.Errorf("Create under the name of an object that is not listed: %v, want ErrExists", err)
	}
	if got, err := b.Get(t.Context(), "a", 0, -1); err != nil || string(got) != "a" {
		t.Errorf("Get: %q, %v", got, err)
	}
}

// wantWarnings checks that there is one warning for each of the texts, which it
// contains.
func wantWarnings(t *testing.T, b *redis.Bucket, texts ...string) {
	t.Helper()
	found := b.Warnings(t.Context())
	if len(found) != len(texts) {
		t.Errorf("Warnings: %q, want %q", found, texts)
		return
	}
	for i, text := range texts {
		if !strings.Contains(found[i], text) {
			t.Errorf("Warning %q, want %q", found[i], text)
		}
	}
}

func TestWarnings(t *testing.T) {
	server := redistest.Start(t)
	c := admin(t, server)
	b := mustOpen(t, server.URL("weir"))
	for _, test := range []struct {
		name     string
		settings []string
		want     []string
	}{
		{"none", nil, nil},
		{"no file", []string{"appendonly", "no"}, []string{`appendonly is "no"`}},
		{"sync each second", []string{"appendfsync", "everysec"}, []string{`appendfsync is "everysec"`}},
		{"no sync", []string{"appendfsync", "no"}, []string{`appendfsync is "no"`}},
		{"no sync on rewrite", []string{"no-appendfsync-on-rewrite", "yes"}, []string{`no-appendfsync-on-rewrite is "yes"`}},
		{"eviction", []string{"maxmemory", "1gb", "maxmemory-policy", "allkeys-lru"}, []string{`maxmemory-policy is "allkeys-lru"`}},
		{"random eviction", []string{"maxmemory", "1gb", "maxmemory-policy", "allkeys-random"}, []string{`maxmemory-policy is "allkeys-random"`}},
		{"eviction without limit", []string{"maxmemory-policy", "allkeys-lru"}, nil},
		{"eviction of the volatile", []string{"maxmemory", "1gb", "maxmemory-policy", "volatile-ttl"}, nil},
		{"limit", []string{"maxmemory", "1gb"}, nil},
		{"two", []string{"appendonly", "no", "appendfsync", "everysec"}, []string{"appendonly", "appendfsync"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			configure(t, c, test.settings...)
			wantWarnings(t, b, test.want...)
		})
	}
	t.Run("Sentinel", func(t *testing.T) {
		server.StartSentinel(t)
		eventually(t, "Sentinel", func() bool { return len(b.Warnings(t.Context())) > 0 })
		wantWarnings(t, b, "Sentinels watch the server (1)")
	})
}

// TestWarningsUnknown: what the server does not tell is a warning, not silence.
func TestWarningsUnknown(t *testing.T) {
	renamed := redistest.Start(t, "--rename-command", "CONFIG", "")
	wantWarnings(t, mustOpen(t, renamed.URL("weir")), "settings of the server could not be read (ERR unknown command")

	server := redistest.Start(t)
	c := admin(t, server)
	as := func(user string, rights ...string) *redis.Bucket {
		rules := append([]string{"on", ">secret", "~*", "+@all"}, rights...)
		if err := c.ACLSetUser(t.Context(), user, rules...).Err(); err != nil {
			t.Fatal(err)
		}
		return mustOpen(t, fmt.Sprintf("redis://%s:secret@%s", user, server.Address))
	}
	wantWarnings(t, as("one", "-config"), "settings of the server could not be read (NOPERM")
	wantWarnings(t, as("two", "-info"), "replication of the server could not be read (NOPERM")
	wantWarnings(t, as("three", "-pubsub"), "not known whether a Sentinel watches the server (NOPERM")
	wantWarnings(t, as("four", "-@all", "+config|get", "+info", "+pubsub|numsub", "+zrange", "+eval",
		"+strlen", "+exists", "+zscore", "+multi", "+exec"))

	b := as("five", "-@dangerous")
	wantWarnings(t, b, "settings of the server could not be read (NOPERM", "replication of the server could not be read (NOPERM")
	b.Close()
	wantWarnings(t, b, "settings of the server could not be read (redis: client is closed)", "replication of the server could not be read")
}
