package management

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/queue"
)

// ownersOf returns what lists nodes, of which the first one serves shard 1, and so on.
func ownersOf(names ...string) func() ([]Owner, error) {
	var all []Owner
	for i, name := range names {
		all = append(all, Owner{broker.Node{Name: name}, []uint32{uint32(i + 1)}})
	}
	return func() ([]Owner, error) { return all, nil }
}

// newElsewhere returns a node of several: vhosts whose name begins with "far" are at node b,
// and the catalogue is here. pass answers what is passed on.
func newElsewhere(t *testing.T, pass func(to string, p Passed) (Answered, error), change func(*Options)) *node {
	t.Helper()
	return newNode(t, func(o *Options) {
		here := o.Queues
		o.Queues = func(vhost string) (*queue.Engine, error) {
			if vhost == "" || strings.HasPrefix(vhost, "far") {
				return nil, &broker.NotOwnerError{Owner: broker.Node{Name: "b"}}
			}
			return here(vhost)
		}
		o.Elsewhere = &Elsewhere{Several: func() bool { return true },
			Owners:    ownersOf("a", "b", "c"),
			Serves:    func(uint32) error { return nil },
			Catalogue: func() (broker.Node, bool) { return broker.Node{Name: "a"}, true },
			Pass:      func(_ context.Context, to broker.Node, p Passed) (Answered, error) { return pass(to.Name, p) }}
		change(o)
	})
}

// TestElsewherePermissions: the node that has the catalogue sets permissions in vhosts that
// other nodes have, and asks those whether there is such a vhost.
func TestElsewherePermissions(t *testing.T) {
	n := newElsewhere(t, func(to string, p Passed) (Answered, error) {
		if to != "b" || p.Method != "GET" || !p.Part {
			t.Errorf("node %s is asked %+v", to, p)
		}
		if p.Target == "/api/vhosts/far" {
			return Answered{Status: http.StatusOK, Body: []byte(`{}`)}, nil
		}
		return Answered{Status: http.StatusNotFound, Body: []byte(`{"error":"Object Not Found","reason":"Not Found"}`)}, nil
	}, func(*Options) {})
	n.ask(201, "PUT", "/api/users/root", `{"password":"secret"}`)
	n = n.as("root:secret")
	all := `{"configure":"a","write":"b","read":"c"}`
	n.ask(201, "PUT", "/api/permissions/far/root", all)
	has(t, n.get("/api/permissions/far/root"), object{"vhost": "far", "configure": "a", "write": "b", "read": "c"})
	n.fails(400, "bad_request", "vhost_or_user_not_found", "PUT", "/api/permissions/far2/root", all)
	n.ask(204, "POST", "/api/definitions", `{"permissions":[{"user":"root","vhost":"far","configure":"d","write":"","read":""}]}`)
	has(t, n.get("/api/permissions/far/root"), object{"configure": "d"})
	n.fails(400, "bad_request", "no vhost", "POST", "/api/definitions", `{"queues":[{"name":"q"}]}`) // and nobody is asked
}

// TestElsewhereRefused: what another node refuses is no change: the log does not say that
// something was managed, and nobody waits for other nodes.
func TestElsewhereRefused(t *testing.T) {
	var log bytes.Buffer
	told, status := 0, http.StatusUnauthorized
	n := newElsewhere(t, func(string, Passed) (Answered, error) { return Answered{Status: status, Body: []byte(`{}`)}, nil }, func(o *Options) {
		o.Log = slog.New(slog.NewTextHandler(&log, nil))
		o.Tell = func(context.Context) { told++ }
	})
	n.ask(401, "PUT", "/api/queues/far/q", `{}`)
	if log.Len() > 0 {
		t.Errorf("a request that was refused is logged: %s", &log)
	}
	status = http.StatusCreated
	n.ask(201, "PUT", "/api/queues/far/q", `{}`)
	n.ask(201, "PUT", "/api/queues/%2F/q", `{}`)
	if lines := strings.Count(log.String(), "msg=managed"); lines != 2 || told > 0 {
		t.Errorf("two queues are declared, of which users and permissions know nothing: told %d times\n%s", told, &log)
	}
}

