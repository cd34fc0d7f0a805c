// Package open turns a URL into a bucket. It has the only list of all kinds.
package open

import (
	"context"
	"fmt"
	"strings"

	"github.com/weirmq/weir/configs"
	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/file"
	"github.com/weirmq/weir/storage/hdfs"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/mysql"
	"github.com/weirmq/weir/storage/redis"
	"github.com/weirmq/weir/storage/s3"
)

// scheme is a kind of bucket. open gets the whole URL, and the part after the colon.
type scheme struct {
	name string
	open func(ctx context.Context, url, rest string) (storage.Bucket, error)
}

func schemes() []scheme {
	return []scheme{
		{"mem", openMem},
		{"file", openFile},
		{"s3", openS3},
		{"mysql", openMySQL},
		{"redis", openRedis},
		{"rediss", openRedis},
		{"hdfs", openHDFS},
	}
}

// Open opens the bucket that a URL names:
//
//	mem:                    in memory, empty, gone with the process
//	file:rel/path           a folder
//	file:///abs/path        the same; the path is taken as it is, without %-escapes
//	s3://bucket/prefix?…    see storage/s3
//	mysql://user@host:port/database?…   see storage/mysql
//	redis://host:port/db?…, rediss://…  see storage/redis
//	hdfs://namenode:9870/folder?…       see storage/hdfs
//
// Buckets that are reached over a network are wrapped in storage.Retry and
// storage.Limit.
//
// Open does not check the store's promises: storage.Probe does.
func Open(ctx context.Context, url string) (storage.Bucket, error) {
	s, rest, err := schemeOf(url)
	if err != nil {
		return nil, err
	}
	return s.open(ctx, url, rest)
}

// Check returns an error if a URL names no known kind of bucket. It opens nothing.
func Check(url string) error {
	_, _, err := schemeOf(url)
	return err
}

func schemeOf(url string) (s scheme, rest string, err error) {
	name, rest, found := strings.Cut(url, ":")
	if !found {
		return scheme{}, "", fmt.Errorf("bucket %q has no scheme: for a folder write file:%s", url, url)
	}
	for _, s := range schemes() {
		if s.name == name {
			return s, rest, nil
		}
	}
	return scheme{}, "", fmt.Errorf("bucket %q has the unknown scheme %q: %s", url, name, suggestion(name))
}

func openMem(_ context.Context, url, rest string) (storage.Bucket, error) {
	if rest != "" {
		return nil, fmt.Errorf("bucket %q: mem: takes nothing after the colon", url)
	}
	return mem.New(), nil
}

func openFile(_ context.Context, url, rest string) (storage.Bucket, error) {
	if dir, found := strings.CutPrefix(rest, "//"); found {
		if !strings.HasPrefix(dir, "/") {
			return nil, fmt.Errorf("bucket %q: write file:rel/path or file:///abs/path", url)
		}
		rest = dir
	}
	if rest == "" {
		return nil, fmt.Errorf("bucket %q: no folder given", url)
	}
	b, err := file.Open(rest)
	if err != nil {
		return nil, err // not the nil *file.Bucket as a Bucket
	}
	return b, nil
}

// requests is how many requests to a store over the network a node has under way:
// enough for recovery and a full pipeline, but not a connection for every reader that
// is behind.
const requests = 64

func openS3(ctx context.Context, url, _ string) (storage.Bucket, error) {
	b, err := s3.Open(ctx, url)
	return remote(b, err)
}

func openMySQL(ctx context.Context, url, _ string) (storage.Bucket, error) {
	b, err := mysql.Open(ctx, url)
	return remote(b, err)
}

func openRedis(ctx context.Context, url, _ string) (storage.Bucket, error) {
	b, err := redis.Open(ctx, url)
	return remote(b, err)
}

func openHDFS(ctx context.Context, url, _ string) (storage.Bucket, error) {
	b, err := hdfs.Open(ctx, url)
	return remote(b, err)
}

func remote(b storage.Bucket, err error) (storage.Bucket, error) {
	if err != nil {
		return nil, err // not a nil *Bucket as a Bucket
	}
	return storage.Retry(storage.Limit(b, requests), storage.RetryOptions{}), nil
}

// suggestion names the known scheme that looks most like name, and all of them.
func suggestion(name string) string {
	var known []string
	for _, s := range schemes() {
		known = append(known, s.name)
	}
	all := "known are " + strings.Join(known, ", ")
	if nearest := configs.Nearest(strings.ToLower(name), known); nearest != "" {
		return fmt.Sprintf("did you mean %q? (%s)", nearest, all)
	}
	return all
}
