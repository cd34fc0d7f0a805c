package hdfs_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/hdfs"
)

// A server that answers as it is told shows what no real one does on demand:
// which outcome the caller hears for each answer, and what is sent and what not.

type answer func(w http.ResponseWriter, r *http.Request)

// refuse answers with an exception.
func refuse(status int, exception string) answer {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"RemoteException":{"exception":%q,"javaClassName":"a.b","message":"as told\nat stack"}}`, exception)
	}
}

// status answers with a status and no exception.
func status(code int) answer {
	return func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(code) }
}

// reply answers 200 with a body.
func reply(body string) answer {
	return func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, body) }
}

// toDatanode redirects, with all parameters, as a namenode does.
func toDatanode(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Location", "http://"+r.Host+r.URL.Path+"?datanode&"+r.URL.RawQuery)
	w.WriteHeader(http.StatusTemporaryRedirect)
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

const (
	isTrue  = `{"boolean":true}`
	isFalse = `{"boolean":false}`
)

// fake is such a server, namenode and datanode in one. Operations are named as
// in the protocol; what the datanode is asked has a + in front.
type fake struct {
	server *httptest.Server

	mu      sync.Mutex
	answers answers    // guarded by mu: given in turn, the last one again and again
	seen    []string   // guarded by mu: the operations
	urls    []*url.URL // guarded by mu: their URLs
}

func newFake(t *testing.T) *fake {
	t.Helper()
	f := &fake{answers: answers{
		"MKDIRS":           {reply(isTrue)},
		"RENAME":           {refuse(404, "FileNotFoundException")},
		"GETFILESTATUS":    {reply(`{"FileStatus":{"type":"FILE","length":10}}`)},
		"LISTSTATUS_BATCH": {reply(`{"DirectoryListing":{}}`)},
		"CREATE":           {toDatanode},
		"+CREATE":          {status(201)},
		"OPEN":             {toDatanode},
		"+OPEN":            {reply("0123456789")},
		"DELETE":           {reply(isTrue)},
		"SETTIMES":         {reply("")},
	}}
	f.server = httptest.NewServer(f)
	// A connection that is kept can break under the next request, which is
	// unknown where a refused one is not.
	f.server.Config.SetKeepAlivesEnabled(false)
	t.Cleanup(f.server.Close)
	return f
}

// open opens a bucket on the fake servers. From then on a rename succeeds.
func open(t *testing.T, fakes ...*fake) *hdfs.Bucket {
	t.Helper()
	var nodes []string
	for _, f := range fakes {
		nodes = append(nodes, f.server.Listener.Addr().String())
	}
	b := mustOpen(t, "hdfs://"+strings.Join(nodes, ",")+"/weir/bucket?user=me")
	for _, f := range fakes {
		f.set("RENAME", reply(""))
		f.seen, f.urls = nil, nil
	}
	return b
}

func (f *fake) set(op string, answers ...answer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answers[op] = answers
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	op := r.URL.Query().Get("op")
	if r.URL.Query().Has("datanode") {
		op = "+" + op
	}
	if op == "" {
		op = r.URL.Path // jmx, conf
	}
	next := status(404)
	f.mu.Lock()
	if op[0] != '/' {
		f.seen, f.urls = append(f.seen, op), append(f.urls, r.URL)
	}
	if answers := f.answers[op]; len(answers) > 0 {
		next = answers[0]
		if len(answers) > 1 {
			f.answers[op] = answers[1:]
		}
	}
	f.mu.Unlock()
	next(w, r)
}

func (f *fake) requests() ([]string, []*url.URL) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.seen, f.urls
}

// outcome says what the caller of a changing method hears.
func outcome(err error) string {
	switch {
	case errors.Is(err, storage.ErrUnknown):
		return "unknown"
	case errors.Is(err, storage.ErrExists):
		return "exists"
	case err != nil:
		return "nothing"
	}
	return "done"
}

type answers map[string][]answer

// createCase says what the caller of Create hears when the server answers some
// operations in its own way, and which requests there are.
type createCase struct {
	name    string
	answers answers
	want    string
	seen    string
}

func createCases() []createCase {
	missing, taken := refuse(404, "FileNotFoundException"), refuse(403, "FileAlreadyExistsException")
	gone, unsaid := []answer{reply(isFalse)}, []answer{reply(`{"boo`)}
	const flow = "CREATE +CREATE RENAME"
	return []createCase{
		{"all well", nil, "done", flow},
		{"taken", answers{"RENAME": {taken}}, "exists", flow + " SETTIMES DELETE"},
		{"taken, file left", answers{"RENAME": {taken}, "DELETE": {hangUp}}, "exists", flow + " SETTIMES DELETE"},
		// The time that is set shows that the other one's rename is on disk.
		{"taken, not synced", answers{"RENAME": {taken}, "SETTIMES": {hangUp}, "DELETE": {hangUp}}, "nothing", flow + " SETTIMES DELETE"},
		{"taken, and gone again", answers{"RENAME": {taken}, "SETTIMES": {missing}, "DELETE": gone}, "nothing", flow + " SETTIMES DELETE"},
		{"new folder", answers{"RENAME": {missing, reply("")}}, "done", flow + " MKDIRS RENAME"},
		{"new folder, taken", answers{"RENAME": {missing, taken}}, "exists", flow + " MKDIRS RENAME SETTIMES DELETE"},
		{"new folder, lost", answers{"RENAME": {missing, hangUp}, "DELETE": gone}, "unknown", flow + " MKDIRS RENAME DELETE"},
		{"folder is an object", answers{"RENAME": {missing}, "MKDIRS": {taken}}, "nothing", flow + " MKDIRS DELETE"},
		{"cleaned up", answers{"RENAME": {missing}, "DELETE": gone}, "nothing",
			flow + " MKDIRS RENAME MKDIRS RENAME MKDIRS RENAME DELETE"},

		{"no datanode", answers{"CREATE": {refuse(403, "IOException")}}, "nothing", "CREATE DELETE"},
		{"not asked for a datanode", answers{"CREATE": {hangUp}}, "nothing", "CREATE DELETE"},
		{"no redirect", answers{"CREATE": {reply("")}}, "nothing", "CREATE DELETE"},
		{"content lost", answers{"+CREATE": {hangUp}}, "nothing", "CREATE +CREATE DELETE"},
		{"content lost, and more", answers{"+CREATE": {hangUp}, "DELETE": {hangUp}}, "nothing", "CREATE +CREATE DELETE"},
		{"content refused", answers{"+CREATE": {refuse(403, "DSQuotaExceededException")}}, "nothing", "CREATE +CREATE DELETE"},
		{"content, 500", answers{"+CREATE": {status(500)}}, "nothing", "CREATE +CREATE DELETE"},
		{"content, 200", answers{"+CREATE": {reply("")}}, "nothing", "CREATE +CREATE DELETE"},

		// After a rename that may be under way, the deletion decides.
		{"rename lost, undone", answers{"RENAME": {hangUp}}, "nothing", flow + " DELETE"},
		{"rename lost, done", answers{"RENAME": {hangUp}, "DELETE": gone}, "unknown", flow + " DELETE"},
		{"rename and deletion lost", answers{"RENAME": {hangUp}, "DELETE": {hangUp}}, "unknown", flow + " DELETE"},
		{"rename lost, half an answer", answers{"RENAME": {hangUp}, "DELETE": unsaid}, "unknown", flow + " DELETE"},
		{"rename lost, deletion refused", answers{"RENAME": {hangUp}, "DELETE": {refuse(403, "SafeModeException")}}, "unknown", flow + " DELETE"},
		{"rename 500", answers{"RENAME": {status(500)}, "DELETE": gone}, "unknown", flow + " DELETE"},
		{"rename 503", answers{"RENAME": {status(503)}, "DELETE": gone}, "unknown", flow + " DELETE"},
		{"rename 408", answers{"RENAME": {status(408)}, "DELETE": gone}, "unknown", flow + " DELETE"},
		{"rename 307", answers{"RENAME": {toDatanode}, "DELETE": gone}, "unknown", flow + " DELETE"},
		{"rename IOException", answers{"RENAME": {refuse(403, "IOException")}, "DELETE": gone}, "unknown", flow + " DELETE"},
		{"rename NullPointerException", answers{"RENAME": {refuse(500, "NullPointerException")}, "DELETE": gone}, "unknown", flow + " DELETE"},

		{"rename 401", answers{"RENAME": {status(401)}, "DELETE": gone}, "nothing", flow + " DELETE"},
		{"rename 403", answers{"RENAME": {status(403)}, "DELETE": gone}, "nothing", flow + " DELETE"},
		{"safe mode", answers{"RENAME": {refuse(403, "SafeModeException")}, "DELETE": {refuse(403, "SafeModeException")}}, "nothing", flow + " DELETE"},
		{"starting", answers{"RENAME": {refuse(403, "RetriableException")}, "DELETE": gone}, "nothing", flow + " DELETE"},
		{"standby", answers{"RENAME": {refuse(403, "StandbyException")}, "DELETE": gone}, "nothing", flow + " DELETE"},
		{"no permission", answers{"RENAME": {refuse(403, "AccessControlException")}, "DELETE": gone}, "nothing", flow + " DELETE"},
		{"quota", answers{"RENAME": {refuse(403, "NSQuotaExceededException")}, "DELETE": gone}, "nothing", flow + " DELETE"},
		{"full folder", answers{"RENAME": {refuse(403, "MaxDirectoryItemsExceededException")}, "DELETE": gone}, "nothing", flow + " DELETE"},
		{"below an object", answers{"RENAME": {refuse(403, "ParentNotDirectoryException")}, "DELETE": gone}, "nothing", flow + " DELETE"},
	}
}