// TestElsewhereSearch: a connection is found though another node does not answer. If nobody
// else has it, that node may.
func TestElsewhereSearch(t *testing.T) {
	n := newElsewhere(t, func(to string, p Passed) (Answered, error) {
		switch {
		case to == "b":
			return Answered{}, errors.New("it is gone")
		case strings.HasSuffix(p.Target, "/x"):
			return Answered{Status: http.StatusOK, Body: []byte(`{"name":"x"}`)}, nil
		}
		return Answered{Status: http.StatusNotFound, Body: []byte(`{}`)}, nil
	}, func(*Options) {})
	has(t, n.get("/api/connections/x"), object{"name": "x"})
	n.ask(503, "GET", "/api/connections/y", "")
	n.ask(503, "DELETE", "/api/connections/y", "")
}

// TestElsewhereSilent: while a node that has vhosts does not answer, or is not known, there are
// no lists and no exports: they would lack what it has. What this node has is there.
func TestElsewhereSilent(t *testing.T) {
	unknown := false
	n := newNode(t, func(o *Options) {
		o.Elsewhere = &Elsewhere{Several: func() bool { return true },
			Owners: func() ([]Owner, error) {
				if unknown {
					return nil, broker.ErrUnavailable
				}
				return ownersOf("b")()
			},
			Serves:    func(uint32) error { return nil },
			Catalogue: func() (broker.Node, bool) { return broker.Node{Name: "a"}, true },
			Pass: func(_ context.Context, to broker.Node, p Passed) (Answered, error) {
				if to.Name != "b" || p.Principal == "" || p.Hops != 1 {
					t.Errorf("passed on to %q: %+v", to.Name, p)
				}
				return Answered{}, errors.New("it is gone")
			}}
	})
	n.ask(201, "PUT", "/api/queues/%2F/q", `{}`)
	for range 2 {
		for _, path := range []string{"/api/queues", "/api/exchanges", "/api/bindings", "/api/vhosts", "/api/connections", "/api/channels", "/api/consumers", "/api/overview", "/api/definitions", "/api/connections/c"} {
			o := n.ask(503, "GET", path, "").(object)
			has(t, o, object{"error": "service_unavailable"})
		}
		if got := n.names("/api/queues/%2F"); got != "q" {
			t.Errorf("the queues of a vhost of this node are %q", got)
		}
		unknown = true
	}
}

// TestElsewhereMoves: while a shard changes hands there is no list, neither at the node that
// puts it together nor at one that has lost the shard for which it is asked.
func TestElsewhereMoves(t *testing.T) {
	var lost uint32
	n := newElsewhere(t, func(to string, p Passed) (Answered, error) {
		if len(p.Shards) != 1 || to != string('a'+rune(p.Shards[0])-1) {
			t.Errorf("node %s is asked for what is in shards %d", to, p.Shards)
		}
		return Answered{Status: http.StatusOK, Body: []byte(`[{"name":"of ` + to + `"}]`)}, nil
	}, func(o *Options) {
		o.Elsewhere.Serves = func(id uint32) error {
			if id == lost {
				return broker.ErrUnavailable
			}
			return nil
		}
	})
	n.ask(201, "PUT", "/api/queues/%2F/q", `{}`)
	if got := n.names("/api/queues"); got != "q of b of c" {
		t.Errorf("the queues are %s", got)
	}
	lost = 1
	n.fails(503, "service_unavailable", "shard 1", "GET", "/api/queues", "")
	if got := n.names("/api/queues/%2F"); got != "q" {
		t.Errorf("the queues of a vhost are %s", got)
	}
	p := Passed{Principal: "User:guest", Guest: true, From: "127.0.0.1:4711", Method: "GET", Target: "/api/queues", Part: true, Shards: []uint32{2}}
	if a := n.server.Perform(t.Context(), p); a.Status != http.StatusOK {
		t.Errorf("asked for what it has: %d %s", a.Status, a.Body)
	}
	lost = 2
	if a := n.server.Perform(t.Context(), p); a.Status != http.StatusServiceUnavailable {
		t.Errorf("asked for what it has lost: %d %s", a.Status, a.Body)
	}
}
