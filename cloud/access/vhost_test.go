package access

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/listener"
	"github.com/weirmq/weir/cloud/login"
	"github.com/weirmq/weir/cloud/machine/machinetest"
)

// world is an Access of a node whose users can be changed.
type world struct {
	*Access
	t     testing.TB
	users *auth.Auth
	owner bool
}

func newWorld(t testing.TB, o Options) *world {
	w := &world{t: t, users: auth.New(auth.Options{SuperUsers: []string{"User:root"}}), owner: true}
	w.users.Serve(machinetest.New(w.users))
	if o.Broker == nil {
		o.Broker = broker.New(broker.Options{})
	}
	o.Users = func() *auth.Auth {
		if !w.owner {
			return nil
		}
		return w.users
	}
	w.Access = New(o)
	return w
}

func (w *world) permit(p auth.VhostPermissions) {
	w.t.Helper()
	if err := w.users.SetVhostPermissions(w.t.Context(), p); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) addUser(name string) {
	w.t.Helper()
	c, err := auth.NewCredential(auth.SCRAMSHA256, "secret")
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.users.SetCredentials(w.t.Context(), name, c); err != nil {
		w.t.Fatal(err)
	}
}

// enter logs in by PLAIN at a listener that asks for no account.
func (w *world) enter(user, password string, anonymous bool) *login.Session {
	w.t.Helper()
	s := login.Always(listener.Settings{}, anonymous)
	x := login.NewSessions().Open(&listener.Listener{SASL: s.SASL, Anonymous: s.Anonymous, Guests: s.Guests}, time.Now, func(error) {})
	w.t.Cleanup(x.Close)
	g, err := x.Begin(login.New(login.Options{Users: w.Users}), login.Plain, netip.MustParseAddr("127.0.0.1"))
	if err != nil {
		w.t.Fatal(err)
	}
	_, done, err := g.Step(context.Background(), []byte("\x00"+user+"\x00"+password))
	if err != nil {
		w.t.Fatal(err)
	}
	if _, _, err := x.Welcome(g, done); err != nil {
		w.t.Fatal(err)
	}
	return x
}

// rights says what may be done: o to open, then c, w, r for the name q, W and R for the
// key k of the exchange x.
func rights(v *Vhost) string {
	out := ""
	for _, may := range []struct {
		what string
		do   bool
	}{{"o", v.Open()}, {"c", v.Configure("q")}, {"w", v.Write("q")}, {"r", v.Read("q")}, {"W", v.WriteTopic("x", "k")}, {"R", v.ReadTopic("x", "k")}} {
		if may.do {
			out += may.what
		}
	}
	return out
}

const all = "ocwrWR"

// TestVhost: who may do what, and that a change of permissions counts for the next
// question of an open connection.
func TestVhost(t *testing.T) {
	w := newWorld(t, Options{})
	ann, other, root := w.Vhost(login.Of("User:ann"), "/"), w.Vhost(login.Of("User:ann"), "b"), w.Vhost(login.Of("User:root"), "/")
	is := func(when string, v *Vhost, want string) {
		t.Helper()
		for range 2 { // the second answer is remembered
			if got := rights(v); got != want {
				t.Errorf("%s: %q, want %q", when, got, want)
			}
		}
	}
	is("no permissions", ann, "")
	is("a super user", root, all)
	w.permit(auth.VhostPermissions{User: "ann", Vhost: "/", Configure: "", Write: "^(q|amq\\.default)$", Read: ".*"})
	is("permissions", ann, "owrWR")
	is("another vhost", other, "")
	if !ann.Write("") || ann.Write("a") || ann.Configure("") {
		t.Error("the default exchange is not amq.default")
	}
	if err := w.users.SetTopicPermissions(t.Context(), auth.TopicPermissions{User: "ann", Vhost: "/", Exchange: "x", Write: "^j", Read: "^k"}); err != nil {
		t.Fatal(err)
	}
	is("topic permissions", ann, "owrR")
	if !ann.WriteTopic("x", "j") || !ann.WriteTopic("y", "k") {
		t.Error("other keys or exchanges")
	}
	w.addUser("bob")
	is("a change of others", ann, "owrR")
	w.permit(auth.VhostPermissions{User: "ann", Vhost: "/", Configure: ".*", Write: "", Read: ""})
	is("other permissions", ann, "ocR")
	w.owner = false
	is("nobody knows the permissions", ann, "")
	w.owner = true
	is("they are known again", ann, "ocR")
	if err := w.users.ClearVhostPermissions(t.Context(), "ann", "/"); err != nil {
		t.Fatal(err)
	}
	is("cleared", ann, "")
}

