package auth

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/weirmq/weir/cloud/machine"
	"github.com/weirmq/weir/cloud/machine/machinetest"
)

// start returns an Auth and another that follows the same journal.
func start(t *testing.T, o Options) (a, follower *Auth) {
	t.Helper()
	a, follower = New(o), New(o)
	log := machinetest.New(a, follower)
	log.Alike(t)
	a.Serve(log)
	return a, follower
}

// TestShortSalts: a salt of any length is taken, as by Kafka, but not into a log that
// older programs may read.
func TestShortSalts(t *testing.T) {
	a, _ := start(t, Options{})
	older := New(Options{})
	older.Serve(old(t))
	for n := range 8 {
		salt := []byte("saltsalt")[:n]
		salted, err := SCRAMSHA256.salted("pencil", salt, 4096)
		if err != nil {
			t.Fatal(err)
		}
		c, err := CredentialOf(SCRAMSHA256, salted, salt, 4096)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.SetCredentials(t.Context(), "ann", c); err != nil {
			t.Fatal(err)
		}
		if err := a.CheckPassword("ann", "pencil"); err != nil {
			t.Errorf("salt of %d bytes: %v", n, err)
		}
		if err := older.SetCredentials(t.Context(), "ann", c); !errors.Is(err, machine.ErrLevel) {
			t.Errorf("salt of %d bytes at level 1: %v", n, err)
		}
		if err := New(Options{}).Restore(a.Snapshot()); err != nil {
			t.Error(err)
		}
	}
}

