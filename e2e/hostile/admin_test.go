package hostile

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/admin"
	"github.com/weirmq/weir/e2e/harness"
)

// nodeMemory is how many bytes of memory a node may ever take.
const nodeMemory = 400_000_000

var adminAttacks = map[string]func(*tally, []string){
	"admin-guess": guessTokens, "admin-rebind": rebind, "admin-foreign": postFromElsewhere, "admin-silent": sendHalfRequests,
}

// strangers is a client whose connections come from another address than the
// victim's.
func strangers() *http.Client {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP("127.0.0.2")}, Timeout: 5 * time.Second}
	return &http.Client{Transport: &http.Transport{DialContext: dialer.DialContext, MaxIdleConnsPerHost: 32}, Timeout: 10 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// flood makes requests from 32 goroutines and counts the answers by their status. A
// request that gets no answer is counted as none.
func flood(t *tally, request func(i int64) *http.Request) {
	var n atomic.Int64
	client := strangers()
	for range 32 {
		go func() {
			for {
				res, err := client.Do(request(n.Add(1)))
				if err != nil {
					t.add("none", 1)
					continue
				}
				_, _ = io.Copy(io.Discard, res.Body)
				res.Body.Close()
				t.add(fmt.Sprint(res.StatusCode), 1)
				t.add("answers", 1)
			}
		}()
	}
}

func must(req *http.Request, err error) *http.Request {
	if err != nil {
		panic(err)
	}
	return req
}

// guessTokens tries one credential after the other, for what is worth most: a token
// that lets a gateway in.
func guessTokens(t *tally, args []string) {
	flood(t, func(int64) *http.Request {
		req := must(http.NewRequest("POST", "http://"+args[0]+"/v1/join-tokens", strings.NewReader("{}")))
		req.Header.Set("Authorization", "Bearer "+admin.NewToken())
		return req
	})
}

// rebind is a page whose own name leads to this machine: to the browser it is one
// site with the port, whatever it asks for.
func rebind(t *tally, args []string) {
	_, port, _ := net.SplitHostPort(args[0])
	own := "evil.example:" + port
	flood(t, func(i int64) *http.Request {
		method, path := "GET", []string{"/v1/topics", "/metrics", "/healthz", "/"}[i%4]
		if i%2 == 0 {
			method, path = "POST", []string{"/v1/join-tokens", "/login"}[i/2%2]
		}
		req := must(http.NewRequest(method, "http://"+args[0]+path, strings.NewReader("{}")))
		req.Host = own
		req.Header.Set("Origin", "http://"+own)
		req.Header.Set("Sec-Fetch-Site", "same-origin")
		return req
	})
}

// postFromElsewhere is a page of another site that sends forms to this machine, in a
// browser that has no session, or one that has expired.
func postFromElsewhere(t *tally, args []string) {
	flood(t, func(i int64) *http.Request {
		path := []string{"/v1/join-tokens", "/v1/topics", "/v1/users", "/v1/gateways/gw/revoke", "/login", "/logout"}[i%6]
		req := must(http.NewRequest("POST", "http://"+args[0]+path, strings.NewReader(`{"name":"x"}`)))
		req.Header.Set("Content-Type", "text/plain")
		req.Header.Set("Origin", "http://evil.example")
		req.AddCookie(&http.Cookie{Name: "weir-cloud", Value: "XXXXXXXXXXXXXXXXXXXXXXXXXX"})
		if i%2 == 0 {
			req.Header.Set("Sec-Fetch-Site", "cross-site")
		}
		return req
	})
}

// sendHalfRequests keeps as many connections as it gets, and lets each wait for the
// rest of its headers.
func sendHalfRequests(t *tally, args []string) {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP("127.0.0.2")}, Timeout: 5 * time.Second}
	slots := make(chan struct{}, 1000)
	for {
		slots <- struct{}{}
		go func() {
			defer func() { <-slots }()
			c, err := dialer.Dial("tcp", args[0])
			if err != nil {
				time.Sleep(10 * time.Millisecond)
				return
			}
			defer c.Close()
			if _, err := io.WriteString(c, "GET /v1/topics HTTP/1.1\r\nHost: localhost\r\nX: "+strings.Repeat("x", 8<<10)); err != nil {
				return
			}
			t.add("halves", 1)
			_, _ = c.Read(make([]byte, 1)) // until it is thrown out
		}()
	}
}

