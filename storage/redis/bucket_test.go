package redis_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	lib "github.com/redis/go-redis/v9"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/redis"
	"github.com/weirmq/weir/storage/redis/redistest"
	"github.com/weirmq/weir/storage/storagetest"
)

func mustOpen(t testing.TB, url string) *redis.Bucket {
	t.Helper()
	b, err := redis.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// admin is a connection for what a bucket never does.
func admin(t testing.TB, server *redistest.Server) *lib.Client {
	t.Helper()
	c := lib.NewClient(&lib.Options{Addr: server.Address, Password: server.Password, Protocol: 2, DisableIdentity: true})
	t.Cleanup(func() { c.Close() })
	return c
}

// configure sets settings of the server, given as name, value, and puts the old
// values back at the end of the test.
func configure(t *testing.T, c *lib.Client, settings ...string) {
	t.Helper()
	for ; len(settings) > 0; settings = settings[2:] {
		name, value := settings[0], settings[1]
		old, err := c.ConfigGet(t.Context(), name).Result()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.ConfigSet(t.Context(), name, value).Err(); err != nil {
			t.Fatalf("CONFIG SET %s %s: %v", name, value, err)
		}
		t.Cleanup(func() {
			if err := c.ConfigSet(context.Background(), name, old[name]).Err(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestRedis runs what needs a real server and leaves it as it is.
func TestRedis(t *testing.T) {
	server := redistest.Start(t)
	t.Run("Bucket", func(t *testing.T) {
		storagetest.RunShared(t, func(t *testing.T) (a, b storage.Bucket) {
			url := server.NewBucket(t)
			return mustOpen(t, url), mustOpen(t, url)
		})
	})
	t.Run("Large", func(t *testing.T) {
		b := mustOpen(t, server.NewBucket(t))
		body := storagetest.Content("large", 32<<20)
		if err := b.Create(t.Context(), "large", body); err != nil {
			t.Fatal(err)
		}
		got, err := b.Get(t.Context(), "large", 1, -1)
		if err != nil || !bytes.Equal(got, body[1:]) {
			t.Errorf("Get: %d bytes, %v", len(got), err)
		}
		if err := b.Create(t.Context(), "larger", make([]byte, 512<<20+1)); err == nil || strings.Contains(err.Error(), "unknown") {
			t.Errorf("Create of more than 512 MiB: %v, want an error that says nothing happened", err)
		}
	})
	t.Run("Prefixes", func(t *testing.T) {
		a, b := mustOpen(t, server.URL("one")), mustOpen(t, server.URL("one/two"))
		for key, bucket := range map[string]storage.Bucket{"two/x": a, "x": b} {
			if err := bucket.Create(t.Context(), key, []byte(key)); err != nil {
				t.Fatal(err)
			}
		}
		if err := b.Delete(t.Context(), "x"); err != nil {
			t.Fatal(err)
		}
		keys, err := a.List(t.Context(), "", "", 10)
		if got := strings.Join(keys, " "); err != nil || got != "two/x" {
			t.Errorf("List: %q, %v", got, err)
		}
		if got, err := a.Get(t.Context(), "two/x", 0, -1); err != nil || string(got) != "two/x" {
			t.Errorf("Get: %q, %v", got, err)
		}
	})
	t.Run("Database", func(t *testing.T) {
		a, b := mustOpen(t, server.URL("db")), mustOpen(t, strings.Replace(server.URL("db"), "/0?", "/3?", 1))
		for name, bucket := range map[string]storage.Bucket{"database 0": a, "database 3": b} {
			if err := bucket.Create(t.Context(), "key", []byte(name)); err != nil {
				t.Errorf("Create in %s: %v", name, err)
			}
		}
	})
	t.Run("Probe", func(t *testing.T) {
		b := mustOpen(t, server.NewBucket(t))
		if err := storage.Probe(t.Context(), b); err != nil {
			t.Error(err)
		}
		if keys, err := b.List(t.Context(), "", "", 10); err != nil || len(keys) != 0 {
			t.Errorf("the probe left %q, %v", keys, err)
		}
	})
	t.Run("NoWarnings", func(t *testing.T) {
		b := mustOpen(t, server.NewBucket(t))
		if found := b.Warnings(t.Context()); len(found) != 0 {
			t.Errorf("Warnings about a safe server: %q", found)
		}
	})
}

// TestLeastRights: a user with these rights, which the README names, can use a
// bucket, and none of them is superfluous.
func TestLeastRights(t *testing.T) {
	server := redistest.Start(t)
	c := admin(t, server)
	rights := []string{"+multi", "+exec", "+eval", "+set", "+zadd", "+getrange", "+strlen", "+exists", "+zscore", "+zrange", "+del", "+zrem"}
	use := func(t *testing.T, rights []string) error {
		rules := append([]string{"reset", "on", ">pass word", "~{mine}*"}, rights...)
		if err := c.ACLSetUser(t.Context(), "weir", rules...).Err(); err != nil {
			t.Fatal(err)
		}
		b, err := redis.Open(t.Context(), fmt.Sprintf("redis://weir:pass%%20word@%s?prefix=mine", server.Address))
		if err != nil {
			return err
		}
		defer b.Close()
		return storage.Probe(t.Context(), b)
	}
	if err := use(t, rights); err != nil {
		t.Fatalf("with all rights: %v", err)
	}
	for i, right := range rights {
		less := append(append([]string(nil), rights[:i]...), rights[i+1:]...)
		if err := use(t, less); err == nil {
			t.Errorf("without %s: no error", right)
		}
	}
}

func BenchmarkCreate(b *testing.B) {
	server := redistest.Start(b)
	storagetest.Bench(b, func(b *testing.B) storage.Bucket { return mustOpen(b, server.NewBucket(b)) })
}
