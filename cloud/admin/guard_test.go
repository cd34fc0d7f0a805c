package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/cloud/budget"
	"github.com/weirmq/weir/cloud/listener"
)

var errTest = errors.New("test")

// port is an admin port with one call of each role.
type port struct {
	*Guard
	own   string
	known map[string]Role // tokens
	log   bytes.Buffer
}

func newPort(o Options) *port {
	p := &port{own: NewToken(), known: map[string]Role{NewToken(): Read, NewToken(): Operate, NewToken(): Administer}}
	o.Service, o.Own, o.OwnName = "weir-test", p.own, "own"
	o.Log = slog.New(slog.NewTextHandler(&p.log, nil))
	if o.Lookup == nil {
		o.Lookup = func(h Hash) (Caller, error) {
			for token, role := range p.known {
				if HashOf(token) == h {
					return Caller{role.String(), role}, nil
				}
			}
			return Caller{}, ErrUnknown
		}
	}
	p.Guard = New(o)
	done := func(w http.ResponseWriter, _ *http.Request) { Reply(w, http.StatusOK, "done") }
	p.Handle(Open, "GET /open", done)
	for _, role := range []Role{Read, Operate, Administer} {
		p.Handle(role, "GET /"+role.String(), done)
		p.Handle(role, "POST /"+role.String(), func(w http.ResponseWriter, r *http.Request) {
			Note(r, "what", role)
			done(w, r)
		})
	}
	return p
}

// token is one that may do what a role may.
func (p *port) token(role Role) string {
	for token, r := range p.known {
		if r == role {
			return token
		}
	}
	return ""
}

// ask makes a request; header may be "".
func (p *port) ask(method, target, token string, change ...func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "http://localhost"+target, nil)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	for _, c := range change {
		c(r)
	}
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	return w
}

// TestRoles: each role does what it may, and nothing is done without a credential
// but what is open.
func TestRoles(t *testing.T) {
	for _, anonymous := range []bool{false, true} {
		p := newPort(Options{Anonymous: anonymous})
		for who, token := range map[Role]string{Open: "", Read: p.token(Read), Operate: p.token(Operate), Administer: p.token(Administer), 9: p.own} {
			for _, what := range []Role{Open, Read, Operate, Administer} {
				for _, method := range []string{"GET", "POST"} {
					if what == Open && method == "POST" {
						continue
					}
					want := http.StatusOK
					switch {
					case who >= what:
					case token != "":
						want = http.StatusForbidden
					case anonymous && what == Read && method == "GET":
					default:
						want = http.StatusUnauthorized
					}
					if w := p.ask(method, "/"+what.String(), token); w.Code != want {
						t.Errorf("%v asks %s /%v (anonymous %v): %d, want %d: %s", who, method, what, anonymous, w.Code, want, w.Body)
					}
				}
			}
			if strings.Contains(p.log.String(), tokenPrefix) {
				t.Errorf("a token is in the log:\n%s", &p.log)
			}
		}
		if !strings.Contains(p.log.String(), "msg=administered by=own address=192.0.2.1:1234 method=POST path=/administer status=200 what=administer\n") {
			t.Errorf("no line says who changed something:\n%s", &p.log)
		}
	}
}

// TestWrong: what is no credential of this port is refused, with a sentence.
func TestWrong(t *testing.T) {
	p := newPort(Options{})
	for header, want := range map[string]int{
		"":                          401,
		"Bearer":                    401,
		"Bearer ":                   401,
		"Bearer x":                  401,
		"Bearer " + p.own[:30]:      401,
		"Bearer " + p.own + "A":     401,
		"Bearer " + NewToken():      401,
		"Basic " + p.own:            401,
		"bearer " + p.own:           200,
		"Bearer  " + p.own + " ":    200,
		"Bearer " + p.token(Read):   403,
		"Bearer\t" + p.token(Read):  401,
		"Bearer " + "\xff" + p.own:  401,
		"Bearer " + p.own + "\x00x": 401,
	} {
		p.wrong = newPort(Options{}).wrong // no pause from the case before
		w := p.ask("POST", "/administer", "", func(r *http.Request) {
			if header != "" {
				r.Header["Authorization"] = []string{header}
			}
		})
		var e Error
		if err := json.Unmarshal(w.Body.Bytes(), &e); w.Code != want || want != 200 && (err != nil || e.Error == "") {
			t.Errorf("%q: %d, want %d: %s", header, w.Code, want, w.Body)
		}
		if want == 401 && !strings.HasPrefix(w.Header().Get("WWW-Authenticate"), "Bearer ") {
			t.Errorf("%q: no challenge", header)
		}
	}
	if w := p.ask("GET", "/nowhere", ""); w.Code != 401 {
		t.Errorf("a stranger is told what is not there: %d", w.Code)
	}
	if w := p.ask("GET", "/nowhere", p.own); w.Code != 404 {
		t.Errorf("nowhere: %d", w.Code)
	}
	p.SetOwn(NewToken())
	p.wrong = newPort(Options{}).wrong
	if w := p.ask("GET", "/read", p.own); w.Code != 401 {
		t.Errorf("the token from before is good: %d", w.Code)
	}
}

