package management

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/login"
)

// In a cluster of several shards any node answers for all. The node at which a client has
// logged in passes a request on to the node that has the vhost, or the catalogue; who the
// client is travels along, and that node checks what it may do. Lists are put together from
// what all nodes that have vhosts say. If one does not answer, or shards change hands
// meanwhile, there is no list: one that lacks queues would look like one of all.

const (
	// maxHops is how often a request is passed on: to the catalogue, and from there.
	maxHops = 2
	// gatherTime is how long the other nodes have to answer for a list.
	gatherTime = 2 * time.Second
)

// Elsewhere is how a Server reaches other nodes. All fields are required.
type Elsewhere struct {
	Several   func() bool                                                                 // whether the cluster has several shards
	Owners    func() ([]Owner, error)                                                     // the nodes that have vhosts; an error: one is not known
	Serves    func(shard uint32) error                                                    // nil if this node serves the shard
	Catalogue func() (broker.Node, bool)                                                  // the node that has users and permissions
	Pass      func(ctx context.Context, to broker.Node, p Passed) (a Answered, err error) // has a node perform a request
}

// Owner is a node that has vhosts.
type Owner struct {
	broker.Node
	Shards []uint32 // that it serves
}

// Passed is a request whose client has logged in at another node.
type Passed struct {
	Principal string `json:"principal"`
	Guest     bool   `json:"guest,omitempty"`     // see login.Session
	Anonymous bool   `json:"anonymous,omitempty"` // likewise
	From      string `json:"from"`                // the client's address
	Method    string `json:"method"`
	Target    string `json:"target"` // path and query
	Reason    string `json:"reason,omitempty"`
	Body      []byte `json:"body,omitempty"`
	Hops      int    `json:"hops"`           // how often it was passed on
	Part      bool   `json:"part,omitempty"` // only what the node itself has is wanted

	Shards []uint32 `json:"shards,omitempty"` // that the node has to serve, if its list is to be whole
}

// Answered is the answer to a Passed.
type Answered struct {
	Status   int    `json:"status"`
	Location string `json:"location,omitempty"`
	Body     []byte `json:"body,omitempty"`
}

// several reports whether other nodes may have what is asked for.
func (s *Server) several() bool { return s.o.Elsewhere != nil && s.o.Elsewhere.Several() }

// Perform performs a request for a client of another node.
func (s *Server) Perform(ctx context.Context, p Passed) Answered {
	w := &recorder{header: make(http.Header), status: http.StatusOK}
	r, err := http.NewRequestWithContext(ctx, p.Method, "http://node"+p.Target, bytes.NewReader(p.Body))
	if err != nil || p.Principal == "" {
		s.refuse(w, r, badRequest("a request that another node passes on cannot be read"))
		return w.answered()
	}
	r.RemoteAddr = p.From
	r.Header.Set("X-Reason", p.Reason)
	body, err := s.perform(r, login.Elsewhere(p.Principal, p.Guest, p.Anonymous), p)
	s.finish(w, r, p.Principal, body, err)
	return w.answered()
}

// recorder keeps an answer.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *recorder) Header() http.Header         { return w.header }
func (w *recorder) WriteHeader(status int)      { w.status = status }
func (w *recorder) Write(p []byte) (int, error) { return w.body.Write(p) }

func (w *recorder) answered() Answered {
	return Answered{w.status, w.header.Get("Location"), w.body.Bytes()}
}

// elsewhere returns the node that has what a request is about, if it is another one.
func (r *request) elsewhere(err error) (broker.Node, bool) {
	if !r.s.several() || r.asked.Part || r.asked.Hops >= maxHops || !errors.Is(err, broker.ErrNotOwner) {
		return broker.Node{}, false
	}
	var node broker.Node
	if not, ok := errors.AsType[*broker.NotOwnerError](err); ok {
		node = not.Owner
	} else {
		node, _ = r.s.o.Elsewhere.Catalogue()
	}
	return node, node.Name != "" && node.Name != r.s.o.Node
}

// pass has another node perform a request for this client.
func (r *request) pass(ctx context.Context, to broker.Node, p Passed) (Answered, error) {
	p.Hops++
	a, err := r.s.o.Elsewhere.Pass(ctx, to, p)
	if err != nil {
		return a, fmt.Errorf("%w: node %q does not answer: %w", broker.ErrUnavailable, to.Name, err)
	}
	return a, nil
}

