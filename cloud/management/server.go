package management

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/weirmq/weir/cloud/access"
	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/budget"
	"github.com/weirmq/weir/cloud/listener"
	"github.com/weirmq/weir/cloud/login"
	"github.com/weirmq/weir/cloud/queue"
)

// maxBody is how many bytes a request may send: definitions may be large.
const maxBody = 8 << 20

// Options configure a Server. Queues, AllQueues and Access are required.
type Options struct {
	Queues      func(vhost string) (*queue.Engine, error) // of the shard that has a vhost
	AllQueues   func() ([]*queue.Engine, error)           // of the shards that this node serves
	Access      *access.Access
	Sessions    *login.Sessions     // of all doors; default: its own
	Connections func() []Connection // of clients of AMQP; nil: none are known
	Listeners   func() []Listener   // of this node; nil: none are known

	// TopicOf returns a topic that gets what is published to amq.topic with a routing key, ""
	// if none does; may reports whether the publisher may do op to a topic; nil: none does.
	TopicOf func(ctx context.Context, key string, may func(op auth.Operation, topic string) bool) (string, error)

	Elsewhere *Elsewhere // nil: there are no other nodes

	// Sure waits until this node may tell clients what it knows, see broker.Broker.AwaitSure.
	// ConfirmVhost and ConfirmCatalogue return nil if the bucket says that this node still has
	// a vhost, or users and permissions. A change is refused only then because something does
	// not exist. nil: it is so.
	Sure             func(ctx context.Context)
	ConfirmVhost     func(ctx context.Context, vhost string) error
	ConfirmCatalogue func(ctx context.Context) error

	Tell    func(ctx context.Context)         // called after each change of users and permissions: returns when the other nodes know it; may be nil
	Node    string                            // name of this node
	Cluster func() string                     // name of the cluster; nil: it has none
	Version string                            // of this program
	Heard   func(r *http.Request, known bool) // called when a request has come, and when its client has logged in; may be nil
	Log     *slog.Logger                      // slog.Default
	Now     func() time.Time                  // time.Now
}

// Listener is a TCP port of this node.
type Listener struct {
	Protocol string // as RabbitMQ names it: amqp, http
	Address  string // IP address
	Port     int
}

// Server answers requests. It may be used by many goroutines.
type Server struct {
	o      Options
	logins *login.Logins
	mux    *http.ServeMux
	rates  rates
	most   int // mostBytes
}

// New returns a Server.
func New(o Options) *Server {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Sessions == nil {
		o.Sessions = login.NewSessions()
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Connections == nil {
		o.Connections = func() []Connection { return nil }
	}
	if o.TopicOf == nil {
		o.TopicOf = func(context.Context, string, func(auth.Operation, string) bool) (string, error) { return "", nil }
	}
	if o.Listeners == nil {
		o.Listeners = func() []Listener { return nil }
	}
	if o.Cluster == nil {
		o.Cluster = func() string { return "" }
	}
	if o.Tell == nil {
		o.Tell = func(context.Context) {}
	}
	if o.Sure == nil {
		o.Sure = func(context.Context) {}
	}
	if o.ConfirmVhost == nil {
		o.ConfirmVhost = func(context.Context, string) error { return nil }
	}
	if o.ConfirmCatalogue == nil {
		o.ConfirmCatalogue = func(context.Context) error { return nil }
	}
	if o.Heard == nil {
		o.Heard = func(*http.Request, bool) {}
	}
	return &Server{o: o, logins: login.New(login.Options{Users: o.Access.Users}), mux: newMux(), most: mostBytes}
}

// call performs a request, and returns the body of the answer. An answer without a body is
// 204, and created 201.
type call func(*request) (any, error)

// created is the answer to a request that has created something.
type created struct {
	location string // relative; "": none
}

// callKey is the context key under which a request finds the place for its call.
type callKey struct{}

// newMux returns a mux whose handlers put their call into the request's context.
func newMux() *http.ServeMux {
	mux := http.NewServeMux()
	for pattern, c := range calls() {
		mux.HandleFunc(pattern, func(_ http.ResponseWriter, r *http.Request) {
			*r.Context().Value(callKey{}).(*found) = found{c, r}
		})
	}
	return mux
}

// found is what the mux finds: a call, and the request with the elements of its path.
type found struct {
	call    call
	request *http.Request
}

// Handler serves the requests that come through a listener, and counts them in traffic.
func (s *Server) Handler(l *listener.Listener, traffic *listener.Traffic) http.Handler {
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, l) })
	return http.MaxBytesHandler(traffic.Handler(http.NewCrossOriginProtection().Handler(h)), maxBody)
}