// node is a weir-cloud that is attacked.
type node struct {
	*harness.Process
	token string
}

// startNode starts a node on the bucket of a folder.
func startNode(t *testing.T, dir, name string) *node {
	t.Helper()
	p, err := harness.Start(dir, name, "weir-cloud", "--data", filepath.Join(dir, name), "--bucket", "file:"+filepath.Join(dir, "bucket"),
		"--sync", "127.0.0.1:0", "--kafka", "off", "--http", "127.0.0.1:0", "--peer", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
		if t.Failed() {
			t.Logf("log of the node:\n%s", p.Tail(40))
		}
	})
	token, err := admin.ReadToken(filepath.Join(dir, name, admin.File))
	if err != nil {
		t.Fatal(err)
	}
	return &node{p, token}
}

// ask is a round trip of an administrator, over a connection of its own.
func (n *node) ask(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, "GET", "http://"+n.Addr["http"]+"/v1/topics", nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+n.token)
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	var topics []any
	if err := json.NewDecoder(res.Body).Decode(&topics); err != nil || res.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d: %v", res.StatusCode, err)
	}
	return nil
}

// TestAdminPort: strangers guess credentials, ask through names and pages of their
// own and hold connections. They get nothing, an administrator is served meanwhile,
// and the node's log stays readable.
func TestAdminPort(t *testing.T) {
	for _, c := range []struct {
		attack, busy string
		n            int
		answers      []string // all that the attack may be answered with
	}{
		{"admin-guess", "answers", 2000, []string{"401", "429"}},
		{"admin-rebind", "answers", 2000, []string{"403"}},
		{"admin-foreign", "answers", 2000, []string{"403"}},
		{"admin-silent", "halves", 1000, nil},
	} {
		t.Run(c.attack, func(t *testing.T) {
			n := startNode(t, t.TempDir(), "cloud")
			ask := func(int) error { return n.ask(t.Context()) }
			calm := measure(t, ask)
			a := attack(t, c.attack, n.Addr["http"])
			a.reached(t, c.busy, c.n)
			compare(t, "GET /v1/topics", calm, measure(t, ask))
			a.stop()
			onlyAnswered(t, a, c.answers...)
			bounded(t, n.Pid(), nodeMemory)
			body, err := os.ReadFile(n.Log)
			if err != nil {
				t.Fatal(err)
			}
			if lines := strings.Count(string(body), "\n"); lines > 40 {
				t.Errorf("%d lines in the log:\n%s", lines, n.Tail(60))
			}
		})
	}
}

// onlyAnswered checks that an attack got these answers and no others.
func onlyAnswered(t *testing.T, a *attacker, statuses ...string) {
	t.Helper()
	total := 0
	for _, status := range statuses {
		t.Logf("answered with %s: %d times", status, a.count(status))
		total += a.count(status)
	}
	if total != a.count("answers") {
		t.Errorf("%d answers, %d of them %v: %v", a.count("answers"), total, statuses, a.counts)
	}
}

// TestStandbyAdminPort: what strangers guess at a standby the owner has to judge.
// That keeps neither an administrator of the owner waiting, nor the standby from
// hearing that the owner is there.
func TestStandbyAdminPort(t *testing.T) {
	dir := t.TempDir()
	owner := startNode(t, dir, "owner")
	standby := startNode(t, dir, "standby")
	ask := func(int) error { return owner.ask(t.Context()) }
	calm := measure(t, ask)
	a := attack(t, "admin-guess", standby.Addr["http"])
	a.reached(t, "answers", 500)
	compare(t, "GET /v1/topics of the owner", calm, measure(t, ask))
	t.Logf("GET /v1/topics through the standby, under attack: %v", measure(t, func(int) error { return standby.ask(t.Context()) }))
	a.stop()
	onlyAnswered(t, a, "401", "429", "503")
	for _, n := range []*node{owner, standby} {
		bounded(t, n.Pid(), nodeMemory)
		body, err := os.ReadFile(n.Log)
		if err != nil {
			t.Fatal(err)
		}
		if lines := strings.Count(string(body), "\n"); lines > 40 || strings.Contains(string(body), "taking over") {
			t.Errorf("%d lines in the log of %s:\n%s", lines, n.Name, n.Tail(60))
		}
	}
}
