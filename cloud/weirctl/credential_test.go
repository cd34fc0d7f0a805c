package main

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/admin"
	"github.com/weirmq/weir/cloud/console"
	"github.com/weirmq/weir/cloud/fleet"
	"github.com/weirmq/weir/storage/file"
)

// guarded is a node that wants a credential, and counts what it is shown.
func guarded(t *testing.T, secure bool) (s *httptest.Server, own string, shown *[]string) {
	t.Helper()
	own, shown = admin.NewToken(), new([]string)
	guard := admin.New(admin.Options{Service: "weir-cloud", Own: own})
	guard.Handle(admin.Read, "GET /v1/topics", func(w http.ResponseWriter, _ *http.Request) { admin.Reply(w, 200, []console.Topic{}) })
	guard.Handle(admin.Read, "GET /v1/node", func(w http.ResponseWriter, _ *http.Request) { admin.Reply(w, 200, console.Node{Name: "n"}) })
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*shown = append(*shown, r.Header.Get("Authorization"))
		guard.ServeHTTP(w, r)
	})
	if s = httptest.NewUnstartedServer(handler); secure {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return s, own, shown
}

// dataOf is a data directory with a token.
func dataOf(t *testing.T, dir, token string) string {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, admin.File), []byte(token+"\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestCredential: weirctl finds the credential, and shows it to the node that it is
// for and to no other.
func TestCredential(t *testing.T) {
	t.Chdir(t.TempDir())
	node, own, shown := guarded(t, false)
	home := t.TempDir()
	right := dataOf(t, t.TempDir(), own)
	wrong := dataOf(t, t.TempDir(), admin.NewToken())
	weirctl := func(stdin string, environ []string, args ...string) (int, string) {
		var out strings.Builder
		code := run(args, append(environ, "HOME="+home), strings.NewReader(stdin), &out, &out)
		return code, out.String()
	}
	local := filepath.Join("data", "cloud")
	for _, step := range []struct {
		what    string
		before  func()
		environ []string
		args    []string
		stdin   string
		code    int
		want    string
	}{
		{"nothing", nil, nil, []string{"topics"}, "", 2, "none was found"},
		{"a variable", nil, []string{"WEIRCTL_TOKEN=" + own}, []string{"topics"}, "", 0, ""},
		{"a wrong variable", nil, []string{"WEIRCTL_TOKEN=" + admin.NewToken()}, []string{"topics"}, "", 2, "does not know the credential of WEIRCTL_TOKEN"},
		{"a variable that is no token", nil, []string{"WEIRCTL_TOKEN=x"}, []string{"topics"}, "", 2, "WEIRCTL_TOKEN: not an admin token"},
		{"a directory", nil, nil, []string{"topics", "--data", right}, "", 0, ""},
		{"the directory of another node", nil, nil, []string{"topics", "--data", wrong}, "", 2, wrong},
		{"a directory comes before the variable", nil, []string{"WEIRCTL_TOKEN=" + admin.NewToken()}, []string{"topics", "--data", right}, "", 0, ""},
		{"no such directory", nil, nil, []string{"topics", "--data", "nowhere"}, "", 2, "nowhere"},
		{"log in with nothing", nil, nil, []string{"login"}, "", 2, "must be the password or the token"},
		{"log in with what is no token", nil, nil, []string{"login"}, "secret", 2, "not an admin token"},
		{"log in with a wrong one", nil, nil, []string{"login"}, admin.NewToken(), 2, "standard input"},
		{"which is not kept", nil, nil, []string{"topics"}, "", 2, "none was found"},
		{"log in", nil, nil, []string{"login"}, own + "\n", 0, "node n"},
		{"logged in", nil, nil, []string{"topics"}, "", 0, ""},
		{"log out", nil, nil, []string{"logout"}, "", 0, ""},
		{"logged out", nil, nil, []string{"topics"}, "", 2, "none was found"},
		{"log out again", nil, nil, []string{"logout"}, "", 2, "no stored credential"},
		{"a node in this folder", func() { dataOf(t, local, own) }, nil, []string{"topics"}, "", 0, ""},
		{"a damaged file", func() { dataOf(t, local, "") }, nil, []string{"topics"}, "", 2, "not an admin token"},
	} {
		if step.before != nil {
			step.before()
		}
		code, out := weirctl(step.stdin, step.environ, append(step.args, "--cloud", node.URL)...)
		if code != step.code || !strings.Contains(out, step.want) {
			t.Errorf("%s: %d, want %d and %q:\n%s", step.what, code, step.code, step.want, out)
		}
	}
	if info, err := os.Stat(filepath.Join(home, ".config", "weir", "credentials.json")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file of login: %v, %v", info, err)
	}
	for _, header := range *shown {
		if header != "" && !strings.HasPrefix(header, "Bearer weiradm1.") {
			t.Errorf("shown %q", header)
		}
	}
}

// TestCredentialElsewhere: a credential goes neither where a standby points, nor
// where a redirect leads, nor over plain HTTP to another machine.
func TestCredentialElsewhere(t *testing.T) {
	t.Chdir(t.TempDir())
	own := admin.NewToken()
	dataOf(t, filepath.Join("data", "cloud"), own)
	weirctl := func(environ []string, args ...string) (int, string) {
		var out strings.Builder
		code := run(args, environ, strings.NewReader(""), &out, &out)
		return code, out.String()
	}
	thief, _, stolen := guarded(t, false)
	standby := serve(t, 421, console.Error{Error: "not the owner of the shard", Owner: host(thief)})
	if code, out := weirctl(nil, "topics", "--cloud", standby.URL); code != 2 || !strings.Contains(out, host(thief)) || len(*stolen) != 0 {
		t.Errorf("sent elsewhere with a credential: %d, %q:\n%s", code, *stolen, out)
	}
	if code, out := weirctl([]string{"WEIRCTL_TOKEN=" + own}, "topics", "--cloud", "http://192.0.2.1:8080"); code != 2 || !strings.Contains(out, "--insecure") {
		t.Errorf("over plain HTTP to another machine: %d\n%s", code, out)
	}
	redirect := httptest.NewServer(http.RedirectHandler(thief.URL, http.StatusTemporaryRedirect))
	t.Cleanup(redirect.Close)
	if code, out := weirctl(nil, "topics", "--cloud", redirect.URL); code != 2 || len(*stolen) != 0 {
		t.Errorf("redirected with a credential: %d, %q:\n%s", code, *stolen, out)
	}
}

// TestCredentialOverTLS: the certificate is checked before anything is shown.
func TestCredentialOverTLS(t *testing.T) {
	t.Chdir(t.TempDir())
	node, own, shown := guarded(t, true)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: node.Certificate().Raw})
	if err := os.WriteFile(ca, block, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{nil, 2, "certificate"},
		{[]string{"--ca", ca}, 0, ""},
		{[]string{"--ca", "nowhere"}, 2, "read --ca"},
		{[]string{"--ca", filepath.Join(dataOf(t, "d", own), admin.File)}, 2, "holds no certificate"},
	} {
		before := len(*shown)
		var out strings.Builder
		code := run(append([]string{"topics", "--cloud", node.URL}, c.args...), []string{"WEIRCTL_TOKEN=" + own}, strings.NewReader(""), &out, &out)
		if code != c.code || !strings.Contains(out.String(), c.want) || (len(*shown) > before) != (code == 0) {
			t.Errorf("%v: %d, want %d and %q; shown %d times:\n%s", c.args, code, c.code, c.want, len(*shown)-before, &out)
		}
	}
}

