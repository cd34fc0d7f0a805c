package console

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/machine/machinetest"
	"github.com/weirmq/weir/cloud/quota"
)

func TestSecurity(t *testing.T) {
	users, limits := auth.New(auth.Options{}), quota.New(quota.Options{})
	users.Serve(machinetest.New(users))
	limits.Serve(machinetest.New(limits))
	n := &node{broker: broker.New(broker.Options{})}
	known := true
	n.Handler = New(Options{Guard: guard(), Broker: n.broker,
		Users: func() *auth.Auth {
			if !known {
				return nil
			}
			return users
		},
		Quotas: func() *quota.Quotas {
			if !known {
				return nil
			}
			return limits
		}})
	type nothing struct{}
	c, err := auth.NewCredential(auth.SCRAMSHA256, "secret")
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(NewUser{"ann", []auth.Credential{c}})
	if err != nil {
		t.Fatal(err)
	}
	ask[nothing](t, n, 200, "POST", "/v1/users", string(body))
	if all := ask[[]User](t, n, 200, "GET", "/v1/users", ""); len(all) != 1 || all[0].Name != "ann" || all[0].Mechanisms[0] != auth.SCRAMSHA256 {
		t.Errorf("%+v", all)
	}
	ask[nothing](t, n, 200, "POST", "/v1/acls", `[{"type":"topic","pattern":"literal","name":"a b","principal":"User:ann","host":"*","operation":"read","permission":"allow"},
		{"type":"topic","pattern":"prefixed","name":"c","principal":"User:ann","host":"*","operation":"write","permission":"deny"}]`)
	if all := ask[[]auth.ACL](t, n, 200, "GET", "/v1/acls?type=topic&permission=deny", ""); len(all) != 1 || all[0].Name != "c" {
		t.Errorf("%+v", all)
	}
	if gone := ask[Removed](t, n, 200, "DELETE", "/v1/acls?name=a+b", ""); len(gone.ACLs) != 1 || len(users.ACLs(auth.Filter{})) != 1 {
		t.Errorf("%+v", gone)
	}
	ask[nothing](t, n, 200, "POST", "/v1/quotas", `{"user":"ann","produce":5}`)
	if all := ask[[]quota.Entry](t, n, 200, "GET", "/v1/quotas", ""); len(all) != 1 || all[0].Produce != 5 {
		t.Errorf("%+v", all)
	}
	for _, c := range []struct {
		status             int
		method, path, body string
	}{
		{400, "POST", "/v1/users", `{"name":"eve"}`}, {400, "POST", "/v1/users", `{"name":"eve","password":"x"}`},
		{400, "POST", "/v1/users", `{"name":"eve","credentials":[{"mechanism":"SCRAM-SHA-256","iterations":1}]}`},
		{404, "DELETE", "/v1/users/eve", ""}, {400, "POST", "/v1/acls", `[{"type":"topic"}]`}, {400, "POST", "/v1/acls", `[{"type":"thing"}]`},
		{400, "DELETE", "/v1/acls", ""}, {400, "GET", "/v1/acls?type=thing", ""}, {400, "POST", "/v1/quotas", `{"produce":1}`},
		{200, "DELETE", "/v1/users/ann", ""},
	} {
		ask[map[string]any](t, n, c.status, c.method, c.path, c.body)
	}
	known = false
	for _, path := range []string{"GET /v1/users", "GET /v1/acls", "GET /v1/quotas", "DELETE /v1/users/ann", "DELETE /v1/acls"} {
		method, at, _ := strings.Cut(path, " ")
		ask[Error](t, n, http.StatusMisdirectedRequest, method, at, "")
	}
}
