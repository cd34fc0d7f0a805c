package main

import (
	"net/http/httptest"
	"strings"
	"testing"
)

// TestSessions: what a gateway's sessions look like, and that it is the gateway that
// is asked, with the gateway's credential.
func TestSessions(t *testing.T) {
	t.Chdir(t.TempDir())
	gateway := serve(t, 200, []session{{Client: "pump-7", User: "bob", Connected: true, Address: "192.0.2.1:5", Subscriptions: []string{"cmd/7", "all/#"}, InFlight: 2, Queued: 1500, QueuedBytes: 3_000_000}, {Client: "b"}})
	gone := httptest.NewServer(nil)
	gone.Close()
	for _, c := range []struct {
		args string
		code int
		want []string
	}{
		{"sessions --edge " + gateway.URL, 0, []string{"pump-7", "connected from 192.0.2.1:5", "bob", "1500", "3 MB", "offline"}},
		{"sessions pump-7 --edge " + gateway.URL, 0, []string{"pump-7 is connected from 192.0.2.1:5: 2 in flight, 1500 queued (3 MB)", "subscriptions: cmd/7, all/#"}},
		{"sessions pump-7 -o json --edge " + gateway.URL, 0, []string{`"queued_bytes": 3000000`}},
		{"sessions x --edge " + gateway.URL, 2, []string{`no session of client "x"`}},
		{"sessions --edge " + gone.URL, 2, []string{"reach the gateway at " + gone.URL}},
		{"sessions a b", 2, []string{"the id of one client"}},
		{"sessions --cloud x", 2, []string{"unknown flag --cloud"}},
	} {
		var out strings.Builder
		code := run(strings.Fields(c.args), nil, nil, &out, &out)
		for _, want := range c.want {
			if code != c.code || !strings.Contains(out.String(), want) {
				t.Errorf("%s: %d, without %q:\n%s", c.args, code, want, &out)
			}
		}
	}
	node, own, _ := guarded(t, false)
	dataOf(t, "data/edge", own)
	var out strings.Builder
	if code := run([]string{"sessions", "--edge", node.URL}, nil, nil, &out, &out); !strings.Contains(out.String(), "unknown request: GET /sessions") {
		t.Errorf("with the gateway's own credential: %d\n%s", code, &out)
	}
}
