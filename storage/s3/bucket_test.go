package s3_test

import (
	"strings"
	"testing"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/s3"
	"github.com/weirmq/weir/storage/s3/s3test"
	"github.com/weirmq/weir/storage/storagetest"
)

func mustOpen(t testing.TB, url string) storage.Bucket {
	t.Helper()
	b, err := s3.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { storage.Close(b) })
	return b
}

func TestMinIO(t *testing.T) { testServer(t, s3test.Start(t)) }

func TestVersity(t *testing.T) { testServer(t, s3test.StartVersity(t)) }

// testServer runs everything that needs a real server.
func testServer(t *testing.T, server *s3test.Server) {
	t.Run("Bucket", func(t *testing.T) {
		storagetest.RunShared(t, func(t *testing.T) (a, b storage.Bucket) {
			url := server.NewBucket(t)
			return mustOpen(t, url), mustOpen(t, url)
		})
	})
	t.Run("Prefix", func(t *testing.T) {
		url := server.NewBucket(t)
		whole, part := mustOpen(t, url), mustOpen(t, strings.Replace(url, "?", "/some/prefix/?", 1))
		for _, key := range []string{"a/b", "c"} {
			if err := part.Create(t.Context(), key, nil); err != nil {
				t.Fatal(err)
			}
		}
		keys, err := whole.List(t.Context(), "", "", 10)
		if got := strings.Join(keys, " "); err != nil || got != "some/prefix/a/b some/prefix/c" {
			t.Errorf("the whole bucket lists %q, %v", got, err)
		}
		keys, err = part.List(t.Context(), "", "a/b", 10)
		if got := strings.Join(keys, " "); err != nil || got != "c" {
			t.Errorf("the part lists %q, %v", got, err)
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
	t.Run("NoBucket", func(t *testing.T) {
		_, err := s3.Open(t.Context(), server.URL("weir-not-there"))
		if err == nil || !strings.Contains(err.Error(), `there is no bucket "weir-not-there" at `) {
			t.Errorf("Open of a bucket that is not there: %v", err)
		}
	})
	t.Run("WrongSecret", func(t *testing.T) {
		url := server.NewBucket(t)
		b := mustOpen(t, url)
		t.Setenv("AWS_SECRET_ACCESS_KEY", "not the one")
		if _, err := s3.Open(t.Context(), url); err == nil || !strings.Contains(err.Error(), "whether the bucket exists") {
			t.Errorf("Open with a wrong secret: %v", err)
		}
		if err := b.Create(t.Context(), "key", nil); err != nil {
			t.Errorf("Create with the right one: %v", err)
		}
	})
}

func BenchmarkCreate(b *testing.B) {
	server := s3test.Start(b)
	storagetest.Bench(b, func(b *testing.B) storage.Bucket { return mustOpen(b, server.NewBucket(b)) })
}
