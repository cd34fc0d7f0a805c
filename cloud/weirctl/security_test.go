package main

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/weirmq/weir/cloud/admin"
	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/console"
	"github.com/weirmq/weir/cloud/fleet"
	"github.com/weirmq/weir/cloud/machine/machinetest"
	"github.com/weirmq/weir/cloud/measure"
	"github.com/weirmq/weir/cloud/quota"
)

// ownToken is the credential of the nodes of the tests.
var ownToken = admin.NewToken()

// TestSecurityVerbs: users, ACLs and quotas, as a person manages them.
func TestSecurityVerbs(t *testing.T) {
	users, limits := auth.New(auth.Options{}), quota.New(quota.Options{})
	users.Serve(machinetest.New(users))
	limits.Serve(machinetest.New(limits))
	node := httptest.NewServer(console.New(console.Options{
		Guard:  admin.New(admin.Options{Service: "weir-cloud", Own: ownToken}),
		Broker: broker.New(broker.Options{}), Metrics: measure.New(), Fleet: func() *fleet.Fleet { return nil },
		Users: func() *auth.Auth { return users }, Quotas: func() *quota.Quotas { return limits },
	}))
	t.Cleanup(node.Close)
	for _, c := range []struct {
		args          string
		stdin         string
		code          int
		stdout, wrong string
	}{
		{"users", "", 0, "USER", ""},
		{"users add ann", "secret\n", 0, "user ann can log in", ""},
		{"users add bob --mechanism scram-sha-256", "other", 0, "", ""},
		{"users", "", 0, "ann    SCRAM-SHA-256, SCRAM-SHA-512", ""},
		{"users -o json", "", 0, `"mechanisms": [`, ""},
		{"users add eve", "\n", 2, "", "must be the password"},
		{"users add eve --mechanism plain", "x\n", 2, "", "there are SCRAM-SHA-256, SCRAM-SHA-512"},
		{"users add eve secret", "", 2, "", "the password is asked for"},
		{"users delete eve", "", 2, "", "eve"},
		{"users delete bob", "", 0, "user bob deleted", ""},
		{"acls add --user ann --allow read,write --topic a,b --group g", "", 0, "", ""},
		{"acls add --user * --deny Delete --topic t --prefix --host 192.0.2.1", "", 0, "", ""},
		{"acls", "", 0, "*      deny    delete   topic   t…     192.0.2.1", ""},
		{"acls --user ann -o json", "", 0, `"principal": "User:ann"`, ""},
		{"acls add --user ann --allow reed --topic a", "", 2, "", "there are all, alter,"},
		{"acls add --user ann --allow read", "", 2, "", "what the ACL is for is missing"},
		{"acls add --user ann --topic a", "", 2, "", "--allow"},
		{"acls add --allow read --topic a", "", 2, "", "--user"},
		{"acls delete --user ann --allow read --topic a --prefix", "", 2, "", "no such ACL"},
		{"acls delete --user ann --allow read,write --topic a", "", 0, "write", ""},
		{"acls ann", "", 2, "", "add or delete"},
		{"quotas set --user ann --produce 5kB", "", 0, "limits set for user ann", ""},
		{"quotas set --user ann --produce much", "", 2, "", "not a size"},
		{"quotas set --default-user --client c --consume 7", "", 0, "", ""},
		{"quotas", "", 0, "ann                  5 kB/s", ""},
		{"quotas set --user ann", "", 2, "", "the limit is missing"},
		{"quotas set --produce 5", "", 2, "", "whom the limit is for is missing"},
		{"quotas set --user ann --default-user --produce 5", "", 2, "", "not both"},
		{"quotas set --user ann --produce -5", "", 2, "", "positive"},
		{"quotas delete --user ann --produce 5", "", 2, "", "it takes no"},
		{"quotas delete --user ann", "", 0, "limits removed for user ann", ""},
		{"quotas sett", "", 2, "", "did you mean set?"},
	} {
		var stdout, stderr strings.Builder
		code := run(append(strings.Fields(c.args), "--cloud", node.URL), []string{tokenVariable + "=" + ownToken}, strings.NewReader(c.stdin), &stdout, &stderr)
		if code != c.code || !strings.Contains(stdout.String(), c.stdout) || !strings.Contains(stderr.String(), c.wrong) {
			t.Errorf("%s: %d\n%s%s", c.args, code, stdout.String(), stderr.String())
		}
	}
	if err := users.CheckPassword("ann", "secret"); err != nil || len(users.Users()) != 1 {
		t.Errorf("%v, %v", err, users.Users())
	}
	if acls := users.ACLs(auth.Filter{}); len(acls) != 5 {
		t.Errorf("%v", acls)
	}
	if all := limits.Entries(); len(all) != 1 || all[0] != (quota.Entry{Entity: quota.Entity{User: quota.Default, Client: "c"}, Limits: quota.Limits{Consume: 7}}) {
		t.Errorf("%+v", all)
	}
}

