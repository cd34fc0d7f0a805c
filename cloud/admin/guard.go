package admin

import (
	"cmp"
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/weirmq/weir/cloud/budget"
	"github.com/weirmq/weir/cloud/listener"
)

// Errors of a request that is refused. The caller gets their texts.
var (
	// ErrUnknown is returned by Options.Lookup for a hash that no credential has.
	ErrUnknown = errors.New("unknown credential: it is wrong, or was removed")
	// ErrElsewhere is returned by Options.Lookup if this process cannot tell.
	ErrElsewhere = errors.New("this node cannot tell whose credential this is")

	errMissing = errors.New("no credential: send the header Authorization: Bearer TOKEN")
	errSession = errors.New("a browser's session can only read: to change something, send the header Authorization: Bearer TOKEN")
	errHost    = errors.New("this port does not answer under that host name: use its address, or add the name to --http-hosts")
)

// Options configure a Guard. Service is required.
type Options struct {
	Service string   // name of the program
	Hosts   []string // names of the port, besides localhost and addresses

	// Own is the token of this process, which may do everything. OwnName is its name.
	Own, OwnName string

	// Lookup returns the caller whose token has that hash. It returns ErrUnknown if
	// there is none, ErrElsewhere if this process cannot tell. Nil: only Own is known.
	Lookup func(Hash) (Caller, error)

	// Elsewhere answers a request whose credential Lookup could not judge.
	Elsewhere http.Handler

	Anonymous bool              // reading needs no credential
	Traffic   *listener.Traffic // counts the requests; nil: they are not counted
	Log       *slog.Logger
	Now       func() time.Time // nil means time.Now
}

// Guard serves the handlers of an admin port to callers that are allowed to use them.
type Guard struct {
	o        Options
	own      atomic.Pointer[string]
	hosts    hosts
	sessions sessions
	wrong    *budget.Penalties // of addresses that sent a wrong credential
	foreign  *budget.Lines     // about addresses that used another host name
	mux      *http.ServeMux
	handler  http.Handler // the mux, closed to pages of other sites
	counted  http.Handler // serve, with its requests counted
	readable []link       // pages of Handle; not changed once the guard serves
	front    *pageHandler // of SetFront; nil: the list of readable

	refusedCredentials, refusedHosts atomic.Uint64
}

// link is a page that can be read.
type link struct {
	path string
	need Role
}

// New returns a Guard that serves only a login page until handlers are registered.
func New(o Options) *Guard {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	g := &Guard{o: o, hosts: newHosts(o.Hosts), sessions: sessions{all: make(map[string]session)},
		wrong: budget.NewPenalties(budget.PenaltiesOptions{Lines: lines()}), foreign: lines(), mux: http.NewServeMux()}
	g.SetOwn(o.Own)
	g.mux.HandleFunc("GET /{$}", g.frontPage)
	g.mux.HandleFunc("GET "+StylePath, serveStyle)
	g.mux.HandleFunc("GET /login", func(w http.ResponseWriter, _ *http.Request) { g.writePage(w, http.StatusOK, pageData{Next: "/"}) })
	g.mux.HandleFunc("POST /login", g.login)
	g.mux.HandleFunc("POST /logout", g.logout)
	g.Handle(Read, "/", func(w http.ResponseWriter, r *http.Request) {
		Reply(w, http.StatusNotFound, Error{Error: "unknown request: " + r.Method + " " + r.URL.Path})
	})
	// SameSite and the header already keep other sites out; this gives a clearer error.
	g.handler = http.NewCrossOriginProtection().Handler(g.mux)
	if o.Traffic == nil {
		g.o.Traffic = new(listener.Traffic)
	}
	// net/http closes the connection of a body that is too large only if MaxBytesHandler
	// has the server's own ResponseWriter.
	g.counted = http.MaxBytesHandler(g.o.Traffic.Handler(http.HandlerFunc(g.serve)), maxBody)
	return g
}

// lines limits the log lines that strangers can cause: one a minute for each address.
func lines() *budget.Lines { return budget.NewLines(budget.LinesOptions{Burst: 1, All: 20}) }

// maxBody is how many bytes a request may send.
const maxBody = 64 << 10

// SetOwn changes the token of this process.
func (g *Guard) SetOwn(token string) { g.own.Store(&token) }

// Refused returns how many requests were refused since the start: those with a wrong
// credential, and those with a host name that is not the port's.
func (g *Guard) Refused() (credentials, hosts uint64) {
	return g.refusedCredentials.Load(), g.refusedHosts.Load()
}

// Own returns the token of this process.
func (g *Guard) Own() string { return *g.own.Load() }