func TestCreateOutcomes(t *testing.T) {
	for _, test := range createCases() {
		t.Run(test.name, func(t *testing.T) {
			f := newFake(t)
			b := open(t, f)
			for op, list := range test.answers {
				f.set(op, list...)
			}
			err := b.Create(t.Context(), "some/key", []byte("body"))
			if got := outcome(err); got != test.want {
				t.Errorf("Create: %v: %s, want %s", err, got, test.want)
			}
			seen, urls := f.requests()
			if got := strings.Join(seen, " "); got != test.seen {
				t.Errorf("requests %s, want %s", got, test.seen)
			}
			checkCreate(t, seen, urls)
		})
	}
}

// checkCreate looks whether all requests of a Create are about one new temporary
// file, and ask for what makes the object durable and the name taken once.
func checkCreate(t *testing.T, seen []string, urls []*url.URL) {
	t.Helper()
	const tempDir = "/webhdfs/v1/weir/bucket/.tmp/"
	for i, u := range urls {
		query := u.Query()
		if query.Get("user.name") != "me" {
			t.Errorf("%s without the user: %s", seen[i], u)
		}
		want := map[string]string{
			"CREATE":  "overwrite=false createflag=CREATE,SYNC_BLOCK permission=640",
			"+CREATE": "overwrite=false createflag=CREATE,SYNC_BLOCK permission=640",
			"RENAME":  "renameoptions=NONE destination=/weir/bucket/some/key",
			"DELETE":  "recursive=false",
			"MKDIRS":  "permission=750",
		}[seen[i]]
		for parameter := range strings.FieldsSeq(want) {
			if name, value, _ := strings.Cut(parameter, "="); query.Get(name) != value {
				t.Errorf("%s without %s: %s", seen[i], parameter, u)
			}
		}
		switch {
		case seen[i] == "SETTIMES":
			if u.Path != "/webhdfs/v1/weir/bucket/some/key" || !query.Has("modificationtime") {
				t.Errorf("SETTIMES of %s", u)
			}
		case seen[i] == "MKDIRS":
			if u.Path != "/webhdfs/v1/weir/bucket/some" {
				t.Errorf("MKDIRS of %s", u.Path)
			}
		case !strings.HasPrefix(u.Path, tempDir) || u.Path != urls[0].Path || len(u.Path) < len(tempDir)+26:
			t.Errorf("%s of %s", seen[i], u.Path)
		}
	}
}