// ask asks another node for what it has.
func (r *request) ask(to broker.Node, method, target string, body []byte) (Answered, error) {
	p := r.asked
	p.Method, p.Target, p.Body, p.Part = method, target, body, true
	return r.pass(r.Context(), to, p)
}

// refused reports whether an answer tells of an error.
func (a *Answered) refused() bool { return a.Status >= 300 }

// err returns the error that an answer tells of.
func (a *Answered) err() error {
	if !a.refused() {
		return nil
	}
	var told struct{ Error, Reason string }
	if err := json.Unmarshal(a.Body, &told); err != nil {
		return fmt.Errorf("another node answers with status %d", a.Status)
	}
	return &refusal{status: a.Status, kind: told.Error, reason: told.Reason}
}

// gathers reports whether the answer has what other nodes have.
func (r *request) gathers() bool {
	return r.s.several() && !r.asked.Part && r.PathValue("vhost") == ""
}

// others asks all other nodes that have vhosts what the request asks for, at once.
func others[T any](r *request) ([]T, error) {
	if !r.gathers() {
		return nil, nil
	}
	nodes, err := r.otherOwners()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), gatherTime)
	defer cancel()
	p := r.asked
	p.Target, _, _ = strings.Cut(p.Target, "?") // this node sorts, and cuts pages
	p.Method, p.Body, p.Part = http.MethodGet, nil, true
	all, errs := make([]T, len(nodes)), make([]error, len(nodes))
	var wg sync.WaitGroup
	for i, node := range nodes {
		part := p
		part.Shards = node.Shards
		wg.Go(func() {
			a, err := r.pass(ctx, node.Node, part)
			if err == nil {
				err = a.err()
			}
			if err == nil {
				err = json.Unmarshal(a.Body, &all[i])
			}
			errs[i] = err
		})
	}
	wg.Wait()
	return all, errors.Join(errs...)
}

// otherOwners lists the other nodes that had vhosts when the request began. It returns an error
// if this node has lost some since, which may lack in what it has listed.
func (r *request) otherOwners() (all []Owner, err error) {
	for _, o := range r.owners {
		if o.Name != r.s.o.Node {
			all = append(all, o)
		} else if err := r.s.serves(o.Shards); err != nil {
			return nil, err
		}
	}
	return all, r.unknown
}

// serves returns nil if this node serves shards.
func (s *Server) serves(shards []uint32) error {
	for _, id := range shards {
		if err := s.o.Elsewhere.Serves(id); err != nil {
			return fmt.Errorf("shard %d has another owner now: %w", id, err)
		}
	}
	return nil
}

// listAll is list, with what other nodes have.
func listAll(r *request, all []object) (any, error) {
	more, err := others[[]object](r)
	if err != nil {
		return nil, err
	}
	return list(r, append(all, slices.Concat(more...)...))
}

// search asks the other nodes one after the other for something that this one does not
// have, or to change it. missing is the answer if nobody has it, and an error if a node that
// may have it does not answer. Such a node holds up others for gatherTime if nothing changes.
func (r *request) search(missing error) (any, error) {
	if !r.gathers() {
		return nil, missing
	}
	nodes, err := r.otherOwners()
	if err != nil {
		return nil, err
	}
	p := r.asked
	p.Body, p.Part = nil, true
	var silent error
	for _, node := range nodes {
		a, err := r.searchAt(node.Node, p)
		switch {
		case err != nil:
			silent = errors.Join(silent, err)
		case a.Status != http.StatusNotFound:
			return a, nil
		}
	}
	return nil, cmp.Or(silent, missing)
}

func (r *request) searchAt(node broker.Node, p Passed) (Answered, error) {
	ctx := r.Context()
	if p.Method == http.MethodGet {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, gatherTime)
		defer cancel()
	}
	return r.pass(ctx, node, p)
}

// hasVhost reports whether there is a vhost, here or at another node.
func (r *request) hasVhost(name string) (bool, error) {
	e, err := r.s.o.Queues(name)
	if err == nil {
		return e.OpenVhost(r.Context(), name)
	}
	node, is := r.elsewhere(err)
	if !is {
		return false, err
	}
	a, err := r.ask(node, http.MethodGet, "/api/vhosts/"+url.PathEscape(name), nil)
	if err != nil || a.Status == http.StatusNotFound {
		return false, err
	}
	return true, a.err()
}

