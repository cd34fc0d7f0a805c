package admin

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Limits for browsers' sessions.
const (
	sessionLife = 12 * time.Hour
	maxSessions = 1000 // of one process; the oldest is dropped
)

// session is a browser that has logged in with a credential. It may only read, and is
// valid as long as the credential is. It holds the token itself, in memory only: a
// standby uses it to ask the owner.
type session struct {
	token   string
	expires time.Time
}

// sessions are the sessions of one process. A restart ends them.
type sessions struct {
	mu  sync.Mutex // guards all fields
	all map[string]session
}

func (s *sessions) begin(token string, now time.Time) (id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.all) >= maxSessions {
		s.evict(now)
	}
	id = rand.Text()
	s.all[id] = session{token, now.Add(sessionLife)}
	return id
}

// evict drops expired sessions, or the oldest if there are none.
func (s *sessions) evict(now time.Time) {
	oldest := ""
	for id, one := range s.all {
		if now.After(one.expires) {
			delete(s.all, id)
		} else if oldest == "" || one.expires.Before(s.all[oldest].expires) {
			oldest = id
		}
	}
	if len(s.all) >= maxSessions {
		delete(s.all, oldest)
	}
}

func (s *sessions) find(id string, now time.Time) (session, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	one, ok := s.all[id]
	if ok && now.After(one.expires) {
		delete(s.all, id)
		ok = false
	}
	return one, ok
}

func (s *sessions) end(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, id)
}

// cookie is a session's cookie. Pages of other sites never cause it to be sent, and
// scripts cannot read it.
func (g *Guard) cookie(r *http.Request, id string, life time.Duration) *http.Cookie {
	return &http.Cookie{Name: g.o.Service, Value: id, Path: "/", MaxAge: int(life / time.Second),
		HttpOnly: true, Secure: r.TLS != nil, SameSite: http.SameSiteStrictMode}
}

// login takes a credential from the login form and begins a session. It redirects to
// the page that was requested.
func (g *Guard) login(w http.ResponseWriter, r *http.Request) {
	token, err := ParseToken(r.PostFormValue("token"))
	if err == nil {
		_, err = g.find(HashOf(token))
	} else {
		err = ErrUnknown
	}
	if errors.Is(err, ErrElsewhere) {
		_, err = g.askElsewhere(r, token)
	}
	next := localPage(r.PostFormValue("next"))
	if err != nil {
		g.refusePage(w, r, err, next)
		return
	}
	http.SetCookie(w, g.cookie(r, g.sessions.begin(token, g.o.Now()), sessionLife))
	http.Redirect(w, r, next, http.StatusSeeOther)
}

// localPage returns next if it is a path and query of this port, and "/" otherwise, so
// that a form never redirects to another site.
func localPage(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.IsAbs() || u.Host != "" || u.User != nil || !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") ||
		strings.ContainsFunc(next, func(r rune) bool { return r < ' ' || r == '\\' }) {
		return "/"
	}
	return next
}

func (g *Guard) logout(w http.ResponseWriter, r *http.Request) {
	if c, err := r.Cookie(g.o.Service); err == nil {
		g.sessions.end(c.Value)
	}
	http.SetCookie(w, g.cookie(r, "", -time.Second))
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// WhoPath is the path at which nodes that cannot check a credential ask for its Caller.
const WhoPath = "/v1/credential"

// maxCaller bounds that answer, in bytes.
const maxCaller = 4 << 10

// askElsewhere asks the node that can check a credential. Errors: ErrUnknown, or
// ErrElsewhere if there is no answer.
func (g *Guard) askElsewhere(r *http.Request, token string) (Caller, error) {
	if g.o.Elsewhere == nil || IsForwarded(r) {
		return Caller{}, ErrElsewhere
	}
	req, err := http.NewRequestWithContext(r.Context(), http.MethodGet, WhoPath, http.NoBody)
	if err != nil {
		return Caller{}, err
	}
	req.RemoteAddr, req.Host, req.Body = r.RemoteAddr, r.Host, http.NoBody // in a server's request the body is never nil
	req.Header.Set("Authorization", "Bearer "+token)
	answer := &memory{header: make(http.Header), most: maxCaller}
	g.o.Elsewhere.ServeHTTP(answer, req)
	var caller Caller
	switch {
	case answer.status == http.StatusUnauthorized:
		return Caller{}, ErrUnknown
	case answer.status != http.StatusOK:
		var e Error
		if json.Unmarshal(answer.body.Bytes(), &e) == nil && e.Error != "" {
			return Caller{}, fmt.Errorf("%w: %s", ErrElsewhere, e.Error)
		}
		return Caller{}, ErrElsewhere
	}
	if err := json.Unmarshal(answer.body.Bytes(), &caller); err != nil || caller.Name == "" {
		return Caller{}, fmt.Errorf("%w: its owner's answer cannot be read", ErrElsewhere)
	}
	return caller, nil
}
