package redis

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/weirmq/weir/storage"
)

const (
	// patience is how long the server may take for an answer if the caller sets no
	// limit.
	patience = 30 * time.Second

	// connections is the most that a Bucket opens. Redis has one thread; several
	// connections let many objects share one sync of the disk.
	connections = 32
)

// Open opens the bucket that a URL names, and checks that the server is there and
// accepts the login:
//
//	redis://user:password@host:port/db?prefix=name
//	rediss://…                                      with TLS
//
// User and password may be missing; the password is then taken from REDIS_PASSWORD. The
// port (6379), the number of the database (0) and the prefix (weir), which separates
// several buckets in one database, may be missing too. In a password, write characters
// with a meaning in a URL as %XX.
//
// A node of a Redis Cluster is refused.
func Open(ctx context.Context, rawURL string) (*Bucket, error) {
	options, prefix, err := parse(rawURL)
	if err != nil {
		return nil, fmt.Errorf("open redis bucket: %w", err)
	}
	// The library logs to standard error what its errors already say.
	logging.Disable()
	b := &Bucket{client: redis.NewClient(options), prefix: prefix}
	if err := b.look(ctx); err != nil {
		b.Close()
		return nil, fmt.Errorf("open redis bucket at %s: %w", options.Addr, err)
	}
	return b, nil
}

var errURL = errors.New("the URL must be redis://user:password@host:port/db?prefix=name or rediss://…, " +
	"with / ? # @ : and % in a password written as %2F %3F %23 %40 %3A %25")

// parse parses a URL. A URL that is not understood may have its password in any part,
// so no error shows a part of it before the rest is clear.
func parse(rawURL string) (options *redis.Options, prefix string, err error) {
	_, rest, _ := strings.Cut(rawURL, "://")
	if end := strings.IndexAny(rest, "/?#"); end >= 0 && strings.Contains(rest[end:], "@") {
		return nil, "", errURL
	}
	u, err := url.Parse(rawURL)
	if err != nil || u.Scheme != "redis" && u.Scheme != "rediss" || u.Hostname() == "" || u.Fragment != "" {
		return nil, "", errURL
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, "", errURL
	}
	prefix = "weir"
	for name := range query {
		if name != "prefix" {
			return nil, "", fmt.Errorf("unknown parameter %q: use prefix", name)
		}
		prefix = query.Get(name)
	}
	if err := storage.CheckKey(prefix); err != nil {
		return nil, "", fmt.Errorf("prefix: %w", err)
	}
	db := 0
	if path := strings.Trim(u.Path, "/"); path != "" {
		if db, err = strconv.Atoi(path); err != nil || db < 0 {
			return nil, "", fmt.Errorf("database is %q: it must be a number", path)
		}
	}
	return configure(u, db), prefix, nil
}

// configure turns off the library's own repetition: it would find the object of the
// first attempt. It also turns off the parts of the library's greeting that Redis does
// not need.
func configure(u *url.URL, db int) *redis.Options {
	password, given := u.User.Password()
	if !given {
		password = os.Getenv("REDIS_PASSWORD")
	}
	port := u.Port()
	if port == "" {
		port = "6379"
	}
	o := &redis.Options{
		Addr:     net.JoinHostPort(u.Hostname(), port),
		Username: u.User.Username(),
		Password: password,
		DB:       db,
		Protocol: 2,

		MaxRetries:    -1,
		DialerRetries: 1,
		ReadTimeout:   patience,
		WriteTimeout:  patience,

		PoolSize:         connections,
		PipelinePoolSize: -1, // no second pool for transactions

		OnConnect:                alive,
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	if u.Scheme == "rediss" {
		o.TLSConfig = &tls.Config{ServerName: u.Hostname(), MinVersion: tls.VersionTLS12}
	}
	return o
}

// alive checks that a new connection works. The library takes any refusal of its
// greeting for that of an older server, even one after which a server with too many
// clients closes the connection. The outcome of the next request would then be unknown.
func alive(ctx context.Context, conn *redis.Conn) error {
	err := conn.Ping(ctx).Err()
	if answer := redis.Error(nil); errors.As(err, &answer) {
		return nil // the server is in a bad state; the next request gets the reason
	}
	return err
}

// look checks that the server can hold the bucket. It changes nothing.
func (b *Bucket) look(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	// If the user has no right to ask, MOVED tells whether it is the wrong node.
	if info, err := b.info(ctx, "cluster"); err == nil && info["cluster_enabled"] == "1" {
		return errCluster
	}
	_, err := b.page(ctx, "-", "+", 1)
	if err == nil {
		_, err = b.size(ctx, "weir")
	}
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		_, _, err = b.transaction(ctx)
	}
	_, moved := redis.IsMovedError(err)
	switch {
	case err == nil:
		return nil
	case moved || redis.IsClusterDownError(err):
		return errCluster
	case redis.IsLoadingError(err):
		return fmt.Errorf("the server is still loading its data: try again later: %w", err)
	case redis.IsAuthError(err):
		return fmt.Errorf("the server refuses the user name and password, "+
			"which come from the URL or REDIS_PASSWORD: %w", read(err))
	case redis.IsPermissionError(err):
		return fmt.Errorf("the user lacks a permission that a bucket needs: %w", read(err))
	case redis.HasErrorPrefix(err, "WRONGTYPE"):
		return fmt.Errorf("the key that is the prefix %q holds something else: %w", b.prefix, err)
	case strings.HasPrefix(err.Error(), "ERR "):
		return fmt.Errorf("the server must be Redis 6.2 or later, or compatible with it: %w", err)
	case errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE):
		return fmt.Errorf("the server closed the connection (it may have too many clients): %w", err)
	}
	return fmt.Errorf("no Redis server answers: %w", err)
}

var errCluster = errors.New("the server is a node of a Redis Cluster, which loses acknowledged objects " +
	"when a node fails: use a single server")

// info returns one section of INFO.
func (b *Bucket) info(ctx context.Context, section string) (map[string]string, error) {
	text, err := wait(ctx, b, func() (string, error) { return b.client.Info(ctx, section).Result() })
	if err != nil {
		return nil, err
	}
	values := make(map[string]string)
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			values[name] = value
		}
	}
	return values, nil
}
