package auth

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/admin"
)

// copyOf is a copy of a, as another node makes it.
func copyOf(t *testing.T, a *Auth, o Options) *Auth {
	t.Helper()
	c, err := Copied(a.Copy(), o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func setPassword(t *testing.T, a *Auth, user, password string) {
	t.Helper()
	c, err := NewCredential(SCRAMSHA256, password)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.SetCredentials(t.Context(), user, c); err != nil {
		t.Fatal(err)
	}
}

// TestCopy: a copy accepts the same logins and allows the same operations as the
// original; it has no administrators.
func TestCopy(t *testing.T) {
	a, _ := start(t, Options{})
	setPassword(t, a, "ann", "secret")
	if err := a.AddACLs(t.Context(), acl(t, "allow User:ann read topic prefixed a")); err != nil {
		t.Fatal(err)
	}
	if err := a.SetAdmin(t.Context(), "root", admin.Administer, admin.Hash{1}, time.Now()); err != nil {
		t.Fatal(err)
	}
	permit(t, a, VhostPermissions{"ann", "/", "", "", "^a"})
	if err := a.SetTopicPermissions(t.Context(), TopicPermissions{"ann", "/", "amq.topic", "", "^a"}); err != nil {
		t.Fatal(err)
	}
	body := string(a.Copy())
	if strings.Contains(body, "root") || strings.Contains(body, "secret") {
		t.Errorf("the copy tells too much: %s", body)
	}
	c := copyOf(t, a, Options{})
	if err := c.CheckPassword("ann", "secret"); err != nil {
		t.Error(err)
	}
	if err := c.CheckPassword("ann", "other"); !errors.Is(err, ErrCredentials) {
		t.Errorf("another password: %v", err)
	}
	ann := Who{"User:ann", "192.0.2.1"}
	if !c.Allows(ann, Describe, Topic, "abc") || c.Allows(ann, Describe, Topic, "b") || c.Allows(Who{"User:bob", ""}, Read, Topic, "abc") {
		t.Error("the copy does not allow what the original does")
	}
	if r := c.VhostRights("User:ann", "/"); !r.Open() || !r.Read("abc") || r.Read("b") || r.Write("abc") || !r.ReadTopic("amq.topic", "abc") || r.ReadTopic("amq.topic", "b") ||
		c.VhostRights("User:ann", "b").Open() || c.VhostRights("User:bob", "/").Open() {
		t.Error("the copy does not permit what the original does")
	}
	if !reflect.DeepEqual(c.ACLs(Filter{}), a.ACLs(Filter{})) || !reflect.DeepEqual(c.Users(), a.Users()) {
		t.Errorf("%v, %v", c.ACLs(Filter{}), c.Users())
	}
	one, _ := a.offered("nobody", SCRAMSHA256)
	other, _ := c.offered("nobody", SCRAMSHA256)
	if !slices.Equal(one.Salt, other.Salt) {
		t.Error("the two tell users who do not exist from those who do")
	}
}

// TestCopyOfAnotherVersion: what is not known is ignored if that gives no user more
// rights.
func TestCopyOfAnotherVersion(t *testing.T) {
	a, _ := start(t, Options{})
	setPassword(t, a, "ann", "secret")
	body := string(a.Copy())
	for what, c := range map[string]struct {
		body string
		ok   bool
	}{
		"a member":                            {strings.Replace(body, `{"credentials"`, `{"later":{},"credentials"`, 1), true},
		"a mechanism":                         {strings.Replace(body, `{"credentials":[`, `{"credentials":[{"user":"bob","mechanism":"SCRAM-SHA3-512"},`, 1), true},
		"an operation":                        {strings.Replace(body, `"acls":[]`, `"acls":[{"type":"topic","pattern":"literal","name":"x","principal":"User:a","host":"*","operation":"later","permission":"deny"}]`, 1), false},
		"permissions that cannot be in a log": {strings.Replace(body, `"acls":[]`, `"acls":[],"permissions":[{"user":"ann","vhost":""}]`, 1), false},
		"topic permissions that cannot be":    {strings.Replace(body, `"acls":[]`, `"acls":[],"topic_permissions":[{"user":"ann","vhost":"/"}]`, 1), false},
		"not a document":                      {body[:len(body)/2], false},
	} {
		got, err := Copied([]byte(c.body), Options{})
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", what, err)
		}
		if err == nil && (len(got.Users()) != 1 || got.CheckPassword("ann", "secret") != nil) {
			t.Errorf("%s: users %v", what, got.Users())
		}
	}
}

// TestEmpty: a node without users says so, and a copy that lacks some does not.
func TestEmpty(t *testing.T) {
	a, _ := start(t, Options{})
	none := copyOf(t, a, Options{})
	setPassword(t, a, "ann", "secret")
	some := copyOf(t, a, Options{})
	partial, err := Copied([]byte(strings.ReplaceAll(string(a.Copy()), "SCRAM-SHA-256", "SCRAM-SHA3-512")), Options{})
	if err != nil || len(partial.Users()) != 0 {
		t.Fatal(err)
	}
	if !none.Empty() || a.Empty() || some.Empty() || partial.Empty() {
		t.Error(none.Empty(), a.Empty(), some.Empty(), partial.Empty())
	}
	if err := a.RemoveUser(t.Context(), "ann"); err != nil || !a.Empty() {
		t.Errorf("the last user is removed: %v", err)
	}
}

// TestChanges: each entry counts.
func TestChanges(t *testing.T) {
	a, _ := start(t, Options{})
	before := a.Changes()
	setPassword(t, a, "ann", "secret")
	if now := a.Changes(); now <= before {
		t.Errorf("%d changes, then %d", before, now)
	}
}

// TestSupersede: Changed is called for exactly the users with a credential that the
// newer copy does not have; logins under way fail.
func TestSupersede(t *testing.T) {
	a, _ := start(t, Options{})
	for _, user := range []string{"ann", "bob", "cat"} {
		setPassword(t, a, user, "secret")
	}
	var told []string
	old := copyOf(t, a, Options{Changed: func(user string) { told = append(told, user) }})
	began := old.Generation()
	setPassword(t, a, "bob", "other")
	if err := a.RemoveUser(t.Context(), "cat"); err != nil {
		t.Fatal(err)
	}
	setPassword(t, a, "dan", "secret")
	old.Supersede(copyOf(t, a, Options{}))
	slices.Sort(told)
	if !slices.Equal(told, []string{"bob", "cat"}) {
		t.Errorf("told of %q", told)
	}
	if old.Generation() == began {
		t.Error("a login that is under way does not notice")
	}
}
