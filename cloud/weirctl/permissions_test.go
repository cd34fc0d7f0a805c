package main

import (
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/weirmq/weir/cloud/admin"
	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/console"
	"github.com/weirmq/weir/cloud/machine/machinetest"
	"github.com/weirmq/weir/cloud/measure"
)

// TestPermissionsVerb: permissions in vhosts, as a person manages them.
func TestPermissionsVerb(t *testing.T) {
	users := auth.New(auth.Options{})
	users.Serve(machinetest.New(users))
	node := httptest.NewServer(console.New(console.Options{
		Guard:  admin.New(admin.Options{Service: "weir-cloud", Own: ownToken}),
		Broker: broker.New(broker.Options{}), Metrics: measure.New(), Users: func() *auth.Auth { return users },
	}))
	t.Cleanup(node.Close)
	for _, c := range []struct {
		args          string // separated by spaces; _ is an empty one
		code          int
		stdout, wrong string
	}{
		{"permissions", 0, "USER", ""},
		{"permissions set ann --configure .* --write .* --read .*", 0, "permissions of user ann set in vhost /", ""},
		{"permissions set ann --configure _ --write ^a --read .*", 0, "", ""},
		{"permissions set bob --vhost b --configure .* --write .* --read .*", 0, "in vhost b", ""},
		{"permissions set bob --vhost b --exchange amq.topic --write ^{username} --read _", 0, "exchange amq.topic in vhost b", ""},
		{"permissions set eve --vhost b --exchange x --write _ --read _", 0, "", ""},
		{"permissions", 0, "ann    /                   ''          '^a'            '.*'", ""},
		{"permissions", 0, "bob    b       amq.topic               '^{username}'   ''", ""},
		{"permissions list bob -o json", 0, `"configure": ".*"`, ""},
		{"permissions list --vhost / -o json", 0, `"topic_permissions": []`, ""},
		{"permissions list --vhost /", 0, "ann    /", ""},
		{"permissions set ann --write .* --read .*", 2, "", "--configure is missing: set it to '.*' for everything, or to '' for nothing"},
		{"permissions set ann --exchange x --write .*", 2, "", "--read is missing"},
		{"permissions set ann --exchange x --configure .* --write .* --read .*", 2, "", "exclude each other"},
		{"permissions set ann --configure ( --write .* --read .*", 2, "", `expression "(" for configure`},
		{"permissions set ann --configure ^(?!amq) --write .* --read .*", 2, "", "without look-around"},
		{"permissions set ann --vhost _ --configure _ --write .* --read .*", 2, "", "name of the vhost is empty"},
		{"permissions set", 2, "", "set USER"},
		{"permissions clean ann", 2, "", "did you mean clear?"},
		{"permissions clear ann --read .*", 2, "", "takes no --read"},
		{"permissions clear eve", 2, "", `no such permissions of user "eve" in vhost "/"`},
		{"permissions clear eve --vhost b --exchange x", 0, "cleared for keys of exchange x", ""},
		{"permissions clear bob --vhost b", 0, "permissions of user bob cleared in vhost b", ""},
		{"permissions --help", 0, "RabbitMQ's", ""},
	} {
		args := strings.Fields(c.args)
		for i, arg := range args {
			args[i] = strings.TrimPrefix(arg, "_")
		}
		var stdout, stderr strings.Builder
		code := run(append(args, "--cloud", node.URL), []string{tokenVariable + "=" + ownToken, "WEIR_READ=x"}, nil, &stdout, &stderr)
		if code != c.code || !strings.Contains(stdout.String(), c.stdout) || !strings.Contains(stderr.String(), c.wrong) {
			t.Errorf("%s: %d\n%s%s", c.args, code, stdout.String(), stderr.String())
		}
	}
	if all := users.VhostPermissions("", ""); !slices.Equal(all, []auth.VhostPermissions{{User: "ann", Vhost: "/", Write: "^a", Read: ".*"}}) {
		t.Errorf("%+v", all)
	}
	if all := users.TopicPermissions("", "", ""); !slices.Equal(all, []auth.TopicPermissions{{User: "bob", Vhost: "b", Exchange: "amq.topic", Write: "^{username}"}}) {
		t.Errorf("%+v", all)
	}
}