func TestLoopbackURLs(t *testing.T) {
	for host, want := range map[string]bool{"127.0.0.1": true, "127.9.9.9:1": true, "[::1]:8080": true, "[::1]": true, "localhost": true, "localhost:8080": true,
		"192.0.2.1": false, "192.0.2.1:8080": false, "[2001:db8::1]:80": false, "[::ffff:127.0.0.1]": true, "127.0.0.1.evil.example": false} {
		c := call{cloud: "http://" + host}
		u, err := c.base()
		if err != nil || loopback(u) != want {
			t.Errorf("%s: %v, %v", host, !want, err)
		}
	}
}

// TestResetOffline: a new credential comes from the bucket and its secret, and from
// nothing less.
func TestResetOffline(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for name, body := range map[string]string{"secret": "a secret of the bucket\n", "other": "a secret of another one\n"} {
		if err := os.WriteFile(at(name), []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	bucket, err := file.Open(at("bucket"))
	if err != nil {
		t.Fatal(err)
	}
	reset := func(code int, want string, args ...string) {
		t.Helper()
		var out strings.Builder
		if got := run(append([]string{"admin", "reset"}, args...), nil, strings.NewReader(""), &out, &out); got != code || !strings.Contains(out.String(), want) {
			t.Errorf("%v: %d, want %d and %q:\n%s", args, got, code, want, &out)
		}
	}
	url := "file:" + at("bucket")
	reset(2, "has no cluster yet", url)
	create := func(key, body string) {
		t.Helper()
		if err := bucket.Create(t.Context(), key, []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	create("cluster", `{"id":"0123456789012345678901","format":1,"shards":1}`)
	reset(2, "weirctl upgrade", url)
	create("format/0002", `{"level":2,"needs":"1"}`)
	reset(2, "read the CA", url)
	if _, err := fleet.Authority(t.Context(), bucket, []byte("a secret of the bucket"), time.Now()); err != nil {
		t.Fatal(err)
	}
	reset(2, "secret does not decrypt", url)
	reset(2, "secret does not decrypt", url, "--secret-file", at("other"))
	reset(2, "read --secret-file", url, "--secret-file", at("nowhere"))
	reset(0, "weiradm1.", url, "--secret-file", at("secret"))
}
