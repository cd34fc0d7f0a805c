package admin

import (
	"crypto/rand"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Bounds of browsers' sessions.
const (
	sessionLife = 12 * time.Hour
	maxSessions = 1000 // of one process; the oldest gives way
)

// session is a browser that has shown a credential. It is good for reading, and as
// long as the credential is.
type session struct {
	hash    Hash
	expires time.Time
}

// sessions are those of one process: a restart ends them.
type sessions struct {
	mu  sync.Mutex // guards all
	all map[string]session
}

func (s *sessions) begin(hash Hash, now time.Time) (id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.all) >= maxSessions {
		s.evict(now)
	}
	id = rand.Text()
	s.all[id] = session{hash, now.Add(sessionLife)}
	return id
}

// evict drops what has expired, or else the oldest.
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

func (s *sessions) find(id string, now time.Time) (Hash, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	one, ok := s.all[id]
	if ok && now.After(one.expires) {
		delete(s.all, id)
		ok = false
	}
	return one.hash, ok
}

func (s *sessions) end(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, id)
}

// cookie is what a browser keeps of a session. Pages of other sites never cause it
// to be sent, scripts cannot read it.
func (g *Guard) cookie(r *http.Request, id string, life time.Duration) *http.Cookie {
	return &http.Cookie{Name: g.o.Service, Value: id, Path: "/", MaxAge: int(life / time.Second),
		HttpOnly: true, Secure: r.TLS != nil, SameSite: http.SameSiteStrictMode}
}

// login takes a credential from the form of the page and begins a session.
func (g *Guard) login(w http.ResponseWriter, r *http.Request) {
	token := strings.TrimSpace(r.PostFormValue("token"))
	if _, err := g.judge(r, token); err != nil {
		g.refuse(w, r, err)
		return
	}
	http.SetCookie(w, g.cookie(r, g.sessions.begin(HashOf(token), g.o.Now()), sessionLife))
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func (g *Guard) logout(w http.ResponseWriter, r *http.Request) {
	if c, err := r.Cookie(g.o.Service); err == nil {
		g.sessions.end(c.Value)
	}
	http.SetCookie(w, g.cookie(r, "", -time.Second))
	http.Redirect(w, r, "/", http.StatusSeeOther)
}