// TestHosts: a name that some page of the web gave to this port is not its own.
// TestCounted: every request is counted, and every answer that refuses one.
func TestCounted(t *testing.T) {
	traffic := new(listener.Traffic)
	p := newPort(Options{Traffic: traffic})
	server := httptest.NewServer(p)
	defer server.Close()
	for _, c := range []struct {
		method, path, host string
		body               int
		status             int
		closes             bool
	}{
		{"GET", "/open", "", 0, 200, false},
		{"GET", "/read", "", 0, 401, false},
		{"GET", "/nowhere", "", 0, 401, false},
		{"GET", "/open", "other.example", 0, 403, false},
		{"POST", "/login", "", maxBody + 1, 401, true},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, server.URL+c.path, strings.NewReader("token="+strings.Repeat("x", c.body)))
		if err != nil {
			t.Fatal(err)
		}
		req.Host = c.host
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		before := traffic.Counts("", budget.GateCounts{})
		res, err := server.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		after := traffic.Counts("", budget.GateCounts{})
		if failed := after.Errors - before.Errors; res.StatusCode != c.status || res.Close != c.closes || after.Requests != before.Requests+1 || failed == 1 != (c.status >= 400) {
			t.Errorf("%s %s: status %d, closed %v, counted %+v after %+v", c.method, c.path, res.StatusCode, res.Close, after, before)
		}
	}
}

func TestHosts(t *testing.T) {
	p := newPort(Options{Hosts: []string{"cloud.example", "Other.Example:8080", "[2001:db8::1]:80", ""}})
	for host, ok := range map[string]bool{
		"127.0.0.1:8080": true, "127.0.0.1": true, "[::1]:8080": true, "192.0.2.7:8080": true, "[fe80::1%25eth0]:80": true,
		"localhost": true, "LOCALHOST.:8080": true, "a.localhost:1": true, "cloud.example": true, "cloud.example.:99": true, "other.example": true, "": true,
		"evil.example": false, "evil.example:8080": false, "cloud.example.evil.example": false, "localhost.evil.example": false, "xlocalhost": false,
		"127.0.0.1.evil.example": false, ":8080": false, "2130706433": false, "0x7f.1": false, "cloud.example@evil.example": false,
	} {
		for _, target := range []string{"/open", "/read", "/"} {
			w := p.ask("GET", target, p.own, func(r *http.Request) { r.Host = host })
			if want := map[bool]int{true: 200, false: 403}[ok]; w.Code != want {
				t.Errorf("Host %q, %s: %d, want %d", host, target, w.Code, want)
			}
		}
	}
}

// TestOtherSites: a page of another site changes nothing, whatever the browser's
// credential.
func TestOtherSites(t *testing.T) {
	p := newPort(Options{})
	for _, c := range []struct {
		site, origin string
		want         int
	}{{"cross-site", "", 403}, {"same-site", "", 403}, {"", "http://evil.example", 403}, {"same-origin", "", 200}, {"none", "", 200}, {"", "", 200}, {"", "http://localhost", 200}} {
		w := p.ask("POST", "/administer", p.own, func(r *http.Request) {
			if c.site != "" {
				r.Header.Set("Sec-Fetch-Site", c.site)
			}
			if c.origin != "" {
				r.Header.Set("Origin", c.origin)
			}
		})
		if w.Code != c.want {
			t.Errorf("%+v: %d", c, w.Code)
		}
	}
}