// TestAdminVerbs: credentials, as a person manages them.
func TestAdminVerbs(t *testing.T) {
	users := auth.New(auth.Options{})
	users.Serve(machinetest.New(users))
	node := httptest.NewServer(console.New(console.Options{
		Guard:  admin.New(admin.Options{Service: "weir-cloud", Own: ownToken}),
		Broker: broker.New(broker.Options{}), Metrics: measure.New(), Fleet: func() *fleet.Fleet { return nil },
		Users: func() *auth.Auth { return users }, Quotas: func() *quota.Quotas { return nil },
	}))
	t.Cleanup(node.Close)
	for _, c := range []struct {
		args          string
		code          int
		stdout, wrong string
	}{
		{"admin", 0, "NAME", ""},
		{"admin add ann", 0, "weiradm1.", ""},
		{"admin add ann --role operate", 0, "weiradm1.", ""},
		{"admin add bob --role read -o json", 0, `"token": "weiradm1.`, ""},
		{"admin list", 0, "ann    operate", ""},
		{"admin -o json", 0, `"role": "read"`, ""},
		{"admin add eve --role root", 2, "", "use one of read, operate, administer"},
		{"admin add node:x", 2, "", "reserved for nodes"},
		{"admin add", 2, "", "admin takes"},
		{"admin remove eve", 2, "", "no such administrator"},
		{"admin remove bob", 0, "credential bob removed", ""},
		{"admin reset file:nowhere", 2, "", "nowhere"},
	} {
		var stdout, stderr strings.Builder
		code := run(append(strings.Fields(c.args), "--cloud", node.URL), []string{tokenVariable + "=" + ownToken}, nil, &stdout, &stderr)
		if code != c.code || !strings.Contains(stdout.String(), c.stdout) || !strings.Contains(stderr.String(), c.wrong) {
			t.Errorf("%s: %d\n%s%s", c.args, code, stdout.String(), stderr.String())
		}
	}
}

// TestRequestTime: a share of a core, as a person says it.
func TestRequestTime(t *testing.T) {
	limits := quota.New(quota.Options{})
	limits.Serve(machinetest.New(limits))
	node := httptest.NewServer(console.New(console.Options{
		Guard:  admin.New(admin.Options{Service: "weir-cloud", Own: ownToken}),
		Broker: broker.New(broker.Options{}), Metrics: measure.New(), Fleet: func() *fleet.Fleet { return nil },
		Users: func() *auth.Auth { return nil }, Quotas: func() *quota.Quotas { return limits },
	}))
	t.Cleanup(node.Close)
	for _, c := range []struct {
		args          string
		code          int
		stdout, wrong string
	}{
		{"quotas set --client d --request-time 12.5%", 0, "", ""},
		{"quotas", 0, "12.5%", ""},
		{"quotas -o json", 0, `"request": 12.5`, ""},
		{"quotas set --client d --request-time 250", 0, "", ""},
		{"quotas", 0, "250%", ""},
		{"quotas set --user ann --request-time half", 2, "", `"half" is not a percentage of one core`},
		{"quotas set --user ann --request-time NaN", 2, "", "is not a percentage"},
		{"quotas set --user ann --request-time inf", 2, "", "is not a percentage"},
		{"quotas set --user ann --request-time -5", 2, "", "is not a percentage"},
		{"quotas set --user ann --request-time 0", 2, "", "the limit is missing"},
		{"quotas delete --client d --request-time 5", 2, "", "it takes no"},
		{"quotas delete --client d", 0, "", ""},
		{"quotas --help", 0, "percent of one core", ""},
	} {
		var stdout, stderr strings.Builder
		code := run(append(strings.Fields(c.args), "--cloud", node.URL), []string{tokenVariable + "=" + ownToken}, nil, &stdout, &stderr)
		if code != c.code || !strings.Contains(stdout.String(), c.stdout) || !strings.Contains(stderr.String(), c.wrong) {
			t.Errorf("%s: %d\n%s%s", c.args, code, stdout.String(), stderr.String())
		}
	}
	if all := limits.Entries(); len(all) != 0 {
		t.Errorf("%+v", all)
	}
}