// acl reads "allow User:a read topic literal x [host]".
func acl(t *testing.T, s string) ACL {
	t.Helper()
	f := strings.Fields(s)
	a := ACL{Resource{Name: f[5]}, Rule{Principal: f[1], Host: Any}}
	if len(f) > 6 {
		a.Host = f[6]
	}
	err := errors.Join(a.Permission.UnmarshalText([]byte(f[0])), a.Operation.UnmarshalText([]byte(f[2])),
		a.Type.UnmarshalText([]byte(f[3])), a.Pattern.UnmarshalText([]byte(f[4])))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestAllows(t *testing.T) {
	for _, c := range []struct {
		acls string // separated by ";"
		asks string // user host op type name
		want bool
	}{
		{"", "a 1.1.1.1 read topic x", false},
		{"", "root 1.1.1.1 alter cluster kafka-cluster", true},
		{"allow User:a read topic literal x", "a 1.1.1.1 read topic x", true},
		{"allow User:a read topic literal x", "b 1.1.1.1 read topic x", false},
		{"allow User:a read topic literal x", "a 1.1.1.1 read topic xx", false},
		{"allow User:a read topic literal x", "a 1.1.1.1 read group x", false},
		{"allow User:a read topic literal x", "a 1.1.1.1 write topic x", false},
		{"allow User:a read topic literal x", "a 1.1.1.1 describe topic x", true},
		{"allow User:a delete topic literal x", "a 1.1.1.1 describe topic x", true},
		{"allow User:a create topic literal x", "a 1.1.1.1 describe topic x", false},
		{"allow User:a alter-configs topic literal x", "a 1.1.1.1 describe-configs topic x", true},
		{"allow User:a alter topic literal x", "a 1.1.1.1 describe-configs topic x", false},
		{"allow User:a describe topic literal x", "a 1.1.1.1 read topic x", false},
		{"allow User:a all topic literal x", "a 1.1.1.1 alter-configs topic x", true},
		{"allow User:* read topic literal *", "a 1.1.1.1 read topic x", true},
		{"allow User:a read topic prefixed te", "a 1.1.1.1 read topic test", true},
		{"allow User:a read topic prefixed test", "a 1.1.1.1 read topic te", false},
		{"allow User:a read topic prefixed *", "a 1.1.1.1 read topic te", false},
		{"allow User:a read topic literal x 1.1.1.1", "a 1.1.1.1 read topic x", true},
		{"allow User:a read topic literal x 1.1.1.1", "a 1.1.1.2 read topic x", false},
		{"allow User:a read topic literal x;deny User:a read topic literal *", "a 1.1.1.1 read topic x", false},
		{"allow User:a read topic literal x;deny User:* all topic prefixed x", "a 1.1.1.1 read topic x", false},
		{"allow User:a read topic literal x;deny User:a describe topic literal x", "a 1.1.1.1 read topic x", true},
		{"allow User:a read topic literal x;deny User:a describe topic literal x", "a 1.1.1.1 describe topic x", false},
		{"allow User:a all topic literal *;deny User:a write topic literal x 9.9.9.9", "a 1.1.1.1 write topic x", true},
		{"deny User:root all topic literal *", "root 1.1.1.1 write topic x", true},
	} {
		a, _ := start(t, Options{SuperUsers: []string{"User:root"}})
		for s := range strings.SplitSeq(c.acls, ";") {
			if s != "" {
				if err := a.AddACLs(t.Context(), acl(t, s)); err != nil {
					t.Fatal(err)
				}
			}
		}
		f := strings.Fields(c.asks)
		asked := acl(t, "allow x "+f[2]+" "+f[3]+" literal "+f[4])
		if got := a.Allows(Who{Principal(f[0]), f[1]}, asked.Operation, asked.Type, asked.Name); got != c.want {
			t.Errorf("with %q: %q is allowed: %v", c.acls, c.asks, got)
		}
	}
}

func TestAllowsSome(t *testing.T) {
	for _, c := range []struct {
		acls string
		want bool
	}{
		{"", false},
		{"allow User:a read topic literal x", false},
		{"allow User:a write topic literal x", true},
		{"allow User:a write topic literal *", true},
		{"allow User:a write topic prefixed x", true},
		{"allow User:a write group literal x", false},
		{"allow User:a write topic literal x;deny User:a write topic literal x", false},
		{"allow User:a write topic literal x;deny User:a write topic literal y", true},
		{"allow User:a write topic literal x;deny User:a all topic literal *", false},
		{"allow User:a write topic literal xy;deny User:a write topic prefixed x", false},
		{"allow User:a write topic prefixed x;deny User:a write topic prefixed xy", true},
		{"allow User:a write topic prefixed x;deny User:a write topic literal x", true},
		{"allow User:a write topic literal *;deny User:a write topic prefixed x", true},
	} {
		a, _ := start(t, Options{})
		for s := range strings.SplitSeq(c.acls, ";") {
			if s != "" {
				if err := a.AddACLs(t.Context(), acl(t, s)); err != nil {
					t.Fatal(err)
				}
			}
		}
		if got := a.AllowsSome(Who{"User:a", "1.1.1.1"}, Write, Topic); got != c.want {
			t.Errorf("with %q: %v", c.acls, got)
		}
	}
}

// TestAllowsAll: one ACL must be for all resources, and a Deny of a single one counts.
func TestAllowsAll(t *testing.T) {
	for _, c := range []struct {
		acls string
		want bool
	}{
		{"", false},
		{"allow User:a read topic literal *", true},
		{"allow User:a all topic literal *", true},
		{"allow User:a write topic literal *", false},
		{"allow User:b read topic literal *", false},
		{"allow User:a read group literal *", false},
		{"allow User:a read topic literal x", false},
		{"allow User:a read topic prefixed x", false},
		{"allow User:a read topic literal *;deny User:a read topic literal x", false},
		{"allow User:a read topic literal *;deny User:a all topic prefixed x", false},
		{"allow User:a read topic literal *;deny User:a write topic literal x", true},
		{"allow User:a read topic literal *;deny User:a read group literal x", true},
		{"allow User:a read topic literal *;deny User:b read topic literal x", true},
	} {
		a, _ := start(t, Options{})
		for s := range strings.SplitSeq(c.acls, ";") {
			if s != "" {
				if err := a.AddACLs(t.Context(), acl(t, s)); err != nil {
					t.Fatal(err)
				}
			}
		}
		if got := a.AllowsAll(Who{"User:a", "1.1.1.1"}, Read, Topic); got != c.want {
			t.Errorf("with %q: %v", c.acls, got)
		}
	}
	a, _ := start(t, Options{SuperUsers: []string{"User:a"}})
	if !a.AllowsAll(Who{"User:a", "1.1.1.1"}, Read, Topic) {
		t.Error("a super user may not")
	}
}

func TestACLs(t *testing.T) {
	a, _ := start(t, Options{})
	var all []ACL
	for _, s := range []string{"allow User:a read topic literal test", "allow User:b write topic literal *", "deny User:a read topic prefixed te",
		"allow User:a read topic prefixed other", "allow User:a read group literal test"} {
		all = append(all, acl(t, s))
	}
	if err := a.AddACLs(t.Context(), append(all, all[0])...); err != nil {
		t.Fatal(err)
	}
	if err := a.AddACLs(t.Context(), all...); err != nil || len(a.ACLs(Filter{})) != len(all) {
		t.Fatalf("%v: %v", err, a.ACLs(Filter{}))
	}
	for _, c := range []struct {
		f    Filter
		want []int
	}{
		{Filter{Type: Topic, Pattern: Match, Name: "test"}, []int{1, 0, 2}},
		{Filter{Type: Topic, Pattern: Literal, Name: "test"}, []int{0}},
		{Filter{Name: "test"}, []int{0, 4}},
		{Filter{Pattern: Prefixed}, []int{3, 2}},
		{Filter{Principal: "User:b"}, []int{1}},
		{Filter{Permission: Deny}, []int{2}},
		{Filter{Operation: Write}, []int{1}},
		{Filter{Host: "1.1.1.1"}, nil},
		{Filter{Pattern: Match, Name: "*"}, []int{1}},
	} {
		var want []ACL
		for _, i := range c.want {
			want = append(want, all[i])
		}
		if got := a.ACLs(c.f); !slices.Equal(got, want) {
			t.Errorf("%+v: %v, want %v", c.f, got, want)
		}
	}
	gone, err := a.RemoveACLs(t.Context(), Filter{Pattern: Match, Name: "test", Type: Topic})
	if err != nil || len(gone) != 3 || len(a.ACLs(Filter{})) != 2 {
		t.Errorf("removed %v, %v", gone, err)
	}
	if gone, err = a.RemoveACLs(t.Context(), Filter{}); err != nil || len(gone) != 2 || len(a.acls.of)+len(a.acls.prefixes[Topic]) != 0 {
		t.Errorf("removed %v, %v: %+v", gone, err, a.acls)
	}
}

// What cannot be meant is refused before it is in the journal.
func TestInvalid(t *testing.T) {
	a, _ := start(t, Options{})
	good := acl(t, "allow User:a read topic literal x")
	for what, spoil := range map[string]func(*ACL){
		"type": func(a *ACL) { a.Type = 1 }, "pattern": func(a *ACL) { a.Pattern = Match }, "no pattern": func(a *ACL) { a.Pattern = 9 },
		"operation": func(a *ACL) { a.Operation = 1 }, "permission": func(a *ACL) { a.Permission = 1 },
		"name": func(a *ACL) { a.Name = "" }, "principal": func(a *ACL) { a.Principal = "a" }, "nobody": func(a *ACL) { a.Principal = "User:" },
		"host": func(a *ACL) { a.Host = "" }, "cluster": func(a *ACL) { a.Type = ClusterResource }, "line": func(a *ACL) { a.Name = "a\nb" },
		"text": func(a *ACL) { a.Name = "\xff" }, "long": func(a *ACL) { a.Name = strings.Repeat("x", MaxName+1) },
	} {
		bad := good
		if spoil(&bad); !errors.Is(a.AddACLs(t.Context(), good, bad), ErrInvalid) {
			t.Errorf("%s: %+v is taken", what, bad)
		}
	}
	many := make([]ACL, MaxACLs+1)
	for i := range many {
		many[i] = good
		many[i].Name = fmt.Sprint(i)
	}
	if err := a.AddACLs(t.Context(), many...); !errors.Is(err, ErrTooMany) {
		t.Errorf("%d ACLs: %v", len(many), err)
	}
	c, err := NewCredential(SCRAMSHA256, "secret")
	if err != nil {
		t.Fatal(err)
	}
	for what, spoil := range map[string]func(*Credential){
		"few": func(c *Credential) { c.Iterations = MinIterations - 1 }, "many": func(c *Credential) { c.Iterations = MaxIterations + 1 },
		"salt": func(c *Credential) { c.Salt = make([]byte, maxSalt+1) }, "stored": func(c *Credential) { c.StoredKey = nil },
		"server": func(c *Credential) { c.ServerKey = c.ServerKey[:31] }, "mechanism": func(c *Credential) { c.Mechanism = 3 },
		"other": func(c *Credential) { c.Mechanism = SCRAMSHA512 },
	} {
		bad := c
		if spoil(&bad); !errors.Is(a.SetCredentials(t.Context(), "a", bad), ErrInvalid) {
			t.Errorf("%s: %+v is taken", what, bad)
		}
	}
	if err := a.SetCredentials(t.Context(), "", c); !errors.Is(err, ErrInvalid) {
		t.Errorf("user without a name: %v", err)
	}
	if _, err := NewCredential(SCRAMSHA256, ""); !errors.Is(err, ErrInvalid) {
		t.Errorf("no password: %v", err)
	}
	if len(a.Users())+len(a.ACLs(Filter{})) != 0 {
		t.Errorf("%s", a.Snapshot())
	}
}

func TestUsers(t *testing.T) {
	a, _ := start(t, Options{})
	var both []Credential
	for _, m := range Mechanisms() {
		c, err := NewCredential(m, "secret")
		if err != nil {
			t.Fatal(err)
		}
		both = append(both, c)
	}
	if err := a.SetCredentials(t.Context(), "ann", both...); err != nil {
		t.Fatal(err)
	}
	if err := a.SetCredentials(t.Context(), "bob", both[1]); err != nil {
		t.Fatal(err)
	}
	for user, want := range map[string]error{"ann": nil, "bob": nil, "eve": ErrCredentials} {
		if err := a.CheckPassword(user, "secret"); !errors.Is(err, want) {
			t.Errorf("%s: %v", user, err)
		}
		if err := a.CheckPassword(user, "Secret"); !errors.Is(err, ErrCredentials) {
			t.Errorf("%s by another password: %v", user, err)
		}
	}
	if err := a.RemoveCredential(t.Context(), "ann", SCRAMSHA512); err != nil {
		t.Fatal(err)
	}
	if err := a.RemoveCredential(t.Context(), "ann", SCRAMSHA512); !errors.Is(err, ErrUnknownUser) {
		t.Errorf("twice: %v", err)
	}
	if err := a.CheckPassword("ann", "secret"); err != nil {
		t.Errorf("by the other mechanism: %v", err)
	}
	for _, user := range []string{"ann", "bob"} {
		if err := a.RemoveUser(t.Context(), user); err != nil {
			t.Error(err)
		}
	}
	if err := a.RemoveUser(t.Context(), "ann"); !errors.Is(err, ErrUnknownUser) || len(a.Users()) != 0 {
		t.Errorf("%v, %v", err, a.Users())
	}
}

// TestVector is the example of RFC 7677, section 3.
func TestVector(t *testing.T) {
	salt, err := base64.StdEncoding.DecodeString("W22ZaJ0SNY7soEsUEjb6gQ==")
	if err != nil {
		t.Fatal(err)
	}
	salted, err := SCRAMSHA256.salted("pencil", salt, 4096)
	if err != nil {
		t.Fatal(err)
	}
	c, err := CredentialOf(SCRAMSHA256, salted, salt, 4096)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := start(t, Options{})
	if err := a.SetCredentials(t.Context(), "user", c); err != nil {
		t.Fatal(err)
	}
	e := a.NewExchange(SCRAMSHA256)
	if _, err := e.First([]byte("n,,n=user,r=rOprNGfwEbeRWgbNEkqO")); err != nil || e.User() != "user" {
		t.Fatalf("%v: %q", err, e.User())
	}
	e.nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
	e.first = "r=" + e.nonce + ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
	answer, err := e.Final([]byte("c=biws,r=" + e.nonce + ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="))
	if err != nil || string(answer) != "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=" {
		t.Errorf("%s, %v", answer, err)
	}
}

// TestExchangeRefuses: messages that SCRAM does not allow at this point are refused,
// and a nonexistent user looks like an existing one.
func TestExchangeRefuses(t *testing.T) {
	a, _ := start(t, Options{})
	for _, first := range []string{"", "n", "n,,", "n,,n=a", "p=tls-unique,,n=a,r=x", "n,,m=x,n=a,r=x", "n,,n=,r=x", "n,,n=a=b,r=x", "n,,n=a,r=",
		"n,a=b,n=a,r=x", "n,,r=x,n=a", "n,,n=\xff,r=x", "n,,n=a,r=" + strings.Repeat("x", maxNonce+1)} {
		if answer, err := a.NewExchange(SCRAMSHA512).First([]byte(first)); !errors.Is(err, errExchange) {
			t.Errorf("%q: %q, %v", first, answer, err)
		}
	}
	e, again := a.NewExchange(SCRAMSHA512), a.NewExchange(SCRAMSHA512)
	for _, e := range []*Exchange{e, again} {
		if _, err := e.First([]byte("n,,n=a=2Cb=3D,r=x")); err != nil || e.User() != "a,b=" {
			t.Fatalf("%q: %v", e.User(), err)
		}
	}
	salt := func(e *Exchange) string { return strings.Split(e.first, ",")[1] }
	if e.nonce == again.nonce || salt(e) != salt(again) {
		t.Errorf("%q and %q", e.first, again.first)
	}
	proof := base64.StdEncoding.EncodeToString(make([]byte, 64))
	for final, want := range map[string]error{
		"": errExchange, "c=biws,r=x,p=" + proof: errExchange, "c=eSws,r=" + e.nonce + ",p=" + proof: errExchange,
		"c=biws,r=" + e.nonce: errExchange, "c=biws,r=" + e.nonce + ",p=AAAA": errExchange, "c=biws,r=" + e.nonce + ",p=" + proof: ErrCredentials,
	} {
		if answer, err := e.Final([]byte(final)); !errors.Is(err, want) {
			t.Errorf("%q: %q, %v", final, answer, err)
		}
	}
	if _, err := a.NewExchange(SCRAMSHA512).Final([]byte("c=biws,r=,p=" + proof)); !errors.Is(err, errExchange) {
		t.Errorf("final without first: %v", err)
	}
}

// TestChanged: a door hears of each credential that it may have let somebody in by
// and that is worth nothing any more, and of no other change.
func TestChanged(t *testing.T) {
	var told []string
	a := New(Options{Changed: func(user string) { told = append(told, user) }})
	a.Serve(machinetest.New(a))
	credentials := func(password string) []Credential {
		var all []Credential
		for _, m := range Mechanisms() {
			c, err := NewCredential(m, password)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, c)
		}
		return all
	}
	ctx := t.Context()
	for _, step := range []struct {
		what string
		do   func() error
		want []string
	}{
		{"a new user", func() error { return a.SetCredentials(ctx, "ann", credentials("1")...) }, nil},
		{"another mechanism", func() error { return a.SetCredentials(ctx, "bob", credentials("1")[0]) }, nil},
		{"ACLs", func() error { return a.AddACLs(ctx, acl(t, "allow User:ann read topic literal x")) }, nil},
		{"a new password", func() error { return a.SetCredentials(ctx, "ann", credentials("2")...) }, []string{"ann", "ann"}},
		{"one mechanism less", func() error { return a.RemoveCredential(ctx, "ann", SCRAMSHA256) }, []string{"ann"}},
		{"a user less", func() error { return a.RemoveUser(ctx, "bob") }, []string{"bob"}},
	} {
		told = nil
		before := a.Generation()
		if err := step.do(); err != nil || !slices.Equal(told, step.want) || a.Generation()-before != uint64(len(step.want)) {
			t.Errorf("%s: told of %v, want %v; generation %d after %d; %v", step.what, told, step.want, a.Generation(), before, err)
		}
	}
}
