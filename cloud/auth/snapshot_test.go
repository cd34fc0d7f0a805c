package auth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/admin"
	"github.com/weirmq/weir/cloud/machine"
)

func encoded(v any) []byte {
	body, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return body
}

// randomEntry is one that an Auth may write.
func randomEntry(random *rand.Rand) (uint16, []byte) {
	user := fmt.Sprint("u<&>-", random.IntN(5))
	m := Mechanisms()[random.IntN(2)]
	var acls []ACL
	for range 1 + random.IntN(4) {
		r := Resource{Type: ResourceType(2 + random.IntN(2)), Pattern: PatternType(3 + random.IntN(2)), Name: fmt.Sprint("t", random.IntN(3))}
		acls = append(acls, ACL{r, Rule{Principal(user), Any, Operation(2 + random.IntN(3)), Permission(2 + random.IntN(2))}})
	}
	switch random.IntN(10) {
	case 4:
		hash := admin.HashOf(fmt.Sprint(random.IntN(8)))
		return kindAdmin, encoded(Admin{Name: user, Role: admin.Read + admin.Role(random.IntN(3)), Hash: hash[:], Created: time.Unix(int64(random.IntN(1e9)), 0).UTC()})
	case 5:
		return kindAdminGone, encoded(map[string]any{"name": user})
	case 6:
		return kindPermissions, encoded(VhostPermissions{user, fmt.Sprint("/", random.IntN(3)), "", ".*", fmt.Sprint("^", random.IntN(9))})
	case 7:
		return kindPermissionsGone, encoded(userVhost{user, []string{"", "/0", "/1"}[random.IntN(3)]})
	case 8:
		return kindTopicPermissions, encoded(TopicPermissions{user, fmt.Sprint("/", random.IntN(3)), fmt.Sprint("x", random.IntN(3)), "", fmt.Sprint("{username}", random.IntN(9))})
	case 9:
		return kindTopicPermissionsGone, encoded(topicSelector{userVhost{user, []string{"", "/0", "/1"}[random.IntN(3)]}, []string{"", "x0", "x1"}[random.IntN(3)]})
	case 0:
		c, err := CredentialOf(m, make([]byte, m.hash()().Size()), []byte(user+user), MinIterations+random.IntN(9))
		if err != nil {
			panic(err)
		}
		return kindCredential, encoded(userCredential{user, c})
	case 1:
		return kindCredentialGone, encoded(map[string]any{"user": user, "mechanism": m})
	case 2:
		return kindACLsGone, encoded(acls)
	default:
		return kindACLs, encoded(acls)
	}
}

// What was restored is what applied everything, at each place of the log and
// afterwards.
func TestSnapshot(t *testing.T) {
	for seed := range uint64(8) {
		random := rand.New(rand.NewPCG(seed, 3))
		a, fork := New(Options{}), New(Options{})
		for range 150 {
			kind, body := randomEntry(random)
			if err := errors.Join(a.Apply(kind, body), fork.Apply(kind, body)); err != nil {
				t.Fatal(err)
			}
			body = a.Snapshot()
			if !bytes.Equal(body, fork.Snapshot()) {
				t.Fatalf("seed %d: the same entries make another state:\n%s\n%s", seed, body, fork.Snapshot())
			}
			if random.IntN(20) > 0 {
				continue
			}
			if random.IntN(2) == 0 {
				fork = New(Options{}) // else over what it holds already
			}
			if err := fork.Restore(body); err != nil || !bytes.Equal(fork.Snapshot(), body) {
				t.Fatalf("seed %d: restore: %v", seed, err)
			}
		}
		if len(a.Users()) == 0 || a.acls.count == 0 || len(a.vhosts) == 0 || a.acls.count != len(a.ACLs(Filter{})) {
			t.Errorf("seed %d: %s", seed, a.Snapshot())
		}
	}
}

const golden = `{"version":1,"credentials":[` +
	`{"user":"ann","mechanism":"SCRAM-SHA-256","iterations":4096,"salt":"MDEyMzQ1Njc=","stored_key":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","server_key":"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="}],` +
	`"acls":[{"type":"topic","pattern":"prefixed","name":"sensors","principal":"User:ann","host":"*","operation":"read","permission":"allow"},` +
	`{"type":"cluster","pattern":"literal","name":"kafka-cluster","principal":"User:*","host":"192.0.2.1","operation":"alter-configs","permission":"deny"}]}`

