package console

import (
	"slices"
	"strings"
	"testing"

	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/machine/machinetest"
	"github.com/weirmq/weir/cloud/queue/state"
)

// TestVhosts: vhosts come and go with what is in them, and with the permissions.
func TestVhosts(t *testing.T) {
	users := auth.New(auth.Options{})
	users.Serve(machinetest.New(users))
	n := newNode(t)
	n.Handler = New(Options{Guard: guard(), Broker: n.broker, Users: func() *auth.Auth { return users }})
	type nothing struct{}
	ask[nothing](t, n, 200, "POST", "/v1/vhosts", `{"name":"plant"}`)
	ask[nothing](t, n, 200, "POST", "/v1/vhosts", `{"name":"plant"}`)
	e, err := n.broker.Queues("plant")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.DeclareQueue(t.Context(), "plant", "q", state.Settings{Durable: true, TTL: -1, MaxLength: -1, MaxBytes: -1, DeliveryLimit: -1}); err != nil {
		t.Fatal(err)
	}
	if all := ask[[]Vhost](t, n, 200, "GET", "/v1/vhosts", ""); !slices.Equal(all, []Vhost{{Name: "/"}, {Name: "plant", Queues: 1}}) {
		t.Errorf("%+v", all)
	}
	for _, c := range []struct {
		status             int
		method, path, body string
	}{
		{200, "POST", "/v1/permissions", `{"user":"ann","vhost":"plant","configure":"","write":"","read":""}`},
		{200, "POST", "/v1/topic-permissions", `{"user":"ann","vhost":"plant","exchange":"amq.topic","write":"","read":""}`},
		{200, "POST", "/v1/permissions", `{"user":"ann","vhost":"/","configure":"","write":"","read":""}`},
		{404, "POST", "/v1/permissions", `{"user":"ann","vhost":"plnt","configure":"","write":"","read":""}`},
		{404, "POST", "/v1/topic-permissions", `{"user":"ann","vhost":"plnt","exchange":"x","write":"","read":""}`},
		{200, "DELETE", "/v1/vhosts?name=plant", ""}, {404, "DELETE", "/v1/vhosts?name=plant", ""},
		{400, "POST", "/v1/vhosts", `{"name":""}`}, {400, "POST", "/v1/vhosts", `{"name":"` + strings.Repeat("x", 256) + `"}`}, {400, "POST", "/v1/vhosts", `{"vhost":"x"}`},
	} {
		ask[map[string]any](t, n, c.status, c.method, c.path, c.body)
	}
	if all := ask[[]Vhost](t, n, 200, "GET", "/v1/vhosts", ""); !slices.Equal(all, []Vhost{{Name: "/"}}) {
		t.Errorf("%+v", all)
	}
	if left := users.VhostPermissions("", ""); len(left) != 1 || left[0].Vhost != "/" || len(users.TopicPermissions("", "", "")) != 0 {
		t.Errorf("permissions that are left: %+v", left)
	}
	standby := &node{broker: broker.New(broker.Options{})}
	standby.Handler = New(Options{Guard: guard(), Broker: standby.broker, Users: func() *auth.Auth { return nil }})
	for path, body := range map[string]string{"GET /v1/vhosts": "", "POST /v1/vhosts": `{"name":"x"}`, "DELETE /v1/vhosts?name=x": ""} {
		method, at, _ := strings.Cut(path, " ")
		ask[Error](t, standby, 421, method, at, body)
	}
}