// sum adds the numbers of an object to those of another one, also in objects in it.
func sum(to, from object) {
	for name, value := range from {
		switch value := value.(type) {
		case float64:
			to[name] = real(to[name]) + value
		case object:
			inner, ok := to[name].(object)
			if !ok {
				inner = object{}
				to[name] = inner
			}
			sum(inner, value)
		}
	}
}

// real returns a number, 0 for anything else.
func real(x any) float64 {
	switch x := x.(type) {
	case float64:
		return x
	case int:
		return float64(x)
	case int64:
		return float64(x)
	case uint64:
		return float64(x)
	}
	return 0
}

// deleteVhostFrom deletes a vhost that another node has. This one has the catalogue.
func (r *request) deleteVhostFrom(to broker.Node, users *auth.Auth, name string) (any, error) {
	target := "/api/vhosts/" + url.PathEscape(name)
	a, err := r.ask(to, http.MethodGet, target, nil)
	if err != nil || a.Status != http.StatusOK {
		return a, err
	}
	if err := users.ClearVhost(r.Context(), name); err != nil {
		return nil, err
	}
	return r.ask(to, http.MethodDelete, target, nil)
}

// part is what an import has for one vhost.
type part struct {
	Queues    []json.RawMessage `json:"queues,omitempty"`
	Exchanges []json.RawMessage `json:"exchanges,omitempty"`
	Bindings  []json.RawMessage `json:"bindings,omitempty"`
}

// importElsewhere has other nodes declare what is in their vhosts, and leaves the rest in d.
func (r *request) importElsewhere(d *definitions) error {
	nodes := make(map[string]broker.Node)
	nowhere := false
	elsewhere := func(vhost string) bool {
		if vhost == "" {
			nowhere = true
			return false
		}
		_, err := r.s.o.Queues(vhost)
		node, is := r.elsewhere(err)
		if is {
			nodes[vhost] = node
		}
		return is
	}
	var raw part
	if err := json.Unmarshal(r.asked.Body, &raw); err != nil {
		return badRequest("%v", err)
	}
	parts := make(map[string]*part)
	of := func(vhost string) *part {
		if parts[vhost] == nil {
			parts[vhost] = new(part)
		}
		return parts[vhost]
	}
	for i, q := range d.Queues {
		if elsewhere(q.Vhost) {
			of(q.Vhost).Queues = append(of(q.Vhost).Queues, raw.Queues[i])
		}
	}
	for i, x := range d.Exchanges {
		if elsewhere(x.Vhost) {
			of(x.Vhost).Exchanges = append(of(x.Vhost).Exchanges, raw.Exchanges[i])
		}
	}
	for i, b := range d.Bindings {
		if elsewhere(b.Vhost) {
			of(b.Vhost).Bindings = append(of(b.Vhost).Bindings, raw.Bindings[i])
		}
	}
	if nowhere {
		return badRequest("a queue, an exchange or a binding has no vhost")
	}
	if err := r.declareElsewhere(parts, nodes); err != nil {
		return err
	}
	d.Queues = slices.DeleteFunc(d.Queues, func(q queueBody) bool { return parts[q.Vhost] != nil })
	d.Exchanges = slices.DeleteFunc(d.Exchanges, func(x exchangeBody) bool { return parts[x.Vhost] != nil })
	d.Bindings = slices.DeleteFunc(d.Bindings, func(b bindingBody) bool { return parts[b.Vhost] != nil })
	return nil
}

// declareElsewhere has the nodes that have vhosts declare what is in them.
func (r *request) declareElsewhere(parts map[string]*part, nodes map[string]broker.Node) error {
	for _, vhost := range slices.Sorted(maps.Keys(parts)) {
		body, err := json.Marshal(parts[vhost])
		if err != nil {
			return err
		}
		a, err := r.ask(nodes[vhost], http.MethodPost, "/api/definitions/"+url.PathEscape(vhost), body)
		if err == nil {
			err = a.err()
		}
		if err != nil {
			return named(err, "vhost", vhost)
		}
	}
	return nil
}