// Handle registers the handler for a pattern of http.ServeMux, and the role that it
// requires.
func (g *Guard) Handle(need Role, pattern string, handle http.HandlerFunc) {
	if path, ok := strings.CutPrefix(pattern, "GET "); ok && !strings.Contains(path, "{") {
		g.readable = append(g.readable, link{path, need})
	}
	g.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		if need == Open {
			handle(w, r)
			return
		}
		caller, err := g.admit(r, need)
		if err != nil {
			g.refuse(w, r, err)
			return
		}
		r = withCaller(r, caller)
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			handle(w, r)
			return
		}
		seen := &recorder{ResponseWriter: w, status: http.StatusOK}
		handle(seen, r.WithContext(context.WithValue(r.Context(), recorderKey{}, seen)))
		g.o.Log.Info("administered", append([]any{"by", caller.Name, "address", r.RemoteAddr, "method", r.Method, "path", r.URL.Path, "status", seen.status}, seen.about...)...)
	})
}

// callerKey is the context key of the caller, once this guard or the node that
// forwarded the request has identified it; forwardedKey marks requests that came
// through another node.
type (
	callerKey    struct{}
	forwardedKey struct{}
)

func withCaller(r *http.Request, caller Caller) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), callerKey{}, caller))
}

// CallerOf returns the caller of a request that the guard has admitted.
func CallerOf(r *http.Request) Caller {
	caller, _ := r.Context().Value(callerKey{}).(Caller)
	return caller
}

// Forwarded serves a request that another node of the cluster forwards over a
// connection that only nodes have. That node has checked the host name of the request
// and that it does not come from a page of another site. If it knows the caller by its
// own credential, it passes the caller on; else this guard checks the request's
// credential.
func (g *Guard) Forwarded(w http.ResponseWriter, r *http.Request, caller *Caller) {
	ctx := context.WithValue(r.Context(), forwardedKey{}, true)
	if caller != nil {
		ctx = context.WithValue(ctx, callerKey{}, *caller)
	}
	http.MaxBytesHandler(g.mux, maxBody).ServeHTTP(w, r.WithContext(ctx))
}

// IsForwarded reports whether a request came through another node.
func IsForwarded(r *http.Request) bool { return r.Context().Value(forwardedKey{}) != nil }

// OwnRequest reports whether a request has the credential of this process itself, which
// no other node knows.
func (g *Guard) OwnRequest(r *http.Request) bool {
	caller, err := g.identify(r)
	return err == nil && caller.Name == g.ownName()
}

func (g *Guard) ownName() string { return cmp.Or(g.o.OwnName, g.o.Service) }

// links returns the pages that a role can read.
func (g *Guard) links(role Role) []string {
	if g.o.Anonymous {
		role = max(role, Read)
	}
	var all []string
	for _, l := range g.readable {
		if l.need <= role {
			all = append(all, l.path)
		}
	}
	slices.Sort(all)
	return all
}

// recorder collects what the log line of a request that changes something needs: the
// status of the answer, and what Note has added.
type recorder struct {
	http.ResponseWriter
	status int
	about  []any
}

type recorderKey struct{}

// Note adds keys and values, as those of slog, to the log line of a request that
// changes something. Use it for the name of the changed thing, never for a secret.
func Note(r *http.Request, args ...any) {
	if seen, ok := r.Context().Value(recorderKey{}).(*recorder); ok {
		seen.about = append(seen.about, args...)
	}
}

func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// ServeHTTP implements http.Handler.
func (g *Guard) ServeHTTP(w http.ResponseWriter, r *http.Request) { g.counted.ServeHTTP(w, r) }

func (g *Guard) serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if seat := Seat(r); seat != nil {
		seat.Heard()
	}
	if !g.hosts.allow(r.Host) {
		g.refusedHosts.Add(1)
		if ok, unlogged := g.foreign.May(remote(r)); ok {
			g.o.Log.Warn("request refused: it names another host than this port's; if the name is right, add it to --http-hosts", "host", r.Host, "address", r.RemoteAddr, "unlogged", unlogged)
		}
		Reply(w, http.StatusForbidden, Error{Error: errHost.Error()})
		return
	}
	g.handler.ServeHTTP(w, r)
}

// tooMany is the answer to an address that the guard has punished.
func tooMany(w http.ResponseWriter) string {
	return ErrUnknown.Error() + "; there were too many from this address: try again in " + w.Header().Get("Retry-After") + " s"
}

// roleError: the caller is known, and has no right to do that.
type roleError struct {
	caller Caller
	need   Role
}

