package console

import (
	"net/http"
	"slices"
	"testing"

	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/machine/machinetest"
)

func TestPermissions(t *testing.T) {
	users := auth.New(auth.Options{})
	users.Serve(machinetest.New(users))
	known := true
	n := &node{broker: broker.New(broker.Options{})}
	n.Handler = New(Options{Guard: guard(), Broker: n.broker, Users: func() *auth.Auth {
		if !known {
			return nil
		}
		return users
	}})
	const at, topics = "/v1/permissions", "/v1/topic-permissions"
	for _, c := range []struct {
		status             int
		method, path, body string
	}{
		{200, "GET", at, ""},
		{200, "POST", at, `{"user":"ann","vhost":"/","configure":"","write":".*","read":"^a"}`},
		{200, "POST", at, `{"user":"bob","vhost":"b","configure":".*","write":".*","read":".*"}`},
		{200, "POST", topics, `{"user":"ann","vhost":"/","exchange":"amq.topic","write":"^a","read":""}`},
		{200, "POST", topics, `{"user":"ann","vhost":"/","exchange":"x","write":"","read":""}`},
		{200, "DELETE", at + "?user=bob&vhost=b", ""}, {404, "DELETE", at + "?user=bob&vhost=b", ""},
		{200, "DELETE", topics + "?user=ann&vhost=%2F&exchange=x", ""}, {404, "DELETE", topics + "?user=ann&vhost=%2F&exchange=x", ""},
		{400, "DELETE", at, ""}, {400, "DELETE", at + "?user=ann", ""}, {400, "DELETE", topics + "?vhost=%2F", ""},
		{400, "POST", at, `{"user":"ann","vhost":"/","configure":"(","write":"","read":""}`}, {400, "POST", at, `{"user":"ann","host":"/"}`},
		{400, "POST", topics, `{"user":"ann","vhost":"/","exchange":"x","write":"(?=a)","read":""}`}, {400, "POST", topics, `[]`},
	} {
		ask[map[string]any](t, n, c.status, c.method, c.path, c.body)
	}
	want := []auth.VhostPermissions{{User: "ann", Vhost: "/", Write: ".*", Read: "^a"}}
	for _, path := range []string{at, at + "?user=ann", at + "?vhost=%2F", at + "?user=ann&vhost=%2F"} {
		all := ask[Permissions](t, n, 200, "GET", path, "")
		if !slices.Equal(all.Permissions, want) || !slices.Equal(all.TopicPermissions, []auth.TopicPermissions{{User: "ann", Vhost: "/", Exchange: "amq.topic", Write: "^a"}}) {
			t.Errorf("%s: %+v", path, all)
		}
	}
	for _, path := range []string{at + "?user=bob", at + "?user=ann&vhost=b"} {
		if all := ask[Permissions](t, n, 200, "GET", path, ""); len(all.Permissions)+len(all.TopicPermissions) != 0 {
			t.Errorf("%s: %+v", path, all)
		}
	}
	known = false
	for path, body := range map[string]string{at: `{"user":"ann","vhost":"/"}`, topics: `{"user":"ann","vhost":"/","exchange":"x"}`} {
		ask[Error](t, n, http.StatusMisdirectedRequest, "POST", path, body)
		ask[Error](t, n, http.StatusMisdirectedRequest, "DELETE", path, "")
	}
	ask[Error](t, n, http.StatusMisdirectedRequest, "GET", at, "")
}
