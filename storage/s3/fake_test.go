package s3_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/s3"
)

// A store that answers as it is told shows what no real one does on demand:
// which outcome the caller hears for each answer, and how many requests it took.

type answer func(w http.ResponseWriter, r *http.Request)

// refuse answers with a status and an S3 error code.
func refuse(status int, code string) answer {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(status)
		if status != http.StatusNotModified {
			fmt.Fprintf(w, "<Error><Code>%s</Code><Message>as told</Message></Error>", code)
		}
	}
}

// reply answers 200 with a body.
func reply(body string) answer {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Last-Modified", time.Unix(0, 0).UTC().Format(http.TimeFormat))
		w.Header().Set("ETag", `"e"`)
		io.WriteString(w, body)
	}
}

// hangUp ends the connection without an answer, after it has read the request.
func hangUp(w http.ResponseWriter, r *http.Request) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err == nil {
		conn.Close()
	}
}

// hang answers nothing for as long as the client waits.
func hang(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// fake is such a store: it gives the answers in turn, and the last one again
// and again.
type fake struct {
	t       *testing.T
	server  *httptest.Server
	mu      sync.Mutex
	answers []answer        // guarded by mu
	seen    []*http.Request // guarded by mu
}

func newFake(t *testing.T, answers ...answer) (*fake, storage.Bucket) {
	t.Helper()
	t.Setenv("AWS_ACCESS_KEY_ID", "key")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	f := &fake{t: t, answers: answers}
	f.server = httptest.NewServer(f)
	// A connection that is kept can break under the next request, which is
	// unknown where a refused one is not.
	f.server.Config.SetKeepAlivesEnabled(false)
	t.Cleanup(f.server.Close)
	return f, mustOpen(t, "s3://fake?region=us-east-1&endpoint="+url.QueryEscape(f.server.URL))
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	if r.Method == http.MethodHead {
		return // Open looks whether the bucket is there
	}
	f.mu.Lock()
	f.seen = append(f.seen, r)
	next := f.answers[0]
	if len(f.answers) > 1 {
		f.answers = f.answers[1:]
	}
	f.mu.Unlock()
	next(w, r)
}

func (f *fake) requests() []*http.Request {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.seen
}

func TestCreateOutcomes(t *testing.T) {
	const nothing, exists, unknown, stored = "nothing happened", "exists", "unknown", "stored"
	conflict := refuse(409, "ConditionalRequestConflict")
	for _, test := range []struct {
		name     string
		answers  []answer
		want     string
		requests int
	}{
		{"200", []answer{reply("")}, stored, 1},
		{"412", []answer{refuse(412, "PreconditionFailed")}, exists, 1},
		{"304", []answer{refuse(304, "")}, exists, 1},
		{"409 then 200", []answer{conflict, reply("")}, stored, 2},
		{"409 then 412", []answer{conflict, refuse(412, "PreconditionFailed")}, exists, 2},
		{"409 then lost", []answer{conflict, hangUp}, unknown, 2},
		{"409 for good", []answer{conflict}, nothing, 6},
		{"400", []answer{refuse(400, "BadDigest")}, nothing, 1},
		{"403", []answer{refuse(403, "AccessDenied")}, nothing, 1},
		{"404", []answer{refuse(404, "NoSuchBucket")}, nothing, 1},
		{"408", []answer{refuse(408, "RequestTimeout")}, unknown, 1},
		{"429", []answer{refuse(429, "TooManyRequests")}, nothing, 1},
		{"500", []answer{refuse(500, "InternalError")}, unknown, 1},
		{"501", []answer{refuse(501, "NotImplemented")}, unknown, 1},
		{"502", []answer{refuse(502, "")}, unknown, 1},
		{"503 SlowDown", []answer{refuse(503, "SlowDown")}, unknown, 1},
		{"connection lost", []answer{hangUp}, unknown, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			f, b := newFake(t, test.answers...)
			err := b.Create(t.Context(), "some/key", []byte("body"))
			got := stored
			switch {
			case errors.Is(err, storage.ErrUnknown):
				got = unknown
			case errors.Is(err, storage.ErrExists):
				got = exists
			case err != nil:
				got = nothing
			}
			if got != test.want {
				t.Errorf("Create: %v: %s, want %s", err, got, test.want)
			}
			seen := f.requests()
			if len(seen) != test.requests {
				t.Errorf("%d requests, want %d", len(seen), test.requests)
			}
			for _, r := range seen {
				if r.Method != http.MethodPut || r.URL.Path != "/fake/some/key" || r.URL.RawQuery != "" {
					t.Errorf("request %s %s, want one PUT of the whole object", r.Method, r.URL)
				}
				if r.Header.Get("If-None-Match") != "*" || r.Header.Get("x-amz-checksum-crc32c") == "" {
					t.Errorf("request without create-if-absent or checksum: %v", r.Header)
				}
			}
		})
	}
}

func TestCreateTimeout(t *testing.T) {
	_, b := newFake(t, hang)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := b.Create(ctx, "key", []byte("body"))
	if !errors.Is(err, storage.ErrUnknown) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Create: %v, want ErrUnknown and the time-out", err)
	}
}

