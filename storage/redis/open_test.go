package redis_test

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"strings"
	"testing"

	"github.com/weirmq/weir/storage/redis"
	"github.com/weirmq/weir/storage/redis/redistest"
)

func TestOpenRefusesURL(t *testing.T) {
	const want = "must be redis://user:password@host:port/db?prefix=name"
	for _, test := range []struct{ url, want string }{
		{"redis:", want},
		{"redis://", want},
		{"redis:///0", want},
		{"redis:host:6379", want},
		{"s3://host", want},
		{"redis://u:hunter2@host:port/0", want},
		{"redis://u:hunter2 @host/0", want},
		{"redis://u:hun%ter2@host/0", want},
		{"redis://u:hun/ter2@host/0", want},
		{"redis://u:hun?ter2@host/0", want},
		{"redis://u:hun#ter2@host/0", want},
		{"redis://u:hun?ter2=3@host/0", want},
		{"redis://u:hunter2@host/0#fragment", want},
		{"redis://u:hunter2@host/0?%zz", want},
		{"redis://u:hunter2@host/first", `database is "first": it must be a number`},
		{"redis://u:hunter2@host/-1", `database is "-1": it must be a number`},
		{"redis://u:hunter2@host/0?perfix=a", `unknown parameter "perfix": use prefix`},
		{"redis://u:hunter2@host/0?prefix=", "prefix: invalid key"},
		{"redis://u:hunter2@host/0?prefix={a}", "prefix: invalid key"},
		{"redis://u:hunter2@127.0.0.1:1/0", "open redis bucket at 127.0.0.1:1: no Redis server answers: dial tcp 127.0.0.1:1"},
		{"rediss://u:hunter2@127.0.0.1:1", "no Redis server answers: dial tcp 127.0.0.1:1"},
	} {
		_, err := redis.Open(t.Context(), test.url)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("Open(%s): %v, want %q", test.url, err, test.want)
		}
		if err != nil && (strings.Contains(err.Error(), "hun") || strings.Contains(err.Error(), "ter2")) {
			t.Errorf("the error shows the password: %v", err)
		}
	}
}

// TestOpenRefusesServer: each server that cannot hold a bucket, or not now, is
// turned down with a sentence that says why.
func TestOpenRefusesServer(t *testing.T) {
	const denied = "refuses the user name and password"
	for _, test := range []struct {
		name    string
		answers map[string]answer
		want    string
	}{
		{"cluster", map[string]answer{"INFO": say("$19\r\ncluster_enabled:1\r\n")}, "node of a Redis Cluster"},
		{"cluster, INFO denied", map[string]answer{"INFO": say("-NOPERM no"), "ZRANGE": say("-MOVED 3999 127.0.0.1:6381")},
			"node of a Redis Cluster"},
		{"loading", map[string]answer{"ZRANGE": say("-LOADING Redis is loading")}, "still loading its data"},
		{"password missing", map[string]answer{"ZRANGE": say("-NOAUTH Authentication required.")}, denied},
		{"password wrong", map[string]answer{"HELLO": say("-WRONGPASS no"), "AUTH": say("-WRONGPASS no")}, denied},
		{"no right", map[string]answer{"EVAL": say("-NOPERM this user has no permissions to run the 'eval' command")},
			"lacks a permission that a bucket needs"},
		{"no transactions", map[string]answer{"MULTI": say("-NOPERM no"), "EXEC": say("-NOPERM no")}, "lacks a permission that a bucket needs"},
		{"old", map[string]answer{"ZRANGE": say("-ERR syntax error")}, "Redis 6.2 or later"},
		{"no Redis", map[string]answer{"HELLO": say("HTTP/1.1 400 Bad Request")}, "no Redis server answers"},
		{"silence", map[string]answer{"HELLO": hangUp}, "the server closed the connection"},
		{"reset", map[string]answer{"HELLO": reset}, "the server closed the connection"},
		{"full", map[string]answer{"HELLO": lastly("-ERR max number of clients reached")}, "too many clients"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFake(t)
			for command, answer := range test.answers {
				f.tell(command, answer)
			}
			_, err := redis.Open(t.Context(), strings.Replace(f.url(), "//", "//user:hunter2@", 1))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Open: %v, want %q", err, test.want)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error shows the password: %v", err)
			}
			if denies := strings.Contains(test.want, "lacks a permission") || test.want == denied; errors.Is(err, fs.ErrPermission) != denies {
				t.Errorf("Open: %v, want fs.ErrPermission %v", err, denies)
			}
		})
	}
	t.Run("real cluster", func(t *testing.T) {
		server := redistest.Start(t, "--cluster-enabled", "yes")
		if _, err := redis.Open(t.Context(), server.URL("weir")); err == nil || !strings.Contains(err.Error(), "node of a Redis Cluster") {
			t.Errorf("Open: %v", err)
		}
	})
	t.Run("waits no longer than it may", func(t *testing.T) {
		f := newFake(t)
		ctx, cancel := context.WithCancel(t.Context())
		f.tell("HELLO", func(conn net.Conn) error {
			cancel()
			return hang(conn)
		})
		if _, err := redis.Open(ctx, f.url()); !errors.Is(err, context.Canceled) {
			t.Errorf("Open: %v, want context.Canceled", err)
		}
	})
}

// TestPassword: where the password may come from, and what is in the way when it
// is wrong, on a real server.
func TestPassword(t *testing.T) {
	server := redistest.Start(t)
	c := admin(t, server)
	if err := c.ACLSetUser(t.Context(), "weir", "on", ">p/s?w#r@d", "~*", "+@all").Err(); err != nil {
		t.Fatal(err)
	}
	if err := c.Set(t.Context(), "{taken}", "a string", 0).Err(); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ url, variable, want string }{
		{"redis://:" + server.Password + "@HOST", "", ""},
		{"redis://:" + server.Password + "@HOST/", "wrong", ""},
		{"redis://default:" + server.Password + "@HOST/15", "", ""},
		{"redis://HOST/0", server.Password, ""},
		{"redis://weir@HOST/0", "p/s?w#r@d", ""},
		{"redis://weir:p%2Fs%3Fw%23r%40d@HOST/0", "", ""},
		{"redis://HOST", "", "refuses the user name and password"},
		{"redis://weir@HOST", "wrong", "refuses the user name and password"},
		{"redis://weir:wrong@HOST", "p/s?w#r@d", "refuses the user name and password"},
		{"redis://:" + server.Password + "@HOST/16", "", "DB index is out of range"},
		{"redis://:" + server.Password + "@HOST?prefix=taken", "", `the prefix "taken" holds something else`},
	} {
		t.Setenv("REDIS_PASSWORD", test.variable)
		b, err := redis.Open(t.Context(), strings.Replace(test.url, "HOST", server.Address, 1))
		switch {
		case err == nil && test.want == "":
			b.Close()
		case err == nil || test.want == "" || !strings.Contains(err.Error(), test.want):
			t.Errorf("Open(%s): %v, want %q", test.url, err, test.want)
		}
	}
}
