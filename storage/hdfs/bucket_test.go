package hdfs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/hdfs"
	"github.com/weirmq/weir/storage/hdfs/hdfstest"
	"github.com/weirmq/weir/storage/storagetest"
)

func mustOpen(t testing.TB, url string) *hdfs.Bucket {
	t.Helper()
	b, err := hdfs.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// TestHDFS runs everything that needs a real server.
func TestHDFS(t *testing.T) {
	server := hdfstest.Start(t)
	t.Run("Bucket", func(t *testing.T) {
		storagetest.RunShared(t, func(t *testing.T) (a, b storage.Bucket) {
			url := server.URL(server.NewFolder())
			return mustOpen(t, url), mustOpen(t, url)
		})
	})
	t.Run("Probe", func(t *testing.T) { testProbe(t, server) })
	t.Run("Clean", func(t *testing.T) { testClean(t, server) })
	t.Run("Strangers", func(t *testing.T) { testStrangers(t, server) })
	t.Run("Folders", func(t *testing.T) { testFolders(t, server) })
	t.Run("Permission", func(t *testing.T) { testPermission(t, server) })
	t.Run("Warnings", func(t *testing.T) {
		b := mustOpen(t, server.URL(server.NewFolder()))
		wantWarnings(t, b, "one copy of each object", "keeps its log in one place")
	})
	t.Run("Kill", func(t *testing.T) { testKill(t, server) })
}

func testProbe(t *testing.T, server *hdfstest.Server) {
	folder := server.NewFolder()
	b := mustOpen(t, server.URL(folder))
	if err := storage.Probe(t.Context(), b); err != nil {
		t.Error(err)
	}
	if keys, err := b.List(t.Context(), "", "", 10); err != nil || len(keys) != 0 {
		t.Errorf("the probe left %q, %v", keys, err)
	}
	if left := webHDFS(t, server, http.MethodGet, folder+"/.tmp", "LISTSTATUS", nil, ""); strings.Contains(left, "FILE") {
		t.Errorf("there are temporary files left: %s", left)
	}
}

// webHDFS does an operation beside the bucket, and follows redirects.
func webHDFS(t *testing.T, server *hdfstest.Server, method, path, op string, query url.Values, body string) string {
	t.Helper()
	u := url.URL{Scheme: "http", Host: server.Namenode, Path: "/webhdfs/v1" + path}
	if query == nil {
		query = url.Values{}
	}
	query.Set("op", op)
	query.Set("user.name", "weir")
	u.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(t.Context(), method, u.String(), strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= 300 {
		t.Fatalf("%s of %s: %s: %s, %v", op, path, resp.Status, got, err)
	}
	return string(got)
}

// testClean: Open removes temporary files of long ago, and no others.
func testClean(t *testing.T, server *hdfstest.Server) {
	folder := server.NewFolder()
	b := mustOpen(t, server.URL(folder))
	if err := b.Create(t.Context(), "old", nil); err != nil {
		t.Fatal(err)
	}
	for name, age := range map[string]time.Duration{".tmp/old": 25 * time.Hour, ".tmp/new": 23 * time.Hour, "old": 1000 * time.Hour} {
		if name != "old" {
			webHDFS(t, server, http.MethodPut, folder+"/"+name, "CREATE", nil, "x")
		}
		webHDFS(t, server, http.MethodPut, folder+"/"+name, "SETTIMES",
			url.Values{"modificationtime": {fmt.Sprint(time.Now().Add(-age).UnixMilli())}}, "")
	}
	mustOpen(t, server.URL(folder))
	left := webHDFS(t, server, http.MethodGet, folder+"/.tmp", "LISTSTATUS", nil, "")
	if strings.Contains(left, `"old"`) || !strings.Contains(left, `"new"`) {
		t.Errorf("left is %s, want new alone", left)
	}
	if keys, err := b.List(t.Context(), "", "", 10); err != nil || !slices.Equal(keys, []string{"old"}) {
		t.Errorf("List: %q, %v, want the old object alone", keys, err)
	}
}

// testStrangers: what has no name of an object is not listed.
func testStrangers(t *testing.T, server *hdfstest.Server) {
	folder := server.NewFolder()
	b := mustOpen(t, server.URL(folder))
	for _, name := range []string{"a b", "a+", "_COPYING ", ".hidden", "ä/c", "a!/c", "f/.x"} {
		webHDFS(t, server, http.MethodPut, folder+"/"+name, "CREATE", nil, "x")
	}
	for _, key := range []string{"a", "a-", "f/x"} {
		if err := b.Create(t.Context(), key, nil); err != nil {
			t.Fatal(err)
		}
	}
	if keys, err := b.List(t.Context(), "", "", 10); err != nil || !slices.Equal(keys, []string{"a", "a-", "f/x"}) {
		t.Errorf("List: %q, %v", keys, err)
	}
}

// testFolders: a Create whose folder is deleted under it makes it anew, or has
// done nothing.
func testFolders(t *testing.T, server *hdfstest.Server) {
	url := server.URL(server.NewFolder())
	a, b := mustOpen(t, url), mustOpen(t, url)
	var wg sync.WaitGroup
	created := make(chan string)
	wg.Go(func() {
		defer close(created)
		for i := range 30 {
			key := fmt.Sprintf("d/e/%d", i)
			switch err := a.Create(t.Context(), key, []byte(key)); outcome(err) {
			case "done":
				created <- key
			case "nothing":
				t.Logf("Create(%s): %v", key, err)
			default:
				t.Errorf("Create(%s): %v, want success or nothing", key, err)
			}
		}
	})
	for key := range created {
		if got, err := b.Get(t.Context(), key, 0, -1); err != nil || string(got) != key {
			t.Errorf("Get(%s): %q, %v", key, got, err)
		}
		if err := b.Delete(t.Context(), key, "d/e", "d"); err != nil {
			t.Errorf("Delete: %v", err)
		}
	}
	wg.Wait()
	for _, key := range []string{"d/e/last", "d/last"} {
		if err := a.Create(t.Context(), key, nil); err != nil {
			t.Errorf("Create at last: %v", err)
		}
	}
	// No key is the folder of another; an attempt to make one is refused.
	for _, key := range []string{"d/last/x", "d/last/x/y", "d/e"} {
		if err := a.Create(t.Context(), key, nil); outcome(err) != "nothing" {
			t.Errorf("Create(%s): %v, want an error that says nothing happened", key, err)
		}
	}
	if err := a.Delete(t.Context(), "d/last/x", "d/last/x/y"); err != nil {
		t.Errorf("Delete below an object: %v", err)
	}
}

func testPermission(t *testing.T, server *hdfstest.Server) {
	url := server.URL(server.NewFolder())
	mustOpen(t, url)
	_, err := hdfs.Open(t.Context(), strings.Replace(url, "user=weir", "user=other", 1))
	if !errors.Is(err, fs.ErrPermission) || strings.Contains(err.Error(), "\n") {
		t.Errorf("Open by another user: %v, want fs.ErrPermission", err)
	}
}

// testKill: both servers are killed while objects are created. Each one that was
// acked is there afterwards and whole, and none of which nothing had happened.
func testKill(t *testing.T, server *hdfstest.Server) {
	folder := server.NewFolder()
	b := mustOpen(t, server.URL(folder))
	body := func(key string) []byte { return storagetest.Content(key, 20_000) }
	const writers = 6
	ends := make([]error, writers) // of the last object of each
	acks := make(chan string)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := 0; ends[w] == nil; i++ {
				key := fmt.Sprintf("w%d/%04d", w, i)
				if ends[w] = b.Create(t.Context(), key, body(key)); ends[w] == nil {
					acks <- key
				}
			}
		})
	}
	go func() {
		wg.Wait()
		close(acks)
	}()
	acked := make([]int, writers)
	total := 0
	var killed sync.WaitGroup
	for key := range acks {
		acked[key[1]-'0']++
		if total++; total == 50 {
			killed.Go(server.Kill)
		}
	}
	killed.Wait()
	server.Restart(t)

	b = mustOpen(t, server.URL(folder))
	for w := range writers {
		for i := range acked[w] {
			key := fmt.Sprintf("w%d/%04d", w, i)
			if got, err := b.Get(t.Context(), key, 0, -1); err != nil || !bytes.Equal(got, body(key)) {
				t.Errorf("%s was acked, and is not whole: %d bytes, %v", key, len(got), err)
			}
		}
		key := fmt.Sprintf("w%d/%04d", w, acked[w])
		got, err := b.Get(t.Context(), key, 0, -1)
		if err == nil && (outcome(ends[w]) != "unknown" || !bytes.Equal(got, body(key))) {
			t.Errorf("%s is there, %d bytes, after: %v", key, len(got), ends[w])
		}
		t.Logf("writer %d: %d acked, then %s: %v", w, acked[w], outcome(ends[w]), ends[w])
	}
}

func BenchmarkCreate(b *testing.B) {
	server := hdfstest.Start(b)
	storagetest.Bench(b, func(b *testing.B) storage.Bucket { return mustOpen(b, server.URL(server.NewFolder())) })
}
