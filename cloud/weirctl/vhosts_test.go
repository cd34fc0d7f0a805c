package main

import (
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/weirmq/weir/cloud/admin"
	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/console"
	"github.com/weirmq/weir/cloud/measure"
	"github.com/weirmq/weir/cloud/shard"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/mem"
)

// TestVhostsVerb: vhosts, as a person manages them.
func TestVhostsVerb(t *testing.T) {
	quiet := slog.New(slog.DiscardHandler)
	s := shard.New(shard.Options{Log: quiet})
	if err := s.Open(t.Context(), commitlog.Options{Bucket: mem.New(), Node: "a", Log: quiet}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	b := broker.New(broker.Options{})
	b.Lead(s)
	node := httptest.NewServer(console.New(console.Options{
		Guard: admin.New(admin.Options{Service: "weir-cloud", Own: ownToken}), Broker: b, Metrics: measure.New(), Users: func() *auth.Auth { return s.Users },
	}))
	t.Cleanup(node.Close)
	for _, c := range []struct {
		args          string
		code          int
		stdout, wrong string
	}{
		{"vhosts create plant", 0, "vhost plant exists now", ""},
		{"vhosts", 0, "plant        0          0", ""},
		{"vhosts -o json", 0, `"name": "/"`, ""},
		{completeWord + " vhosts delete pl", 0, "plant", ""},
		{"permissions set ann --vhost plant --configure .* --write .* --read .*", 0, "in vhost plant", ""},
		{"permissions set ann --vhost plan --configure .* --write .* --read .*", 2, "", `no such vhost: "plan"`},
		{"vhosts delete plant", 0, "vhost plant deleted", ""},
		{"vhosts delete plant", 2, "", `no such vhost: "plant"`},
		{"permissions -o json", 0, `"permissions": []`, ""},
		{"vhosts create", 2, "", "create NAME"},
		{"vhosts creat x", 2, "", "did you mean create?"},
		{"vhosts --help", 0, "weirctl vhosts create plant", ""},
	} {
		args := strings.Fields(c.args)
		environ := []string{tokenVariable + "=" + ownToken, "WEIRCTL_CLOUD=" + node.URL}
		var stdout, stderr strings.Builder
		code := run(args, environ, nil, &stdout, &stderr)
		if code != c.code || !strings.Contains(stdout.String(), c.stdout) || !strings.Contains(stderr.String(), c.wrong) {
			t.Errorf("%s: %d\n%s%s", c.args, code, stdout.String(), stderr.String())
		}
	}
}
