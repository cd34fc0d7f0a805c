package admin

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// logIn logs in by the form, as from a page.
func logIn(p http.Handler, token, next string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("POST", "http://localhost/login", strings.NewReader(url.Values{"token": {token}, "next": {next}}.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	return w
}

// withCookies makes a request with what an answer has set.
func withCookies(from *httptest.ResponseRecorder) func(*http.Request) {
	return func(r *http.Request) {
		for _, c := range from.Result().Cookies() {
			r.AddCookie(&http.Cookie{Name: c.Name, Value: c.Value})
		}
	}
}

// TestPages: a page that needs a credential shows the form and leads back; one whose
// role is too low says so; each forbids what pages do not need.
func TestPages(t *testing.T) {
	p := newPort(Options{})
	hello := func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte("hello " + CallerOf(r).Name)) }
	p.SetFront(Read, hello)
	p.HandlePage(Operate, "/deep", hello)
	for path, want := range map[string]int{"/": 200, "/deep": 401} {
		w := p.ask("GET", path+"?a=1&b=%3Cx%3E", "")
		if w.Code != want || !strings.Contains(w.Body.String(), `action="/login"`) || !strings.Contains(w.Body.String(), `value="`+path+`?a=1&amp;b=%3Cx%3E"`) {
			t.Errorf("%s for a stranger: %d %s", path, w.Code, w.Body)
		}
		if csp := w.Header().Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") {
			t.Errorf("%s: policy %q", path, csp)
		}
	}
	w := logIn(p, p.token(Read), "/deep?a=1")
	if w.Code != 303 || w.Header().Get("Location") != "/deep?a=1" {
		t.Fatalf("login: %d %v", w.Code, w.Header())
	}
	if got := p.ask("GET", "/", "", withCookies(w)); got.Body.String() != "hello read" {
		t.Errorf("the front page: %d %s", got.Code, got.Body)
	}
	if got := p.ask("GET", "/deep", "", withCookies(w)); got.Code != 403 || !strings.Contains(got.Body.String(), "this request needs the role operate") {
		t.Errorf("a page for another role: %d %s", got.Code, got.Body)
	}
	if got := p.ask("GET", "/deep", p.token(Operate)); got.Body.String() != "hello operate" {
		t.Errorf("with the header: %d %s", got.Code, got.Body)
	}
	if got := p.ask("GET", StylePath, ""); got.Code != 200 || !strings.HasPrefix(got.Header().Get("Content-Type"), "text/css") || got.Body.Len() < 1000 {
		t.Errorf("the style: %d %v", got.Code, got.Header())
	}
}

// TestLoginForm: a wrong token is answered with the form, and no form leads to
// another site.
func TestLoginForm(t *testing.T) {
	p := newPort(Options{})
	if w := logIn(p, "nonsense", "/"); w.Code != 401 || !strings.Contains(w.Body.String(), `role="alert"`) || !strings.Contains(w.Body.String(), `action="/login"`) {
		t.Errorf("nonsense: %d %s", w.Code, w.Body)
	}
	if w := logIn(p, NewToken(), "/"); w.Code != 429 || !strings.Contains(w.Body.String(), "try again in") || w.Header().Get("Retry-After") == "" {
		t.Errorf("one wrong token more: %d %s", w.Code, w.Body)
	}
	for next, want := range map[string]string{"": "/", "/x?y=1": "/x?y=1", "//evil.example": "/", "/\\evil.example": "/", "https://evil.example/": "/",
		"javascript:alert(1)": "/", "x": "/", "/a\nb": "/", "http:///x": "/"} {
		if w := logIn(p, p.own, next); w.Code != 303 || w.Header().Get("Location") != want {
			t.Errorf("%q leads to %q", next, w.Header().Get("Location"))
		}
	}
}

// TestAsk: a page asks the port itself in the name of its reader, who gets no more
// than he may.
func TestAsk(t *testing.T) {
	p := newPort(Options{Anonymous: true})
	type answer struct {
		status int
		body   string
	}
	var got map[string]answer
	p.HandlePage(Read, "/page", func(_ http.ResponseWriter, r *http.Request) {
		got = make(map[string]answer)
		for _, path := range []string{"/read?x=1", "/operate", "/administer", "/nowhere"} {
			status, body, err := p.Ask(r, path)
			if err != nil {
				t.Error(err)
			}
			got[path] = answer{status, string(body)}
		}
		if _, _, err := p.Ask(r, "no path"); err == nil {
			t.Error("no path")
		}
	})
	session := logIn(p, p.token(Operate), "/")
	for what, c := range map[string]struct {
		token   string
		more    func(*http.Request)
		operate int
	}{
		"the header":  {p.token(Operate), func(*http.Request) {}, 200},
		"the session": {"", withCookies(session), 200},
		"nobody":      {"", func(*http.Request) {}, 401},
	} {
		if w := p.ask("GET", "/page", c.token, c.more); w.Code != 200 {
			t.Fatalf("%s: %d", what, w.Code)
		}
		if got["/read?x=1"] != (answer{200, "\"done\"\n"}) || got["/operate"].status != c.operate || got["/administer"].status == 200 || got["/nowhere"].status != 404 {
			t.Errorf("%s: %v", what, got)
		}
	}
}

// TestElsewherePages: a browser logs in where another node judges the credential, and
// is out when that node says so.
func TestElsewherePages(t *testing.T) {
	token, known := NewToken(), true
	var asked []string
	p := newPort(Options{
		Lookup: func(Hash) (Caller, error) { return Caller{}, ErrElsewhere },
		Elsewhere: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked = append(asked, r.Method+" "+r.URL.Path)
			switch {
			case r.Header.Get("Authorization") != "Bearer "+token || !known:
				Reply(w, http.StatusUnauthorized, Error{Error: "unknown"})
			default:
				Reply(w, http.StatusOK, Caller{"ann", Operate})
			}
		})})
	p.SetFront(Read, func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte(CallerOf(r).Name + " with " + r.Header.Get("Authorization")))
	})
	if w := logIn(p, NewToken(), "/"); w.Code != 401 || len(w.Result().Cookies()) != 0 {
		t.Errorf("a credential that nobody knows: %d", w.Code)
	}
	w := logIn(p, token, "/")
	if w.Code != 303 || len(asked) == 0 || asked[0] != "GET "+WhoPath {
		t.Fatalf("login: %d, asked %v", w.Code, asked)
	}
	if got := p.ask("GET", "/", "", withCookies(w)); got.Body.String() != "ann with Bearer "+token {
		t.Errorf("the page: %d %s", got.Code, got.Body)
	}
	if got := p.ask("GET", "/administer", "", withCookies(w)); got.Code != 403 {
		t.Errorf("more than the credential may: %d", got.Code)
	}
	known = false
	if got := p.ask("GET", "/read", "", withCookies(w)); got.Code != 401 {
		t.Errorf("after the credential was removed: %d", got.Code)
	}
	known = true
	if got := p.ask("GET", "/read", "", withCookies(w)); got.Code != 401 {
		t.Errorf("a session that had ended: %d", got.Code)
	}
	p.o.Elsewhere = nil
	if w := logIn(p, token, "/"); w.Code != 503 {
		t.Errorf("nobody to ask: %d", w.Code)
	}
}
