package auth

import (
	"strings"
	"testing"
)

// TestVhostRights: an expression permits what it does in RabbitMQ: a match anywhere in
// the name is enough, and the empty expression matches nothing.
func TestVhostRights(t *testing.T) {
	for _, c := range []struct {
		expression string
		matches    string
		others     string
	}{
		{".*", "a amq.default q-1 é", ""},
		{"", "", "a amq.default"},
		{"^$", "", "a amq.default"},
		{"^a", "a abc", "ba"},
		{"a", "a bab", "b"},
		{"^(amq\\.gen.*|amq\\.default)$", "amq.gen-x amq.default", "amq.direct xamq.default"},
		{"^janeway-.*", "janeway-a janeway-", "janeway kathryn.janeway-"},
		{"^(queue1|exchange1)$", "queue1 exchange1", "queue2 queue11"},
		{"(?i)^A$", "a A", "b"},
		{"[0-9]{3,}$", "q123 1234", "q12 123q"},
	} {
		a, follower := start(t, Options{})
		permit(t, a, VhostPermissions{"cfg", "/", c.expression, "", ""}, VhostPermissions{"wr", "/", "", c.expression, ""}, VhostPermissions{"rd", "/", "", "", c.expression})
		for want, names := range map[bool]string{true: c.matches, false: c.others} {
			for _, name := range strings.Fields(names) {
				for _, one := range []*Auth{a, follower} {
					configure, write, read := one.VhostRights("User:cfg", "/"), one.VhostRights("User:wr", "/"), one.VhostRights("User:rd", "/")
					if configure.Configure(name) != want || write.Write(name) != want || read.Read(name) != want {
						t.Errorf("%q and %s: want %v", c.expression, name, want)
					}
					if configure.Write(name) || configure.Read(name) || write.Configure(name) || write.Read(name) || read.Configure(name) || read.Write(name) {
						t.Errorf("%q and %s: one permission gives another", c.expression, name)
					}
					if !configure.Open() || !write.Open() || !read.Open() {
						t.Error("a user with permissions may not open the vhost")
					}
				}
			}
		}
	}
}

// TestNoRights: who has no permissions in a vhost may not even open it, a super user may
// do everything everywhere.
func TestNoRights(t *testing.T) {
	a, _ := start(t, Options{SuperUsers: []string{"User:root"}})
	permit(t, a, VhostPermissions{"ann", "/", ".*", ".*", ".*"})
	if err := a.SetTopicPermissions(t.Context(), TopicPermissions{"bob", "/", "x", ".*", ".*"}); err != nil {
		t.Fatal(err)
	}
	for _, who := range [][2]string{{"User:ann", "b"}, {"User:bob", "/"}, {"User:eve", "/"}, {"User:", "/"}, {"ann2", "/"}} {
		r := a.VhostRights(who[0], who[1])
		if r.Open() || r.Configure("q") || r.Write("q") || r.Read("q") || r.WriteTopic("x", "k") || r.ReadTopic("y", "k") {
			t.Errorf("%v may do something", who)
		}
	}
	for _, vhost := range []string{"/", "b"} {
		r := a.VhostRights("User:root", vhost)
		if !r.Open() || !r.Configure("q") || !r.Write("") || !r.Read("q") || !r.WriteTopic("x", "k") || !r.ReadTopic("x", "") {
			t.Error("a super user may not do everything")
		}
	}
}

// TestTopicRights: permissions for the keys of an exchange limit those for its name;
// names in braces are the user's and the vhost's, whatever characters they have.
func TestTopicRights(t *testing.T) {
	a, _ := start(t, Options{})
	permit(t, a, VhostPermissions{"ann", "/", "", ".*", ".*"}, VhostPermissions{"a.*", "v+", "", ".*", ".*"})
	for _, p := range []TopicPermissions{
		{"ann", "/", "amq.topic", "^a", "^b"}, {"ann", "/", "shut", "", ""},
		{"a.*", "v+", "own", "^{username}[.]", "^{vhost}$"}, {"a.*", "v+", "other", "^{client_id}$", "^x{2}$"},
	} {
		if err := a.SetTopicPermissions(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	ann, star := a.VhostRights("User:ann", "/"), a.VhostRights("User:a.*", "v+")
	for what, ok := range map[string]bool{
		"key":               ann.WriteTopic("amq.topic", "a.b") && ann.ReadTopic("amq.topic", "b.a"),
		"other key":         !ann.WriteTopic("amq.topic", "b.a") && !ann.ReadTopic("amq.topic", "a.b"),
		"other exchange":    ann.WriteTopic("mine", "b.a") && ann.ReadTopic("mine", ""),
		"empty expressions": !ann.WriteTopic("shut", "a") && !ann.ReadTopic("shut", "a"),
		"own name":          star.WriteTopic("own", "a.*.b") && star.ReadTopic("own", "v+"),
		"no expression":     !star.WriteTopic("own", "abc.b") && !star.ReadTopic("own", "vv"),
		"unknown in braces": star.WriteTopic("other", "{client_id}") && !star.WriteTopic("other", "x"),
		"a number in them":  star.ReadTopic("other", "xx") && !star.ReadTopic("other", "x"),
	} {
		if !ok {
			t.Error(what)
		}
	}
}

// TestUnusableExpression: an expression that another version has accepted and this one
// cannot compile permits nothing, and the others hold.
func TestUnusableExpression(t *testing.T) {
	a := New(Options{})
	if err := a.Apply(kindPermissions, []byte(`{"user":"ann","vhost":"/","configure":"(?!a)","write":".*","read":""}`)); err != nil {
		t.Fatal(err)
	}
	if err := a.Apply(kindTopicPermissions, []byte(`{"user":"ann","vhost":"/","exchange":"x","write":"((ab){100}){10}","read":".*"}`)); err != nil {
		t.Fatal(err)
	}
	r := a.VhostRights("User:ann", "/")
	if !r.Open() || r.Configure("b") || !r.Write("b") || r.WriteTopic("x", "ab") || !r.ReadTopic("x", "ab") {
		t.Error("other rights")
	}
}

// TestRightsChange: rights that a connection holds do not change; it asks again.
func TestRightsChange(t *testing.T) {
	a, _ := start(t, Options{})
	permit(t, a, VhostPermissions{"ann", "/", ".*", "", ""})
	before, changes := a.VhostRights("User:ann", "/"), a.Changes()
	if !before.Configure("q") {
		t.Error("it is not permitted")
	}
	permit(t, a, VhostPermissions{"bob", "/", ".*", "", ""})
	if a.VhostRights("User:ann", "/") != before {
		t.Error("another user's permissions change them")
	}
	permit(t, a, VhostPermissions{"ann", "/", "", "", ""})
	if after := a.VhostRights("User:ann", "/"); after.Configure("q") || !before.Configure("q") || a.Changes() == changes {
		t.Error("they do not change")
	}
}