// serve authenticates a request, performs it and answers.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, l *listener.Listener) {
	w.Header().Set("Cache-Control", "no-cache")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	r = r.WithContext(ctx)
	s.o.Heard(r, false)
	x := s.o.Sessions.Open(l, s.o.Now, cancel)
	defer x.Close()
	if err := s.login(r, x); err != nil {
		s.refuse(w, r, err)
		return
	}
	s.o.Heard(r, true)
	in := Passed{Principal: x.Principal(), Guest: x.Guest(), Anonymous: x.Anonymous(), From: r.RemoteAddr, Method: r.Method, Target: r.URL.RequestURI(), Reason: r.Header.Get("X-Reason")}
	if s.several() { // the request may be for another node
		var err error
		if in.Body, err = io.ReadAll(r.Body); err != nil {
			s.refuse(w, r, err)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(in.Body))
	}
	body, err := s.perform(r, x, in)
	s.finish(w, r, x.Principal(), body, err)
}

// perform finds and performs the call of a request, here or at the node that has what it is
// about.
func (s *Server) perform(r *http.Request, x *login.Session, in Passed) (any, error) {
	var f found
	s.mux.ServeHTTP(discard{}, escaped(r.WithContext(context.WithValue(r.Context(), callKey{}, &f))))
	if f.call == nil {
		return nil, s.unknown(r)
	}
	q := &request{Request: f.request, s: s, x: x, asked: in, user: auth.UserOf(x.Principal()), rights: make(map[string]*access.Vhost)}
	s.o.Sure(r.Context())
	body, err := q.call(f.call)
	if node, is := q.elsewhere(err); is {
		return q.pass(r.Context(), node, in)
	}
	if err == nil && q.tells {
		s.o.Tell(r.Context())
	}
	return body, q.refusal(err)
}

// call performs the request here.
func (r *request) call(do call) (body any, err error) {
	if r.s.several() {
		if r.owners, r.unknown = r.s.o.Elsewhere.Owners(); r.asked.Part {
			err = r.s.serves(r.asked.Shards)
		}
	}
	if err == nil {
		body, err = do(r)
	}
	if err == nil && r.asked.Part && r.s.several() {
		err = r.s.serves(r.asked.Shards)
	}
	return body, err
}

// finish answers a request that was performed.
func (s *Server) finish(w http.ResponseWriter, r *http.Request, principal string, body any, err error) {
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	a, passed := body.(Answered)
	if r.Method != http.MethodGet && r.Method != http.MethodHead && !(passed && a.refused()) {
		s.o.Log.Info("managed", "by", auth.UserOf(principal), "address", r.RemoteAddr, "method", r.Method, "path", r.URL.Path)
	}
	answer(w, body)
}

// escaped returns the request for the mux, which does not take the element %2F for a
// name: the elements of its path are escaped once more. Slashes at the end mean nothing:
// RabbitMQ ignores one, and Celery's flower asks for queues// to list those of the vhost /.
func escaped(r *http.Request) *http.Request {
	r.URL = &url.URL{Path: strings.TrimRight(r.URL.EscapedPath(), "/"), RawQuery: r.URL.RawQuery}
	return r
}

// discard is the ResponseWriter of the mux: its answers to unknown requests are not sent.
type discard struct{ http.ResponseWriter }

func (discard) Header() http.Header         { return http.Header{} }
func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) WriteHeader(int)             {}

// answer sends the answer of a call.
func answer(w http.ResponseWriter, body any) {
	switch body := body.(type) {
	case nil:
		w.WriteHeader(http.StatusNoContent)
	case Answered:
		if body.Location != "" {
			w.Header()["Location"] = []string{body.Location}
		}
		if len(body.Body) > 0 {
			w.Header().Set("Content-Type", "application/json")
		}
		w.WriteHeader(body.Status)
		_, _ = w.Write(body.Body) // an error means that the client is gone
	case created:
		if body.location != "" {
			w.Header()["Location"] = []string{body.location}
		}
		w.WriteHeader(http.StatusCreated)
	default:
		reply(w, http.StatusOK, body)
	}
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // an error means that the client is gone
}

// unknown returns the error of a request without a call: another method may have one.
func (s *Server) unknown(r *http.Request) error {
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodPost, http.MethodDelete} {
		other := escaped(r.Clone(r.Context()))
		other.Method = method
		if _, pattern := s.mux.Handler(other); pattern != "" {
			return errMethod
		}
	}
	return errNotFound
}