// goldenAdmins is what format level 2 adds.
var goldenAdmins = strings.TrimSuffix(golden, "}") + `,"admins":[{"name":"eve","role":"operate","hash":"AAECAwABAgMAAQIDAAECAwABAgMAAQIDAAECAwABAgM=","created":"2026-11-29T17:00:00Z"}],` +
	`"ended_admins":["BAUGBwQFBgcEBQYHBAUGBwQFBgcEBQYHBAUGBwQFBgc=","CAkKCwgJCgsICQoLCAkKCwgJCgsICQoLCAkKCwgJCgs="]}`

// goldenPermissions is what permissions add to that.
var goldenPermissions = strings.TrimSuffix(goldenAdmins, "}") + `,"permissions":[{"user":"ann","vhost":"/","configure":"","write":".*","read":"^a"},` +
	`{"user":"ann","vhost":"b","configure":"^$","write":"","read":""}],` +
	`"topic_permissions":[{"user":"ann","vhost":"/","exchange":"amq.topic","write":"^{username}[.]","read":".*"}]}`

// The bytes at rest do not change by accident.
func TestGoldenSnapshot(t *testing.T) {
	a := New(Options{})
	for _, e := range []struct {
		kind uint16
		body string
	}{
		{140, `{"user":"ann","mechanism":"SCRAM-SHA-256","iterations":4096,"salt":"MDEyMzQ1Njc=","stored_key":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","server_key":"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="}`},
		{140, `{"user":"bob","mechanism":"SCRAM-SHA-256","iterations":4096,"salt":"MDEyMzQ1Njc=","stored_key":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","server_key":"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="}`},
		{141, `{"user":"bob","mechanism":"SCRAM-SHA-256"}`},
		{142, `[{"type":"cluster","pattern":"literal","name":"kafka-cluster","principal":"User:*","host":"192.0.2.1","operation":"alter-configs","permission":"deny"},
			{"type":"topic","pattern":"prefixed","name":"sensors","principal":"User:ann","host":"*","operation":"read","permission":"allow"},
			{"type":"topic","pattern":"literal","name":"sensors","principal":"User:ann","host":"*","operation":"read","permission":"allow"}]`},
		{143, `[{"type":"topic","pattern":"literal","name":"sensors","principal":"User:ann","host":"*","operation":"read","permission":"allow"}]`},
	} {
		if err := a.Apply(e.kind, []byte(e.body)); err != nil {
			t.Fatal(err)
		}
	}
	if got := string(a.Snapshot()); got != golden {
		t.Errorf("\n got %s\nwant %s", got, golden)
	}
	for _, e := range []struct {
		kind uint16
		body string
	}{
		{144, `{"name":"eve","role":"read","hash":"BAUGBwQFBgcEBQYHBAUGBwQFBgcEBQYHBAUGBwQFBgc=","created":"2026-11-29T16:00:00Z"}`},
		{144, `{"name":"eve","role":"operate","hash":"AAECAwABAgMAAQIDAAECAwABAgMAAQIDAAECAwABAgM=","created":"2026-11-29T17:00:00Z"}`},
		{144, `{"name":"gil","role":"administer","hash":"CAkKCwgJCgsICQoLCAkKCwgJCgsICQoLCAkKCwgJCgs=","created":"2026-11-29T17:00:00Z"}`},
		{145, `{"name":"gil"}`},
	} {
		if err := a.Apply(e.kind, []byte(e.body)); err != nil {
			t.Fatal(err)
		}
	}
	if got := string(a.Snapshot()); got != goldenAdmins {
		t.Errorf("\n got %s\nwant %s", got, goldenAdmins)
	}
	for _, e := range []struct {
		kind uint16
		body string
	}{
		{146, `{"user":"ann","vhost":"b","configure":"^$","write":"","read":""}`},
		{146, `{"user":"ann","vhost":"/","configure":".*","write":".*","read":".*"}`},
		{146, `{"user":"ann","vhost":"/","configure":"","write":".*","read":"^a"}`},
		{146, `{"user":"bob","vhost":"/","configure":".*","write":".*","read":".*"}`},
		{146, `{"user":"ann","vhost":"c","configure":".*","write":".*","read":".*"}`},
		{148, `{"user":"ann","vhost":"/","exchange":"amq.topic","write":"^{username}[.]","read":".*"}`},
		{148, `{"user":"ann","vhost":"/","exchange":"x","write":"","read":""}`},
		{148, `{"user":"bob","vhost":"/","exchange":"x","write":"","read":""}`},
		{147, `{"user":"bob"}`},
		{147, `{"user":"ann","vhost":"c"}`},
		{149, `{"user":"ann","vhost":"/","exchange":"x"}`},
		{149, `{"user":"bob"}`},
	} {
		if err := a.Apply(e.kind, []byte(e.body)); err != nil {
			t.Fatal(err)
		}
	}
	if got := string(a.Snapshot()); got != goldenPermissions {
		t.Errorf("\n got %s\nwant %s", got, goldenPermissions)
	}
	for _, body := range []string{goldenAdmins, goldenPermissions} {
		if err := New(Options{}).Restore([]byte(body)); err != nil {
			t.Error(err)
		}
	}
	if err := a.Restore(nil); err != nil || len(a.Admins()) != 0 || len(a.vhosts) != 0 || len(a.Users())+a.acls.count != 0 {
		t.Errorf("%v: %s", err, a.Snapshot())
	}
}

