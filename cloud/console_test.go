package cloud

import (
	"encoding/json"
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/admin"
	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/console"
	"github.com/weirmq/weir/cloud/fleet"
	"github.com/weirmq/weir/cloud/machine"
	"github.com/weirmq/weir/storage/mem"
)

// ask asks a node's admin port.
func ask(t *testing.T, n running, method, path, token string) (status int, e console.Error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+n.self.Address(cluster.HTTP)+path, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	_ = json.NewDecoder(res.Body).Decode(&e) // an answer of another shape has no error
	return res.StatusCode, e
}

func tokenOf(t *testing.T, n running) string {
	t.Helper()
	token, err := admin.ReadToken(filepath.Join(n.o.Data, admin.File))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// TestOwnTokens: a node's own credential is good there from the start, and in the
// whole cluster once the node has led; a node gets another when it is removed.
func TestOwnTokens(t *testing.T) {
	bucket := mem.New()
	first, second := startPair(t, bucket)
	for _, n := range []running{first, second} {
		for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/metrics": 200, "/v1/node": 401, "/v1/topics": 401, "/nowhere": 401} {
			if status, _ := ask(t, n, "GET", path, ""); status != want {
				t.Errorf("%s, a stranger: %s is answered with %d, want %d", n.o.Node, path, status, want)
			}
		}
		if status, _ := ask(t, n, "GET", "/v1/node", tokenOf(t, n)); status != 200 {
			t.Errorf("%s: its own token: %d", n.o.Node, status)
		}
	}
	if status, _ := ask(t, first, "GET", "/v1/admins", tokenOf(t, first)); status != 200 {
		t.Errorf("the owner's administrators: %d", status)
	}
	if status, _ := ask(t, first, "GET", "/v1/topics", tokenOf(t, second)); status != 401 {
		t.Errorf("a token that the log does not know: %d", status)
	}
	// A standby passes on what it cannot answer, its own token as well as one that
	// only the owner can judge.
	for what, c := range map[string]struct {
		token string
		good  bool
	}{"its own": {tokenOf(t, second), true}, "the owner's": {tokenOf(t, first), true}, "nobody's": {admin.NewToken(), false}} {
		if status, e := ask(t, second, "GET", "/v1/admins", c.token); (status == 200) != c.good || status >= 500 {
			t.Errorf("through a standby, %s: %d %+v", what, status, e)
		}
	}
	if status, e := ask(t, second, "POST", "/v1/topics", tokenOf(t, second)); status != 400 || !strings.Contains(e.Error, "topic") {
		t.Errorf("a change through a standby: %d %+v", status, e)
	}
	if status, _ := ask(t, second, "GET", "/v1/topics", ""); status != 401 {
		t.Errorf("a stranger at a standby: %d", status)
	}
	for range maxUnjudged { // strangers, who wait for the owner
		second.unjudged <- struct{}{}
	}
	if status, e := ask(t, second, "GET", "/v1/topics", admin.NewToken()); status != 503 || !strings.Contains(e.Error, first.self.Address(cluster.HTTP)) {
		t.Errorf("one stranger more: %d %+v", status, e)
	}
	if status, e := ask(t, second, "GET", "/v1/admins", tokenOf(t, second)); status != 200 {
		t.Errorf("the node's own token beside strangers: %d %+v", status, e)
	}
}

// TestRemovedTokens: a node whose own token is removed gets another, on the owner at
// once; a removed one stays bad through takeovers, and a reset is taken up.
func TestRemovedTokens(t *testing.T) {
	bucket := mem.New()
	first, second := startPair(t, bucket)
	before := tokenOf(t, first)
	if status, e := ask(t, first, "DELETE", "/v1/admins?name=node:first", before); status != 200 {
		t.Fatalf("remove the node's own: %d %+v", status, e)
	}
	if after := tokenOf(t, first); after == before {
		t.Error("a token that was removed is still that of the node")
	} else if status, _ := ask(t, first, "GET", "/v1/topics", after); status != 200 {
		t.Errorf("the new token: %d", status)
	}
	if status, _ := ask(t, first, "GET", "/v1/topics", before); status == 200 {
		t.Errorf("the removed token: %d", status)
	}
	key, err := first.ca.Derive(auth.ResetLabel, 32)
	if err != nil {
		t.Fatal(err)
	}
	reset, err := auth.Reset(t.Context(), bucket, key, first.users().Admins()[0].Created)
	if err != nil {
		t.Fatal(err)
	}
	last := tokenOf(t, first)
	first.stop()
	<-first.ended
	second.says(t, "administrator added: weirctl admin reset was run on the bucket")
	for what, token := range map[string]string{"the owner's own": tokenOf(t, second), "the earlier owner's": last, "a reset": reset} {
		if status, e := ask(t, second, "GET", "/v1/topics", token); status != 200 {
			t.Errorf("after a takeover, %s: %d %+v", what, status, e)
		}
	}
	if status, _ := ask(t, second, "GET", "/v1/topics", before); status == 200 {
		t.Errorf("a removed token is good again: %d", status)
	}

	// The earlier owner comes back as a standby; what it passes on is refused when
	// its token was removed meanwhile.
	third := startNodeIn(t, bucket, "first", first.o.Data)
	third.says(t, "ready")
	if status, e := ask(t, third, "GET", "/v1/admins", last); status != 200 {
		t.Errorf("the earlier owner as a standby: %d %+v", status, e)
	}
	if status, e := ask(t, second, "DELETE", "/v1/admins?name=node:first", tokenOf(t, second)); status != 200 {
		t.Fatalf("remove a standby's own: %d %+v", status, e)
	}
	if status, e := ask(t, third, "GET", "/v1/admins", last); status != 401 || !strings.Contains(e.Error, "node first was removed") {
		t.Errorf("a standby's own that was removed: %d %+v", status, e)
	}
}

// TestOwnTokenAtLevel1: in a log that older programs may read there are no
// administrators; a node's own credential is valid on that node.
func TestOwnTokenAtLevel1(t *testing.T) {
	bucket := mem.New()
	if _, err := fleet.Authority(t.Context(), bucket, nil, time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := bucket.Create(t.Context(), "cluster", []byte(`{"id":"0123456789012345678901","format":1,"shards":1}`)); err != nil {
		t.Fatal(err)
	}
	n := startNode(t, bucket, "first")
	n.says(t, "the bucket's format level has no administrators: the admin token of a node is valid at that node only, until weirctl upgrade is run")
	n.says(t, "ready")
	if status, e := ask(t, n, "GET", "/v1/topics", tokenOf(t, n)); status != 200 {
		t.Errorf("its own: %d %+v", status, e)
	}
	hash := admin.HashOf("x")
	if err := n.users().SetAdmin(t.Context(), "ann", admin.Read, hash, time.Now()); !errors.Is(err, machine.ErrLevel) {
		t.Errorf("another administrator: %v", err)
	}
}