// TestSession: a browser logs in by the page, reads, changes nothing, and is out
// when its credential is.
func TestSession(t *testing.T) {
	p := newPort(Options{})
	if w := p.ask("GET", "/", ""); w.Code != 200 || !strings.Contains(w.Body.String(), `action="/login"`) || strings.Contains(w.Body.String(), "/read") {
		t.Errorf("the page of a stranger: %d %s", w.Code, w.Body)
	}
	login := func(token string) *httptest.ResponseRecorder {
		r := httptest.NewRequest("POST", "http://localhost/login", strings.NewReader(url.Values{"token": {token}}.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w := httptest.NewRecorder()
		p.ServeHTTP(w, r)
		return w
	}
	if w := login(NewToken()); w.Code != 401 || len(w.Result().Cookies()) != 0 {
		t.Errorf("with a wrong token: %d", w.Code)
	}
	operator := p.token(Operate)
	w := login(" " + operator + "\n")
	if w.Code != 303 || len(w.Result().Cookies()) != 1 {
		t.Fatalf("login: %d %v", w.Code, w.Result().Cookies())
	}
	c := w.Result().Cookies()[0]
	if !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || strings.Contains(c.Value, operator) {
		t.Errorf("cookie %v", c)
	}
	with := func(r *http.Request) { r.AddCookie(&http.Cookie{Name: c.Name, Value: c.Value}) }
	if w := p.ask("GET", "/", "", with); !strings.Contains(w.Body.String(), "Logged in as operate") || !strings.Contains(w.Body.String(), `href="/operate"`) || strings.Contains(w.Body.String(), "/administer") {
		t.Errorf("the page: %s", w.Body)
	}
	for target, want := range map[string]int{"GET /read": 200, "GET /operate": 200, "GET /administer": 403, "POST /read": 403, "POST /operate": 403} {
		method, path, _ := strings.Cut(target, " ")
		if w := p.ask(method, path, "", with); w.Code != want {
			t.Errorf("%s: %d, want %d", target, w.Code, want)
		}
	}
	delete(p.known, operator)
	if w := p.ask("GET", "/read", "", with); w.Code != 401 {
		t.Errorf("the credential is gone, the session not: %d", w.Code)
	}
	if w = login(p.own); w.Code != 303 {
		t.Fatalf("login: %d", w.Code)
	}
	c = w.Result().Cookies()[0]
	if w := p.ask("POST", "/logout", "", with); w.Code != 303 || w.Result().Cookies()[0].MaxAge >= 0 {
		t.Errorf("logout: %d", w.Code)
	}
	if w := p.ask("GET", "/read", "", with); w.Code != 401 {
		t.Errorf("after logout: %d", w.Code)
	}
}

// TestSessionsEnd: they end with time, and there are never too many.
func TestSessionsEnd(t *testing.T) {
	s := sessions{all: make(map[string]session)}
	now := time.Now()
	first := s.begin("a", now)
	for i := range maxSessions {
		s.begin("b", now.Add(time.Duration(i+1)))
	}
	if _, ok := s.find(first, now); ok || len(s.all) != maxSessions {
		t.Errorf("%d sessions, the oldest still there: %v", len(s.all), ok)
	}
	late := s.begin("c", now.Add(2*sessionLife))
	if _, ok := s.find(late, now.Add(2*sessionLife)); !ok || len(s.all) != 1 {
		t.Errorf("%d sessions after a day, the new one there: %v", len(s.all), ok)
	}
	if _, ok := s.find(late, now.Add(4*sessionLife)); ok {
		t.Error("a session does not end")
	}
}

// TestElsewhere: what this process cannot judge it hands on, and does not call wrong.
func TestElsewhere(t *testing.T) {
	p := newPort(Options{Lookup: func(Hash) (Caller, error) { return Caller{}, fmt.Errorf("%w: %w", ErrElsewhere, errTest) }})
	if w := p.ask("GET", "/read", NewToken()); w.Code != 503 {
		t.Errorf("nobody to hand it on to: %d", w.Code)
	}
	p = newPort(Options{Lookup: func(Hash) (Caller, error) { return Caller{}, ErrElsewhere },
		Elsewhere: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })})
	for range 3 {
		if w := p.ask("GET", "/read", NewToken()); w.Code != http.StatusTeapot {
			t.Errorf("got %d", w.Code)
		}
	}
	if w := p.ask("GET", "/read", p.own); w.Code != 200 {
		t.Errorf("its own credential: %d", w.Code)
	}
}

// TestGuessing: wrong credentials cost their address a pause and the log a line; a
// right one is let through from the same address.
func TestGuessing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPort(Options{})
		for i := range 100 {
			want := 401
			if i > 0 {
				want = 429
			}
			w := p.ask("POST", "/administer", NewToken())
			if w.Code != want || i > 0 && w.Header().Get("Retry-After") == "" {
				t.Fatalf("guess %d: %d, want %d", i, w.Code, want)
			}
		}
		for range 5 {
			p.ask("GET", "/open", "", func(r *http.Request) { r.Host = "evil.example" })
		}
		if strings.Count(p.log.String(), "host=evil.example") != 1 {
			t.Errorf("said\n%s", &p.log)
		}
		if credentials, hosts := p.Refused(); credentials != 100 || hosts != 5 {
			t.Errorf("counted %d credentials and %d names", credentials, hosts)
		}
		if lines := strings.Count(p.log.String(), "wrong admin credential"); lines != 1 {
			t.Errorf("%d lines:\n%s", lines, &p.log)
		}
		if w := p.ask("POST", "/administer", p.own); w.Code != 200 {
			t.Errorf("the right one: %d", w.Code)
		}
		if w := p.ask("POST", "/administer", NewToken(), func(r *http.Request) { r.RemoteAddr = "198.51.100.7:1" }); w.Code != 401 {
			t.Errorf("another address: %d", w.Code)
		}
		time.Sleep(time.Hour) // of the bubble
		if w := p.ask("POST", "/administer", NewToken()); w.Code != 401 {
			t.Errorf("an hour later: %d", w.Code)
		}
	})
}