func TestUnreachable(t *testing.T) {
	f, b := newFake(t, reply(""))
	f.server.Close()
	for op, err := range map[string]error{
		"Create": b.Create(t.Context(), "key", []byte("body")),
		"Delete": b.Delete(t.Context(), "key"),
	} {
		if err == nil || errors.Is(err, storage.ErrUnknown) {
			t.Errorf("%s: %v, want an error that says nothing happened", op, err)
		}
	}
}

func TestDeleteOutcomes(t *testing.T) {
	deleted := func(keys ...string) answer {
		body := "<DeleteResult>"
		for _, key := range keys {
			body += "<Deleted><Key>" + key + "</Key></Deleted>"
		}
		return reply(body + "</DeleteResult>")
	}
	for _, test := range []struct {
		name    string
		answer  answer
		ok      bool
		unknown bool
	}{
		{"all", deleted("a", "b"), true, false},
		{"one is not mentioned", deleted("a"), false, true},
		{"one is refused", reply("<DeleteResult><Deleted><Key>a</Key></Deleted>" +
			"<Error><Key>b</Key><Code>InternalError</Code></Error></DeleteResult>"), false, true},
		{"one is an invalid argument", reply("<DeleteResult><Deleted><Key>a</Key></Deleted>" +
			"<Error><Key>b</Key><Code>InvalidArgument</Code></Error></DeleteResult>"), false, true},
		{"403", refuse(403, "AccessDenied"), false, false},
		{"503", refuse(503, "SlowDown"), false, true},
		{"half an answer", reply("<DeleteResult><Deleted><Key>a</Key></Del"), false, true},
		{"connection lost", hangUp, false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, b := newFake(t, test.answer)
			err := b.Delete(t.Context(), "a", "b")
			if (err == nil) != test.ok || errors.Is(err, storage.ErrUnknown) != test.unknown {
				t.Errorf("Delete: %v, want success %v, unknown %v", err, test.ok, test.unknown)
			}
		})
	}
}

func TestGetOutcomes(t *testing.T) {
	for _, test := range []struct {
		name    string
		answer  answer
		want    string
		missing bool
		fails   bool
	}{
		{"range ignored", reply("0123456789"), "234", false, false},
		{"range beyond the end", refuse(416, "InvalidRange"), "", false, false},
		{"no object", refuse(404, "NoSuchKey"), "", true, true},
		{"no bucket", refuse(404, "NoSuchBucket"), "", false, true},
		{"403", refuse(403, "AccessDenied"), "", false, true},
		{"503", refuse(503, "SlowDown"), "", false, true},
		{"connection lost", hangUp, "", false, true},
		{"half a body", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "3")
			reply("2")(w, r)
		}, "", false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, b := newFake(t, test.answer)
			got, err := b.Get(t.Context(), "key", 2, 3)
			if (err != nil) != test.fails || errors.Is(err, fs.ErrNotExist) != test.missing || string(got) != test.want {
				t.Errorf("Get: %q, %v, want %q, missing %v", got, err, test.want, test.missing)
			}
		})
	}
}

// TestListCancelled: a listing that was cut short does not pass for a whole one.
func TestListCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	_, b := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		cancel()
		hang(w, r)
	})
	if keys, err := b.List(ctx, "", "", 10); !errors.Is(err, context.Canceled) {
		t.Errorf("List: %q, %v, want context.Canceled", keys, err)
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "key")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	for _, test := range []struct{ url, want string }{
		{"s3:bucket", "must be s3://bucket/prefix"},
		{"s3://", "must be s3://bucket/prefix"},
		{"s3:///prefix", "must be s3://bucket/prefix"},
		{"s3://user:hunter2@bucket", "must be s3://bucket/prefix"},
		{"s3://user:hunter2%@bucket", "must be s3://bucket/prefix"}, // cannot be parsed
		{"s3://bucket?endpoint=http://user:hunter2@localhost:1&region=x", "must be http://host:port"},
		{"s3://bucket/a//b", "invalid key"},
		{"s3://bucket?endpiont=http://localhost", `unknown parameter "endpiont"`},
		{"s3://bucket?endpoint=localhost:9000", "must be http://host:port"},
		{"s3://bucket?endpoint=http://localhost/path", "must be http://host:port"},
		{"s3://bucket?style=virtual", "must be path or host"},
		{"s3://bucket?region=x&endpoint=http://127.0.0.1:1", "connection refused"},
	} {
		_, err := s3.Open(t.Context(), test.url)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("Open(%s): %v, want %q", test.url, err, test.want)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error shows the password: %v", err)
		}
	}
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY", "AWS_SECRET_KEY",
		"MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD", "MINIO_ACCESS_KEY", "MINIO_SECRET_KEY"} {
		t.Setenv(name, "")
	}
	t.Setenv("HOME", t.TempDir())
	if _, err := s3.Open(t.Context(), "s3://bucket"); err == nil || !strings.Contains(err.Error(), "no credentials") {
		t.Errorf("Open without credentials: %v", err)
	}
}