func (e roleError) Error() string {
	return "credential " + e.caller.Name + " has the role " + e.caller.Role.String() + ": this request needs the role " + e.need.String()
}

// admit identifies the caller and checks its role.
func (g *Guard) admit(r *http.Request, need Role) (Caller, error) {
	caller, err := g.identify(r)
	if seat := Seat(r); seat != nil && err == nil {
		seat.Known()
	}
	switch {
	case err == nil && caller.Role >= need:
		return caller, nil
	case err == nil:
		return caller, roleError{caller, need}
	case errors.Is(err, errMissing) && g.o.Anonymous && need == Read && reads(r):
		return Caller{Role: Read}, nil
	}
	return caller, err
}

func reads(r *http.Request) bool { return r.Method == http.MethodGet || r.Method == http.MethodHead }

// identify finds the credential of a request and its caller.
func (g *Guard) identify(r *http.Request) (Caller, error) {
	if caller := CallerOf(r); caller.Name != "" {
		return caller, nil
	}
	if header := r.Header.Get("Authorization"); header != "" {
		scheme, token, _ := strings.Cut(header, " ")
		if !strings.EqualFold(scheme, "Bearer") {
			return Caller{}, errMissing
		}
		return g.judge(r, strings.TrimSpace(token))
	}
	cookie, err := r.Cookie(g.o.Service)
	if err != nil {
		return Caller{}, errMissing
	}
	session, ok := g.sessions.find(cookie.Value, g.o.Now())
	switch {
	case !ok:
		return Caller{}, errMissing
	case !reads(r):
		return Caller{}, errSession
	}
	caller, err := g.find(HashOf(session.token))
	if errors.Is(err, ErrElsewhere) {
		// Requests to the owner on behalf of this one use the credential itself.
		r.Header.Set("Authorization", "Bearer "+session.token)
		caller, err = g.askElsewhere(r, session.token)
	}
	if errors.Is(err, ErrUnknown) { // it was removed meanwhile
		g.sessions.end(cookie.Value)
		return Caller{}, errMissing
	}
	return caller, err
}

// judge returns the caller that a token belongs to.
func (g *Guard) judge(r *http.Request, token string) (Caller, error) {
	if _, err := ParseToken(token); err != nil {
		return Caller{}, ErrUnknown
	}
	return g.find(HashOf(token))
}

func (g *Guard) find(hash Hash) (Caller, error) {
	if own := g.Own(); own != "" {
		if h := HashOf(own); subtle.ConstantTimeCompare(h[:], hash[:]) == 1 {
			return Caller{Name: g.ownName(), Role: Administer}, nil
		}
	}
	if g.o.Lookup == nil {
		return Caller{}, ErrUnknown
	}
	return g.o.Lookup(hash)
}

// refuse answers a request that is not admitted.
func (g *Guard) refuse(w http.ResponseWriter, r *http.Request, err error) {
	var role roleError
	switch {
	case errors.Is(err, ErrElsewhere) && g.o.Elsewhere != nil:
		g.o.Elsewhere.ServeHTTP(w, r)
	case errors.Is(err, ErrElsewhere):
		Reply(w, http.StatusServiceUnavailable, Error{Error: err.Error()})
	case errors.As(err, &role), errors.Is(err, errSession):
		Reply(w, http.StatusForbidden, Error{Error: err.Error()})
	case errors.Is(err, ErrUnknown) && g.punish(w, r):
		Reply(w, http.StatusTooManyRequests, Error{Error: tooMany(w)})
	default:
		w.Header().Set("WWW-Authenticate", `Bearer realm="`+g.o.Service+`"`)
		Reply(w, http.StatusUnauthorized, Error{Error: err.Error()})
	}
}

// punish counts a wrong credential. It reports whether the address should have waited
// before it sent another one. A right credential is always admitted: tokens are too
// long to be guessed, and other users of a guesser's address must not be locked out.
func (g *Guard) punish(w http.ResponseWriter, r *http.Request) bool {
	g.refusedCredentials.Add(1)
	from := remote(r)
	waiting := g.wrong.Pause(from) > 0
	verdict := g.wrong.Wrong(from)
	if verdict.Log {
		g.o.Log.Warn("request refused: wrong admin credential", "address", r.RemoteAddr, "method", r.Method, "path", r.URL.Path, "unlogged", verdict.Unlogged)
	}
	w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(verdict.Pause.Seconds()))))
	return waiting
}

// Error is the body of an answer that reports an error.
type Error struct {
	Error string `json:"error"`
	Owner string `json:"owner,omitempty"` // with 421: the HTTP address of the node to ask
}

// Reply sends body as JSON.
func Reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // an error means that the client is gone
}