// TestVhostOfStandby: a standby answers by its copy, and as the owner by the log.
func TestVhostOfStandby(t *testing.T) {
	b := broker.New(broker.Options{})
	w := newWorld(t, Options{Broker: b})
	w.permit(auth.VhostPermissions{User: "ann", Vhost: "/", Configure: "", Write: ".*", Read: ""})
	copied, err := auth.Copied(w.users.Copy(), auth.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w.owner = false
	ann := w.Vhost(login.Of("User:ann"), "/")
	if got := rights(ann); got != "" {
		t.Errorf("without a copy: %q", got)
	}
	b.SetCopy(&broker.Copy{Asked: time.Now(), Users: copied})
	if got := rights(ann); got != "owWR" {
		t.Errorf("with one: %q", got)
	}
	w.permit(auth.VhostPermissions{User: "ann", Vhost: "/", Configure: ".*", Write: "", Read: ""})
	w.owner = true
	if got := rights(ann); got != "ocWR" {
		t.Errorf("as the owner: %q", got)
	}
}

// TestVhostWithoutUsers: a guest may do everything while there are no users, an
// anonymous client always; with Authorize both need permissions.
func TestVhostWithoutUsers(t *testing.T) {
	for _, authorize := range []bool{false, true} {
		w := newWorld(t, Options{Authorize: authorize})
		guest, stranger := w.Vhost(w.enter("guest", "guest", false), "/"), w.Vhost(w.enter("eve", "x", true), "/")
		want, permitted := all, all
		if authorize {
			want, permitted = "", "orWR"
		}
		if g, s := rights(guest), rights(stranger); g != want || s != want {
			t.Errorf("authorize %v: %q, %q", authorize, g, s)
		}
		w.permit(auth.VhostPermissions{User: "guest", Vhost: "/", Configure: "", Write: "", Read: ".*"})
		w.permit(auth.VhostPermissions{User: "ANONYMOUS", Vhost: "/", Configure: "", Write: "", Read: ".*"})
		if g, s := rights(guest), rights(stranger); g != permitted || s != permitted {
			t.Errorf("authorize %v, with permissions: %q, %q", authorize, g, s)
		}
		w.addUser("guest") // another one
		if g, s := rights(guest), rights(stranger); g != "" || s != permitted {
			t.Errorf("authorize %v, with a user: %q, %q", authorize, g, s)
		}
		w.addUser("ANONYMOUS")
		for _, user := range []string{"guest", "ANONYMOUS"} {
			if got := rights(w.Vhost(w.enter(user, "secret", false), "/")); got != "orWR" {
				t.Errorf("authorize %v: the user %s: %q", authorize, user, got)
			}
		}
	}
}

// TestVhostRemembersLittle: the names that a client uses do not fill the memory.
func TestVhostRemembersLittle(t *testing.T) {
	w := newWorld(t, Options{})
	w.permit(auth.VhostPermissions{User: "ann", Vhost: "/", Configure: "", Write: "7$", Read: ""})
	v := w.Vhost(login.Of("User:ann"), "/")
	for i := range 10 * maxAnswers {
		if name := fmt.Sprint(i); v.Write(name) != (i%10 == 7) {
			t.Errorf("%s: %v", name, v.Write(name))
		}
		if len(v.answers) > maxAnswers {
			t.Fatalf("%d answers", len(v.answers))
		}
	}
}

// BenchmarkVhost is the question of a publish.
func BenchmarkVhost(b *testing.B) {
	w := newWorld(b, Options{})
	w.permit(auth.VhostPermissions{User: "ann", Vhost: "/", Configure: "", Write: "^(plant-[0-9]+|amq\\..*)$", Read: ""})
	v := w.Vhost(login.Of("User:ann"), "/")
	for b.Loop() {
		if !v.Write("plant-17") {
			b.Fatal("it may not write")
		}
	}
}

// TestVhostTopic: a topic needs an ACL where Kafka's clients need one.
func TestVhostTopic(t *testing.T) {
	for _, authorize := range []bool{false, true} {
		w := newWorld(t, Options{Authorize: authorize})
		w.addUser("ann")
		v := w.Vhost(w.enter("ann", "secret", false), "/")
		if v.Topic(auth.Read, "192.0.2.1", "sensors") == authorize {
			t.Errorf("without an ACL, authorize %v: %v", authorize, !authorize)
		}
		if err := w.users.AddACLs(t.Context(), auth.ACL{Resource: auth.Resource{Type: auth.Topic, Pattern: auth.Literal, Name: "sensors"},
			Rule: auth.Rule{Principal: auth.Principal("ann"), Host: "192.0.2.1", Operation: auth.Read, Permission: auth.Allow}}); err != nil {
			t.Fatal(err)
		}
		if !v.Topic(auth.Read, "192.0.2.1", "sensors") {
			t.Error("an ACL allows it")
		}
		if v.Topic(auth.Write, "192.0.2.1", "sensors") == authorize || v.Topic(auth.Read, "192.0.2.2", "sensors") == authorize {
			t.Error("an ACL for another operation or host counts")
		}
		if v.ReadTopics("192.0.2.1") == authorize {
			t.Error("an ACL for one topic counts for all of them")
		}
		if err := w.users.AddACLs(t.Context(), auth.ACL{Resource: auth.Resource{Type: auth.Topic, Pattern: auth.Literal, Name: auth.Any},
			Rule: auth.Rule{Principal: auth.Principal("ann"), Host: "192.0.2.1", Operation: auth.Read, Permission: auth.Allow}}); err != nil {
			t.Fatal(err)
		}
		if !v.ReadTopics("192.0.2.1") || v.ReadTopics("192.0.2.2") == authorize {
			t.Error("an ACL for all topics does not count, or counts elsewhere")
		}
		w.owner = false
		if v.ReadTopics("192.0.2.1") == authorize || v.Topic(auth.Read, "192.0.2.1", "sensors") == authorize {
			t.Error("the users are not known")
		}
	}
}