func TestCreateTimeout(t *testing.T) {
	for _, test := range []struct{ op, deleted, want string }{
		{"CREATE", isTrue, "nothing"},
		{"+CREATE", isTrue, "nothing"},
		{"RENAME", isTrue, "nothing"},
		{"RENAME", isFalse, "unknown"},
	} {
		f := newFake(t)
		b := open(t, f)
		f.set(test.op, hang)
		f.set("DELETE", reply(test.deleted))
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		err := b.Create(ctx, "key", []byte("body"))
		if outcome(err) != test.want || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Create with a hanging %s, file there: %s: %v, want %s and the time-out", test.op, test.deleted, err, test.want)
		}
	}
}

func TestUnreachable(t *testing.T) {
	f := newFake(t)
	b := open(t, f)
	f.server.Close()
	for op, err := range map[string]error{
		"Create": b.Create(t.Context(), "key", []byte("body")),
		"Delete": b.Delete(t.Context(), "key"),
	} {
		if outcome(err) != "nothing" {
			t.Errorf("%s: %v, want an error that says nothing happened", op, err)
		}
	}
}

func TestDeleteOutcomes(t *testing.T) {
	for _, test := range []struct {
		name   string
		answer answer
		want   string
	}{
		{"there", reply(isTrue), "done"},
		{"absent", reply(isFalse), "done"},
		{"folder", refuse(403, "PathIsNotEmptyDirectoryException"), "done"},
		{"below an object", refuse(403, "ParentNotDirectoryException"), "done"},
		{"not found", refuse(404, "FileNotFoundException"), "done"},
		{"no permission", refuse(403, "AccessControlException"), "nothing"},
		{"safe mode", refuse(403, "SafeModeException"), "nothing"},
		{"IOException", refuse(403, "IOException"), "unknown"},
		{"500", status(500), "unknown"},
		{"half an answer", reply(`{"boolean":tr`), "unknown"},
		{"another answer", reply(`{"Path":"/"}`), "unknown"},
		{"connection lost", hangUp, "unknown"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFake(t)
			b := open(t, f)
			// Of several the worst counts, wherever it stands.
			f.set("DELETE", reply(isTrue), test.answer, refuse(403, "SafeModeException"))
			want := test.want
			if want == "done" {
				want = "nothing"
			}
			if err := b.Delete(t.Context(), "a", "b", "c"); outcome(err) != want {
				t.Errorf("Delete of three: %v, want %s", err, want)
			}
			f.set("DELETE", test.answer)
			if err := b.Delete(t.Context(), "a"); outcome(err) != test.want {
				t.Errorf("Delete: %v, want %s", err, test.want)
			}
		})
	}
}

