package cloud

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/admin"
	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/storage/mem"
)

// browser logs in at a node by the form, and reads pages.
func browser(t *testing.T, n running, token string) (get func(path string) (int, string)) {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Jar: jar}
	res, err := client.PostForm("http://"+n.self.Address(cluster.HTTP)+"/login", url.Values{"token": {token}, "next": {"/errors"}})
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if token != "" && (res.StatusCode != 200 || res.Request.URL.Path != "/errors") {
		t.Fatalf("%s: login leads to %s: %d", n.o.Node, res.Request.URL, res.StatusCode)
	}
	return func(path string) (int, string) {
		res, err := client.Get("http://" + n.self.Address(cluster.HTTP) + path)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(body)
	}
}

// TestPages: a browser sees the cluster through the owner and through a standby, with
// a credential of any node or person; a standby says who the owner is.
func TestPages(t *testing.T) {
	bucket := mem.New()
	first, second := startPair(t, bucket)
	if status, e := ask(t, first, "POST", "/v1/topics", tokenOf(t, first)); status != 400 {
		t.Fatalf("a topic without a name: %d %+v", status, e)
	}
	if _, err := first.broker.CreateTopic(t.Context(), "pumps", 3, nil); err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		at    running
		token string
	}{"the owner": {first, tokenOf(t, first)}, "a standby, with its own token": {second, tokenOf(t, second)}, "a standby, with the owner's": {second, tokenOf(t, first)}} {
		get := browser(t, c.at, c.token)
		for path, want := range map[string]string{"/": "Cluster " + first.broker.ClusterID(), "/topics": "pumps", "/topic?name=pumps": "Partitions",
			"/records?topic=pumps&partition=2": "There is nothing here", "/gateways": "None has joined", "/groups": "Consumer groups", "/errors": "node " + c.at.o.Node} {
			status, body := get(path)
			if status != 200 || !strings.Contains(body, want) {
				t.Errorf("%s: %s: %d without %q:\n%s", what, path, status, want, body)
			}
			if standby := strings.Contains(body, "The owner is first, at "+first.self.Address(cluster.HTTP)); standby != (c.at.o.Node == "second") {
				t.Errorf("%s: %s: says that it is a standby: %v", what, path, standby)
			}
		}
		if c.at.o.Node == "first" {
			// The standby asks the owner whether it is there.
			for late := time.Now().Add(20 * time.Second); ; {
				_, body := get("/")
				if strings.Contains(body, "<td>second</td>") {
					break
				}
				if time.Now().After(late) {
					t.Fatalf("the standby is not on the owner's page:\n%s", body)
				}
			}
		}
	}
	if status, body := browser(t, second, "")("/topics"); status != 401 || !strings.Contains(body, `action="/login"`) || strings.Contains(body, "pumps") {
		t.Errorf("a stranger at a standby: %d %s", status, body)
	}
	res, err := http.PostForm("http://"+second.self.Address(cluster.HTTP)+"/login", url.Values{"token": {admin.NewToken()}})
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != 429 || len(res.Cookies()) != 0 { // the second wrong one of this address
		t.Errorf("a credential that nobody knows, at a standby: %d", res.StatusCode)
	}
}

// TestPagesForAnybody: with --http-anonymous on both nodes a reader without a
// credential can read through a standby too, but no records.
func TestPagesForAnybody(t *testing.T) {
	bucket := mem.New()
	anonymous := func(name string) running {
		n := openNode(t, bucket, name, t.TempDir(), func(o *Options) { o.HTTP.Anonymous = true })
		n.run(t)
		n.says(t, "ready")
		return n
	}
	first, second := anonymous("first"), anonymous("second")
	if _, err := first.broker.CreateTopic(t.Context(), "pumps", 1, nil); err != nil {
		t.Fatal(err)
	}
	for _, n := range []running{first, second} {
		for path, want := range map[string]int{"/": 200, "/topics": 200, "/topic?name=pumps": 200, "/v1/topics": 200, "/records?topic=pumps": 401, "/v1/topics/pumps/records": 401, "/v1/admins": 401} {
			res, err := http.Get("http://" + n.self.Address(cluster.HTTP) + path)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(res.Body)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if res.StatusCode != want || want == 200 && !strings.Contains(string(body), "pumps") {
				t.Errorf("%s: %s: %d\n%s", n.o.Node, path, res.StatusCode, body)
			}
		}
	}
}