// login authenticates the client of a request by HTTP's Basic scheme.
func (s *Server) login(r *http.Request, x *login.Session) error {
	user, password, ok := r.BasicAuth()
	if !ok {
		return errNoLogin
	}
	g, err := x.Begin(s.logins, login.Plain, remote(r))
	if err != nil {
		return err
	}
	_, proved, err := g.Step(r.Context(), []byte("\x00"+user+"\x00"+password))
	if err == nil && proved == nil {
		err = login.ErrMessage
	}
	if err != nil {
		return err
	}
	_, _, err = x.Welcome(g, proved)
	return err
}

// remote returns the address that stands for the sender of a request.
func remote(r *http.Request) netip.Addr {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{} // the listener is not a TCP listener
	}
	return budget.Address(net.TCPAddrFromAddrPort(from))
}

// request is a request whose client has logged in.
type request struct {
	*http.Request
	s      *Server
	x      *login.Session
	asked  Passed // the same, to be passed on
	user   string
	tells  bool                     // the other nodes are to know of it before it is answered, see users
	rights map[string]*access.Vhost // that were asked for

	owners  []Owner // of the shards with vhosts when the request began
	unknown error   // why they do not have all
}

// PathValue returns what an element of the path names, "" if the path has no such element.
func (r *request) PathValue(key string) string {
	value, err := url.PathUnescape(r.Request.PathValue(key))
	if err != nil { // impossible: the path was parsed before
		return ""
	}
	return value
}

// host returns the IP address of the client, as ACLs name it.
func (r *request) host() string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// in says what the client may do in a vhost.
func (r *request) in(vhost string) *access.Vhost {
	v := r.rights[vhost]
	if v == nil {
		v = r.s.o.Access.Vhost(r.x, vhost)
		r.rights[vhost] = v
	}
	return v
}

// administers reports whether the client may do everything.
func (r *request) administers() bool { return r.in("").Everything() }

// mustAdminister returns an error unless the client may do everything.
func (r *request) mustAdminister() error {
	if r.administers() {
		return nil
	}
	return errNotAdministrator
}

// engine returns the queues of the vhost that the path names, if the client may open it.
func (r *request) engine() (e *queue.Engine, vhost string, err error) {
	vhost = r.PathValue("vhost")
	e, err = r.opened(vhost)
	return e, vhost, err
}

// opened returns the queues of a vhost, if the client may open it.
func (r *request) opened(vhost string) (*queue.Engine, error) {
	e, err := r.s.o.Queues(vhost)
	if err != nil {
		return nil, err
	}
	has, err := e.OpenVhost(r.Context(), vhost)
	switch {
	case err != nil:
		return nil, err
	case !r.in(vhost).Open():
		return nil, errVhost
	case !has:
		return nil, errNoVhost
	}
	return e, nil
}

// vhost is a vhost that the client may open.
type vhost struct {
	name   string
	engine *queue.Engine
}

// vhosts returns the vhosts that the client may open: that of the path if it names one.
func (r *request) vhosts() ([]vhost, error) {
	if r.PathValue("vhost") != "" {
		e, name, err := r.engine()
		return []vhost{{name, e}}, err
	}
	engines, err := r.s.o.AllQueues()
	if err != nil {
		return nil, err
	}
	var all []vhost
	for _, e := range engines {
		if _, err := e.OpenVhost(r.Context(), queue.DefaultVhost); err != nil { // it waits until the engine serves
			return nil, err
		}
		for _, name := range e.Vhosts() {
			if r.in(name).Open() {
				all = append(all, vhost{name, e})
			}
		}
	}
	return all, nil
}

// decode reads the JSON body of a request; one without a body is an empty object. Members
// that are not known are left out, as RabbitMQ does.
func decode[T any](r *request) (v T, err error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return v, err
	}
	if strings.TrimSpace(string(body)) == "" {
		return v, nil
	}
	if err := json.Unmarshal(body, &v); err != nil {
		if _, ok := errors.AsType[*json.SyntaxError](err); ok {
			return v, badRequest("not_json")
		}
		return v, badRequest("%v", err)
	}
	return v, nil
}

// name returns the name of a queue or exchange in the path. The default exchange has
// another one there.
func (r *request) name(key string) string {
	if name := r.PathValue(key); name != defaultExchange {
		return name
	}
	return ""
}

const defaultExchange = "amq.default"

// shown returns a value, or what stands for it if it is empty.
func shown(value string) string { return cmp.Or(value, defaultExchange) }