func TestGetOutcomes(t *testing.T) {
	for _, test := range []struct {
		name   string
		op     string
		answer answer
		off, n int64
		want   string
		err    error // nil: any, if want is "fails"
	}{
		{"all well", "+OPEN", reply("234"), 2, 3, "234", nil},
		{"range beyond the end", "OPEN", refuse(403, "IOException"), 10, 3, "", nil},
		{"range beyond the end of an empty object", "+OPEN", refuse(403, "EOFException"), 10, 3, "", nil},
		{"within, and yet refused", "OPEN", refuse(403, "IOException"), 9, 3, "fails", nil},
		{"no object", "OPEN", refuse(404, "FileNotFoundException"), 0, -1, "fails", fs.ErrNotExist},
		{"deleted meanwhile", "+OPEN", refuse(404, "FileNotFoundException"), 1, -1, "fails", fs.ErrNotExist},
		{"below an object", "OPEN", refuse(403, "ParentNotDirectoryException"), 0, -1, "fails", fs.ErrNotExist},
		{"nothing of a folder", "GETFILESTATUS", reply(`{"FileStatus":{"type":"DIRECTORY"}}`), 0, 0, "fails", fs.ErrNotExist},
		{"no WebHDFS", "OPEN", status(404), 0, -1, "fails", nil},
		{"no permission", "OPEN", refuse(403, "AccessControlException"), 0, -1, "fails", fs.ErrPermission},
		{"503", "+OPEN", status(503), 2, 3, "fails", nil},
		{"connection lost", "+OPEN", hangUp, 2, 3, "fails", nil},
		{"no length", "+OPEN", func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "234")
			w.(http.Flusher).Flush()
		}, 2, 3, "fails", nil},
		{"half a body", "+OPEN", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "3")
			io.WriteString(w, "2")
		}, 2, 3, "fails", io.ErrUnexpectedEOF},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFake(t)
			b := open(t, f)
			f.set(test.op, test.answer)
			got, err := b.Get(t.Context(), "key", test.off, test.n)
			if (err != nil) != (test.want == "fails") || err == nil && string(got) != test.want ||
				test.err != nil && !errors.Is(err, test.err) {
				t.Errorf("Get: %q, %v, want %q, %v", got, err, test.want, test.err)
			}
			if test.err == nil && errors.Is(err, fs.ErrNotExist) {
				t.Errorf("Get: %v, which says that there is no object", err)
			}
		})
	}
}

// TestRedirectElsewhere: content is exchanged by the protocol that the URL of
// the bucket chose, TLS or not.
func TestRedirectElsewhere(t *testing.T) {
	for _, location := range []string{"https://localhost:1/x", "ftp://localhost/x", ""} {
		f := newFake(t)
		b := open(t, f)
		f.set("OPEN", func(w http.ResponseWriter, r *http.Request) {
			if location != "" {
				w.Header().Set("Location", location)
			}
			w.WriteHeader(http.StatusTemporaryRedirect)
		})
		_, err := b.Get(t.Context(), "key", 0, -1)
		if err == nil || !strings.Contains(err.Error(), "datanode") {
			t.Errorf("Get, sent to %q: %v", location, err)
		}
		if seen, _ := f.requests(); !slices.Equal(seen, []string{"OPEN"}) {
			t.Errorf("requests %q", seen)
		}
	}
}

// TestListCancelled: a listing that was cut short does not pass for a whole one.
func TestListCancelled(t *testing.T) {
	f := newFake(t)
	b := open(t, f)
	ctx, cancel := context.WithCancel(t.Context())
	f.set("LISTSTATUS_BATCH", func(w http.ResponseWriter, r *http.Request) {
		cancel()
		hang(w, r)
	})
	if keys, err := b.List(ctx, "", "", 10); !errors.Is(err, context.Canceled) {
		t.Errorf("List: %q, %v, want context.Canceled", keys, err)
	}
}