func TestRestoreRefuses(t *testing.T) {
	a := New(Options{})
	if err := a.Restore([]byte(golden)); err != nil {
		t.Fatal(err)
	}
	for n := 1; n < len(golden); n++ {
		if err := a.Restore([]byte(golden)[:n]); !errors.Is(err, machine.ErrShape) {
			t.Errorf("cut at %d: %v", n, err)
		}
	}
	for i := range golden {
		for bit := range 8 {
			damaged := []byte(golden)
			damaged[i] ^= 1 << bit
			strict(t, damaged)
		}
	}
	for name, c := range map[string][2]string{
		"version": {`"version":1`, `"version":2`}, "unknown field": {`"version":1`, `"version":1,"x":0`}, "space": {`,`, `, `},
		"no user": {`"user":"ann"`, `"user":""`}, "few iterations": {`4096`, `4095`}, "order": {`"type":"topic"`, `"type":"transactional-id"`},
		"another spelling": {`"read"`, `"READ"`}, "operation": {`"read"`, `"reed"`}, "no list": {`"acls":[`, `"acls":null,"acls":[`},
	} {
		if err := a.Restore(bytes.Replace([]byte(golden), []byte(c[0]), []byte(c[1]), 1)); !errors.Is(err, machine.ErrShape) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, c := range map[string][2]string{
		"a vhost without a name": {`"vhost":"b"`, `"vhost":""`}, "a user twice": {`"vhost":"b"`, `"vhost":"/"`}, "order of vhosts": {`"vhost":"b"`, `"vhost":"!"`},
		"an exchange without a name": {`"amq.topic"`, `""`}, "a long expression": {`"^a"`, `"` + strings.Repeat("a", MaxExpression+1) + `"`},
		"no permissions": {`"permissions":[`, `"permissions":[],"permissions":[`},
	} {
		if err := a.Restore(bytes.Replace([]byte(goldenPermissions), []byte(c[0]), []byte(c[1]), 1)); !errors.Is(err, machine.ErrShape) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if string(a.Snapshot()) != golden {
		t.Error("a refused snapshot changed the state")
	}
}

// strict fails if a snapshot is restored that is not canonical.
func strict(t *testing.T, body []byte) {
	t.Helper()
	a := New(Options{})
	if err := a.Restore(body); err == nil && len(body) > 0 && !bytes.Equal(a.Snapshot(), body) {
		t.Fatalf("%s is restored and becomes %s", body, a.Snapshot())
	}
}

func FuzzRestore(f *testing.F) {
	f.Add([]byte(golden))
	f.Add([]byte(goldenAdmins))
	f.Add([]byte(goldenPermissions))
	f.Add(New(Options{}).Snapshot())
	f.Fuzz(func(t *testing.T, body []byte) { strict(t, body) })
}

// Whatever Apply takes, Snapshot can encode, and Restore takes it back.
func FuzzApply(f *testing.F) {
	random := rand.New(rand.NewPCG(1, 1))
	for range 8 {
		kind, body := randomEntry(random)
		f.Add(kind, body)
	}
	f.Fuzz(func(t *testing.T, kind uint16, body []byte) {
		a, next := New(Options{}), New(Options{})
		if a.Apply(kind, slices.Clone(body)) != nil {
			return
		}
		snapshot := a.Snapshot()
		if err := next.Restore(snapshot); err != nil || !bytes.Equal(next.Snapshot(), snapshot) {
			t.Fatalf("%s: %v", snapshot, err)
		}
	})
}

// FuzzExchange: no first message of a client makes a server that cannot go on.
func FuzzExchange(f *testing.F) {
	a := New(Options{})
	f.Add([]byte("n,,n=user,r=rOprNGfwEbeRWgbNEkqO"), []byte("c=biws,r=x,p=AA=="))
	f.Fuzz(func(t *testing.T, first, final []byte) {
		e := a.NewExchange(SCRAMSHA256)
		if _, err := e.First(first); err == nil && e.User() == "" {
			t.Error("somebody without a name")
		}
		if _, err := e.Final(final); err == nil {
			t.Error("a proof without a password")
		}
	})
}
